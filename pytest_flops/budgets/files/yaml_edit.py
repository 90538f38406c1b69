"""Edits of YAML text that leave every other byte as it is.

The parser says where nodes and tokens stand; entries are inserted, removed and replaced in the text
itself. Whoever edits must parse the result and compare: odd layouts may come out wrong.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import yaml

from pytest_flops.budgets.files.yaml_nodes import scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class OneLine(dict[str, int]):
    """A new mapping to be written on one line, in braces."""


class YamlEditor:
    """A text and the edits to make in it.

    Args:
        text: The document without a byte order mark, as it was composed.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[tuple[int, int, str]] = []
        self._token_starts, self._token_ends = _real_tokens(text)

    def result(self) -> str:
        """The text with every edit made."""
        pieces, position = [], 0
        for start, end, replacement in sorted(self._edits, key=lambda edit: edit[:2]):
            pieces += [self._text[position:start], replacement]
            position = end
        return "".join([*pieces, self._text[position:]])

    def set_integer(self, node: yaml.Node, value: int) -> None:
        """Replace a scalar unless it already says so."""
        if str(node.value).replace("_", "") != str(value):
            self._edits.append((node.start_mark.index, node.end_mark.index, str(value)))

    def insert(
        self,
        mapping: yaml.MappingNode,
        after: str | None,
        entries: Mapping[str, Any],
        step: int = 2,
    ) -> None:
        """Insert entries behind the entry `after`, or before all others.

        Args:
            mapping: Where to insert, in its own style, block or flow.
            after: The key of an entry of its own.
            entries: Integers, or mappings of further entries, by key.
            step: How far nested entries are indented.
        """
        if mapping.flow_style:
            self._insert_in_flow(mapping, after, entries)
        else:
            self._insert_in_block(mapping, after, entries, step)

    def remove(self, mapping: yaml.MappingNode, keys: Sequence[str]) -> None:
        """Remove entries; of a flow mapping not all of them, see `replace_flow`."""
        leading = True
        for index, (key, _) in enumerate(mapping.value):
            leading = leading and key.value in keys
            if key.value in keys:
                self._edits.append((*self._span_to_remove(mapping, index, leading=leading), ""))

    def replace_flow(self, mapping: yaml.MappingNode, entries: Mapping[str, Any]) -> None:
        """Replace everything between the braces of a flow mapping."""
        closing = mapping.end_mark.index - 1
        if mapping.value:
            start, end = mapping.value[0][0].start_mark.index, self._content_end(mapping, -1)
        else:
            start = end = closing
        self._edits.append((start, end, _flow_entries(entries)))

    def _insert_in_flow(
        self, mapping: yaml.MappingNode, after: str | None, entries: Mapping[str, Any]
    ) -> None:
        if after is None:
            place = mapping.value[0][0].start_mark.index
            self._edits.append((place, place, f"{_flow_entries(entries)}, "))
        else:
            place = self._content_end(mapping, _index(mapping, after))
            self._edits.append((place, place, f", {_flow_entries(entries)}"))

    def _insert_in_block(
        self, mapping: yaml.MappingNode, after: str | None, entries: Mapping[str, Any], step: int
    ) -> None:
        first_key = mapping.value[0][0].start_mark
        indent = " " * first_key.column
        lines = [indent + line for line in _block_lines(entries, step)]
        if after is None:
            place = self._line_start(first_key.index)
        else:
            place = self._line_end(self._content_end(mapping, _index(mapping, after)))
        if place and self._text[place - 1] not in "\r\n":
            text = "".join(self._newline + line for line in lines)
        else:
            text = "".join(line + self._newline for line in lines)
        self._edits.append((place, place, text))

    def _span_to_remove(
        self, mapping: yaml.MappingNode, index: int, *, leading: bool
    ) -> tuple[int, int]:
        """The lines of an entry; in a flow mapping with its comma, before it unless `leading`."""
        start, end = mapping.value[index][0].start_mark.index, self._content_end(mapping, index)
        if not mapping.flow_style:
            return self._line_start(start), self._line_end(end)
        if leading:
            return start, mapping.value[index + 1][0].start_mark.index
        return self._content_end(mapping, index - 1), end

    def _content_end(self, mapping: yaml.MappingNode, index: int) -> int:
        """Where the last token of an entry ends, its trailing comment and comma not included."""
        index %= len(mapping.value)
        if index + 1 < len(mapping.value):
            limit = mapping.value[index + 1][0].start_mark.index
        else:
            limit = mapping.end_mark.index - bool(mapping.flow_style)
        return self._token_ends[bisect_left(self._token_starts, limit) - 1]

    def _line_start(self, position: int) -> int:
        return self._text.rfind("\n", 0, position) + 1

    def _line_end(self, position: int) -> int:
        """Behind the line break that ends the line; a block scalar's end is there already."""
        if position and self._text[position - 1] == "\n":
            return position
        return self._text.find("\n", position) + 1 or len(self._text)


def _real_tokens(text: str) -> tuple[list[int], list[int]]:
    """Where tokens that are written in the text start and end, commas left out."""
    spans = [
        (token.start_mark.index, token.end_mark.index)
        for token in scan(text)
        if not isinstance(token, yaml.FlowEntryToken)
        and token.end_mark.index > token.start_mark.index
    ]
    return [start for start, _ in spans], [end for _, end in spans]


def _index(mapping: yaml.MappingNode, key: str) -> int:
    return [key_node.value for key_node, _ in mapping.value].index(key)


def _block_lines(entries: Mapping[str, Any], step: int) -> list[str]:
    lines = []
    for key, value in entries.items():
        if isinstance(value, dict) and not isinstance(value, OneLine):
            lines.append(f"{_key(key)}:")
            lines += [" " * step + line for line in _block_lines(value, step)]
        else:
            lines.append(f"{_key(key)}: {_flow(value)}")
    return lines


def _flow(value: Any) -> str:
    return f"{{{_flow_entries(value)}}}" if isinstance(value, dict) else str(value)


def _flow_entries(entries: Mapping[str, Any]) -> str:
    return ", ".join(f"{_key(key)}: {_flow(value)}" for key, value in entries.items())


def _key(key: str) -> str:
    """Plain where that is safe beyond doubt, else in double quotes."""
    if key.isidentifier() and key.isascii() and key.lower() not in _RESERVED:
        return key
    quoted: str = yaml.dump(key, default_style='"', allow_unicode=True, width=2**31)
    return quoted.strip()


_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
