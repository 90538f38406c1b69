"""Markdown for GitHub: users' text made harmless, and a page within a number of bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flops.counting.text import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 60_000
"""GitHub takes 65,536 characters in a comment; this leaves room for the caller's own words."""

_RESERVE = 800
_NAME = 100


def code(text: str) -> str:
    """User's text as inline code, which no reader takes for markup, mentions or links."""
    shown = shorten(printable(text), _NAME).replace("|", "\\|") or " "
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def plain(text: str) -> str:
    """User's text as plain text: markup escaped, mentions and references broken up."""
    shown = shorten(printable(text), 4 * _NAME)
    escaped = re.sub(r"([\\`*_{}\[\]|~!])", r"\\\1", shown)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([@#])(?=\w)", "\\1\u200b", escaped)


class Page:
    """Lines within a number of bytes of UTF-8."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._lines: list[str] = []
        self._left = max_bytes - _RESERVE

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self._lines).rstrip() + "\n"

    def add(self, lines: Sequence[str]) -> bool:
        """Add all of the lines, or none where there is no room."""
        size = sum(len(line.encode("utf-8", "backslashreplace")) + 1 for line in lines)
        if size > self._left:
            return False
        self._left -= size
        self._lines += lines
        return True

    def always(self, lines: Sequence[str]) -> None:
        """Add short lines that were reserved for."""
        self._lines += lines

    def add_items(self, items: Sequence[Sequence[str]], more: str, share: float = 0.5) -> None:
        """Add as many items as fit into a share of what is left, and say how many did not."""
        end = self._left * (1 - share)
        for place, lines in enumerate(items):
            if self._left < end or not self.add(lines):
                self.always([f"- … and {len(items) - place:,} {more}"])
                break
        if items:
            self.add([""])
