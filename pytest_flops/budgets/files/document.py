"""A YAML document as plain data, and where each of its keys and values stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.errors import BudgetFileError, Problem, dotted

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 60
MAX_REPEATED_NODES = 100_000

UNREADABLE: Any = object()
"""Stands for a value that was reported already."""

_TAG = "tag:yaml.org,2002:"
_FLOAT_WITHOUT_POINT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_MAX_DIGITS = 100
_KINDS = {
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
    "timestamp": "a date",
}


class Document:
    """The one document of a text, with aliases and merge keys resolved.

    It is read from the parser's events in one pass, by PyYAML's parser in Python: the one in C
    reads tabs, `?` and comments otherwise, and files would differ from machine to machine.

    Args:
        text: The document without a byte order mark.
        file: The file's name in messages.

    Attributes:
        data: What the document says; `None` when it is empty. What aliases repeat is shared. A
            value with a problem is `UNREADABLE`.
        problems: What is wrong with the YAML itself: repeated keys, keys that are no text, tags,
            dates, and numbers that YAML 1.1 reads otherwise than people do.

    Raises:
        BudgetFileError: Not YAML, nested too deep, several documents, or aliases that contain
            themselves or expand to more than `MAX_REPEATED_NODES` repeated nodes.
    """

    def __init__(self, text: str, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._root = Location(file, 1, 1)
        # By the identity of the mapping or list, which is one object wherever an alias repeats it.
        # That of one that was dropped may come again: every key of a new one is set anew.
        self._places: dict[tuple[int, str | int], tuple[Location, Location]] = {}
        self._anchors: dict[str, tuple[Any, Location, int]] = {}
        self._keys: list[str | int] = []
        self._size = self._repeated = 0
        try:
            self._parser: Any = yaml.SafeLoader(text)
            self.data = self._document()
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = Location(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
            character = f"U+{ord(text[error.position]):04X}"
            message = f"the control character {character} is not allowed in YAML"
            raise self._refusal(place, message) from None
        except yaml.MarkedYAMLError as error:
            place = self._place(error.problem_mark)
            raise self._refusal(place, _syntax(error, text)) from None

    def at(self, keys: tuple[str | int, ...]) -> Any:
        """The value that keys and indices lead to from the top."""
        value = self.data
        for key in keys:
            value = value[key]
        return value

    def place(self, keys: tuple[str | int, ...], *, at_key: bool) -> Location:
        """Where the value that the keys lead to stands, or the last of the keys."""
        if not keys:
            return self._root
        return self._places[id(self.at(keys[:-1])), keys[-1]][0 if at_key else 1]

    def _document(self) -> Any:
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        data, self._root = self._value(self._next())
        self._next()
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            message = "a second document begins here (---); a budget file holds one"
            raise self._refusal(self._place(after.start_mark), message)
        return data

    def _next(self) -> Any:
        try:
            return self._parser.get_event()
        except (ValueError, OverflowError):
            # Of an escape such as "\\UFFFFFFFF" the parser makes a character without looking.
            place = self._place(self._parser.get_mark())
            message = "not valid YAML: this escape stands for no character"
            raise self._refusal(place, message) from None

    def _place(self, mark: Any) -> Location:
        return Location(self._file, mark.line + 1, mark.column + 1)

    def _refusal(self, place: Location, message: str) -> BudgetFileError:
        return BudgetFileError([Problem(place, message)])

    def _report(self, place: Location, message: str) -> Any:
        path = f"{dotted(self._keys)}: " if self._keys else ""
        self.problems.append(Problem(place, path + message))
        return UNREADABLE

    def _value_at(self, key: str | int, event: Any) -> tuple[Any, Location]:
        self._keys.append(key)
        found = self._value(event)
        self._keys.pop()
        return found

    def _value(self, event: Any) -> tuple[Any, Location]:
        """A value and its place, which of an aliased one is where it is written."""
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        place, before, anchor = self._place(event.start_mark), self._size, event.anchor
        self._size += 1
        if anchor in self._anchors:
            message = f"found duplicate anchor {anchor!r}; anchors need names of their own"
            raise self._refusal(place, message)
        if anchor:
            self._anchors[anchor] = (UNREADABLE, place, 0)
        value = self._read(event, place)
        if anchor:
            self._anchors[anchor] = (value, place, self._size - before)
        return value, place

    def _aliased(self, event: yaml.AliasEvent) -> tuple[Any, Location]:
        if event.anchor not in self._anchors:
            message = f"the alias {event.anchor!r} has no anchor above it"
            raise self._refusal(self._place(event.start_mark), message)
        value, place, size = self._anchors[event.anchor]
        if not size:
            message = "this anchor's alias stands inside itself, so the document has no end"
            raise self._refusal(place, message)
        self._size += size
        self._repeated += size
        if self._repeated > MAX_REPEATED_NODES:
            message = (
                f"aliases expand this document by more than {MAX_REPEATED_NODES:,} nodes; "
                "write the entries out"
            )
            raise self._refusal(self._root, message)
        return value, place

    def _read(self, event: Any, place: Location) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            try:
                return _scalar(event, self._kind(event))
            except _MisreadError as error:
                return self._report(place, str(error))
        if len(self._keys) >= MAX_DEPTH:
            raise self._refusal(place, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            value, tag = self._sequence(), f"{_TAG}seq"
        else:
            value, tag = self._mapping(), f"{_TAG}map"
        if event.tag not in {None, "!", tag}:
            return self._report(place, _unsupported(event.tag))
        return value

    def _kind(self, event: yaml.ScalarEvent) -> str:
        tag = event.tag
        if tag in {None, "!"}:
            tag = self._parser.resolve(yaml.ScalarNode, event.value, event.implicit)
        return str(tag).removeprefix(_TAG)

    def _sequence(self) -> Any:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            value, place = self._value_at(len(items), event)
            self._places[id(items), len(items)] = place, place
            items.append(value)
        return items

    def _mapping(self) -> Any:
        mapping: dict[str, Any] = {}
        bases: list[dict[str, Any]] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and self._kind(event) == "merge":
                bases += self._merged(*self._value_at(event.value, self._next()))
            else:
                self._entry(mapping, event)
        for base in bases:
            for key in base:
                if key not in mapping:
                    mapping[key] = base[key]
                    self._places[id(mapping), key] = self._places[id(base), key]
        return mapping

    def _merged(self, value: Any, place: Location) -> list[dict[str, Any]]:
        bases = value if isinstance(value, list) else [value]
        if all(isinstance(base, dict) for base in bases):
            return bases
        message = "<< merges a mapping or a list of mappings, usually an alias like *base"
        self._report(place, message)
        return []

    def _entry(self, mapping: dict[str, Any], event: Any) -> None:
        at = self._place(event.start_mark)
        key = self._key(event, at)
        value, place = self._value_at("?" if key is None else key, self._next())
        if key in mapping:
            line = self._places[id(mapping), key][0].line
            self._report(at, f"the key {key!r} is there twice, first on line {line}")
        elif key is not None:
            mapping[key] = value
            self._places[id(mapping), key] = at, place

    def _key(self, event: Any, at: Location) -> str | None:
        if not isinstance(event, yaml.ScalarEvent):
            self._value_at("?", event)
            self._report(at, "a key must be text, not an alias, a list or a mapping")
            return None
        if (kind := self._kind(event)) not in {"str", "value"}:
            what = _KINDS.get(kind, f"tagged {kind}")
            self._report(at, f'the key {event.value} is {what} in YAML; quote it: "{event.value}"')
        return str(event.value)


class _MisreadError(Exception):
    """A scalar that YAML reads otherwise than its author meant; the message says how."""


def _unsupported(tag: str) -> str:
    return f"the tag {tag.replace(_TAG, '!!')} is not supported"


def _scalar(event: yaml.ScalarEvent, kind: str) -> Any:
    text = event.value
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in yaml.SafeLoader.bool_values:
            raise _MisreadError(f"{text} is no boolean")
        return yaml.SafeLoader.bool_values[text.lower()]
    if kind == "int":
        return _number(text, _integer, "integer")
    if kind == "float" or (not event.style and _FLOAT_WITHOUT_POINT.fullmatch(text)):
        return _number(text, _float, "number")
    if kind == "timestamp":
        raise _MisreadError(f'YAML reads {text} as a date; quote it if it is text: "{text}"')
    if kind not in {"str", "value"}:
        raise _MisreadError(_unsupported(event.tag or kind))
    return text


def _number(text: str, read: Callable[[str], float], noun: str) -> float:
    if len(text) > _MAX_DIGITS:
        raise _MisreadError(f"a number of {len(text):,} digits is absurdly long")
    if ":" in text:
        raise _MisreadError(f"YAML 1.1 reads {text} as a number in base 60; quote it if it is text")
    try:
        return read(text.replace("_", ""))
    except ValueError:
        raise _MisreadError(f"{text} is no {noun}") from None


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise _MisreadError(
            f"YAML 1.1 reads {text} as the octal number {int(text, 8)}; "
            "write it without the leading zero"
        ) from None


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    mark: Any = error.problem_mark
    if text[mark.index : mark.index + 1] == "\t":
        return "not valid YAML: a tab stands here; YAML accepts only spaces"
    context = f"{error.context}, " if error.context else ""
    return f"not valid YAML: {context}{error.problem}"
