"""Plain data that remembers where in a file each of its keys and values stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flops.budgets.budget import Location

Keys = tuple[str | int, ...]


class PlacedMapping(dict[str, Any]):
    """A mapping that knows where its keys and values stand, by key."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        self.location = location
        self.keys_at: dict[str, Location] = {}
        self.values_at: dict[str, Location] = {}


class PlacedList(list[Any]):
    """A list that knows where its items stand."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        self.location = location
        self.items_at: list[Location] = []


class Unreadable:
    """Stands for a value that was reported already."""


UNREADABLE = Unreadable()


def plain(value: Any) -> Any:
    """The same data in ordinary dictionaries and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def value_place(mapping: Mapping[str, Any], key: str) -> Location | None:
    """Where the value of `key` stands; `None` for data that comes from no file."""
    return mapping.values_at[key] if isinstance(mapping, PlacedMapping) else None


def key_place(mapping: Mapping[str, Any], key: str) -> Location | None:
    """Where `key` itself stands; `None` for data that comes from no file."""
    return mapping.keys_at[key] if isinstance(mapping, PlacedMapping) else None


def dotted(keys: Sequence[str | int]) -> str:
    """Keys and indices as people write them: `budgets.tiny.scaling.seq_len.sizes[1]`."""
    shown = "".join(f"[{key}]" if isinstance(key, int) else f".{_quoted(key)}" for key in keys)
    return shown.lstrip(".")


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[\w*-]+", key) else repr(key)
