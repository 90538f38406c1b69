"""A YAML document as plain data that remembers where each key and value stands."""

from __future__ import annotations

import re
from typing import Any

import yaml

from pytest_flops.budgets.errors import Problem
from pytest_flops.budgets.files.placed import (
    UNREADABLE,
    PlacedList,
    PlacedMapping,
    Unreadable,
    dotted,
)
from pytest_flops.budgets.files.yaml_nodes import compose, location

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_HEX_OR_BINARY = re.compile(r"[-+]?0(?:x[0-9a-fA-F_]+|b[01_]+)")
_FLOAT_WITHOUT_POINT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_MAX_DIGITS = 100


def read_document(text: str, file: str) -> tuple[Any, list[Problem]]:
    """The document of `text`, with aliases and merge keys resolved, and what is wrong with it.

    Problems are those that lie in the YAML itself: repeated keys, keys that are no text, custom
    tags, dates, and numbers that YAML 1.1 reads otherwise than people do. A value with a problem
    is `UNREADABLE`, an entry whose key is repeated or no scalar is left out.

    Raises:
        BudgetFileError: No tree can be made of it at all, see `yaml_nodes.compose`.
    """
    node = compose(text, file)
    reader = _Reader(file)
    return (None if node is None else reader.read(node)), reader.problems


class _MisreadError(Exception):
    """A scalar that YAML reads otherwise than its author meant; the message says how."""


class _Reader:
    """Turns nodes into placed data; an aliased node is read once and shared."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._read: dict[int, Any] = {}
        self._keys: list[str | int] = []

    def read(self, node: yaml.Node) -> Any:
        if id(node) not in self._read:
            self._read[id(node)] = self._read_new(node)
        return self._read[id(node)]

    def _read_new(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return self._sequence(node)
        try:
            return _scalar(node)
        except _MisreadError as error:
            return self._report(node, str(error))

    def _report(self, node: yaml.Node, message: str) -> Unreadable:
        path = f"{dotted(self._keys)}: " if self._keys else ""
        self.problems.append(Problem(location(node.start_mark, self.file), path + message))
        return UNREADABLE

    def _read_at(self, key: str | int, node: yaml.Node) -> Any:
        self._keys.append(key)
        value = self.read(node)
        self._keys.pop()
        return value

    def _sequence(self, node: yaml.SequenceNode) -> PlacedList:
        items = PlacedList(location(node.start_mark, self.file))
        for index, item in enumerate(node.value):
            items.append(self._read_at(index, item))
            items.items_at.append(location(item.start_mark, self.file))
        return items

    def _mapping(self, node: yaml.MappingNode) -> PlacedMapping:
        mapping = PlacedMapping(location(node.start_mark, self.file))
        bases: list[PlacedMapping] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                bases += self._merged(value_node)
                continue
            key = self._new_key(key_node, mapping)
            value = self._read_at(str(key_node.value) if key is None else key, value_node)
            if key is not None:
                mapping[key] = value
                mapping.keys_at[key] = location(key_node.start_mark, self.file)
                mapping.values_at[key] = location(value_node.start_mark, self.file)
        for base in bases:
            _inherit(mapping, base)
        return mapping

    def _merged(self, node: yaml.Node) -> list[PlacedMapping]:
        value = self.read(node)
        bases = value if isinstance(value, PlacedList) else [value]
        if all(isinstance(base, PlacedMapping) for base in bases):
            return list(bases)
        self._report(node, "<< merges a mapping or a list of mappings, usually an alias like *base")
        return []

    def _new_key(self, node: yaml.Node, mapping: PlacedMapping) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._report(node, "a key must be text, not a list or mapping")
        elif (kind := node.tag.removeprefix(_TAG)) not in {"str", "value"}:
            what = _KINDS.get(kind, f"tagged {kind}")
            self._report(node, f'the key {node.value} is {what} in YAML; quote it: "{node.value}"')
            return str(node.value)
        elif node.value in mapping:
            line = mapping.keys_at[node.value].line
            self._report(node, f"the key {node.value!r} is there twice, first on line {line}")
        else:
            return str(node.value)
        return None


def _inherit(mapping: PlacedMapping, base: PlacedMapping) -> None:
    for key, value in base.items():
        if key not in mapping:
            mapping[key] = value
            mapping.keys_at[key] = base.keys_at[key]
            mapping.values_at[key] = base.values_at[key]


_KINDS = {
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
    "timestamp": "a date",
}


def _scalar(node: yaml.Node) -> Any:
    kind = node.tag.removeprefix(_TAG)
    text = node.value
    if not isinstance(node, yaml.ScalarNode) or kind not in {*_KINDS, "str", "value"}:
        raise _MisreadError(f"the tag {node.tag.replace(_TAG, '!!')} is not supported")
    if kind == "null":
        return None
    if kind == "bool":
        return _boolean(text)
    if kind == "int":
        return _integer(text)
    if kind == "float" or (not node.style and _FLOAT_WITHOUT_POINT.fullmatch(text)):
        return _float(text)
    if kind == "timestamp":
        raise _MisreadError(f'YAML reads {text} as a date; quote it if it is text: "{text}"')
    return text


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "yes", "on", "false", "no", "off"}:
        raise _MisreadError(f"{text} is no boolean")
    return text.lower() in {"true", "yes", "on"}


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _MisreadError(f"a number of {len(text):,} digits is absurdly long")
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _HEX_OR_BINARY.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if ":" in text:
        raise _MisreadError(f"YAML 1.1 reads {text} as a number in base 60; quote it if it is text")
    try:
        meaning = int(text.replace("_", ""), 8)
    except ValueError:
        raise _MisreadError(f"{text} is no integer") from None
    raise _MisreadError(
        f"YAML 1.1 reads {text} as the octal number {meaning}; write it without the leading zero"
    )


def _float(text: str) -> float:
    if len(text) > _MAX_DIGITS:
        raise _MisreadError(f"a number of {len(text):,} characters is absurdly long")
    if ":" in text:
        raise _MisreadError(f"YAML 1.1 reads {text} as a number in base 60; quote it if it is text")
    try:
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise _MisreadError(f"{text} is no number") from None
