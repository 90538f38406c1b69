"""Containers read and written by the methods of their built-in class, whatever their own do.

So a mapping that refuses changes can be changed, and put back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from operator import is_not
from types import CellType
from typing import Any, TypeAlias

Content: TypeAlias = dict[Any, Any] | list[Any]

CONTAINERS = (OrderedDict, dict, list, deque, set, CellType, type)
"""The attributes of an object are a `dict`."""

_ABSENT = object()


def content(container: Any) -> Content:
    """What a container holds: a new `dict` or list."""
    base = _base(container)
    if base is type:
        return dict(vars(container))
    if base is CellType:
        try:
            return [container.cell_contents]
        except ValueError:  # it is empty
            return []
    return dict(base.items(container)) if issubclass(base, dict) else [*base.__iter__(container)]


def write(container: Any, wanted: Content) -> None:
    """Let a container hold this; what it holds already is not touched."""
    now = content(container)
    if isinstance(now, dict) and isinstance(wanted, dict):
        _write_items(container, now, wanted)
    elif differ(now, wanted):
        _refill(container, wanted)


def differ(now: Iterable[object], before: Iterable[object]) -> bool:
    """Whether two do not hold the same objects in the same order."""
    now, before = [*now], [*before]
    return len(now) != len(before) or any(map(is_not, now, before))


def _write_items(container: Any, now: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    base = _base(container)
    delete, put = (
        (type.__delattr__, type.__setattr__)
        if base is type
        else (base.__delitem__, base.__setitem__)
    )
    for key in now:
        if key not in wanted:
            delete(container, key)
    for key, value in wanted.items():
        if now.get(key, _ABSENT) is not value:
            put(container, key, value)
    if base is not type and differ(content(container), wanted):  # in another order
        base.clear(container)
        for key, value in wanted.items():
            put(container, key, value)


def _refill(container: Any, wanted: Content) -> None:
    base = _base(container)
    if base is CellType:
        if wanted:
            container.cell_contents = wanted[0]
        else:
            del container.cell_contents
        return
    base.clear(container)
    fill = base.update if base is set else base.extend
    fill(container, wanted)


def _base(container: object) -> Any:
    """The built-in class whose methods read and write it, whatever its own do."""
    return next(base for base in CONTAINERS if issubclass(type(container), base))
