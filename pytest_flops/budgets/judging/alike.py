"""Components that are alike, such as the layers of a model, told as one: `layer_0..11.moe x 12`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_flops.budgets.files.folding import folded
from pytest_flops.counting.components import ITSELF, common_ancestor, family
from pytest_flops.counting.text import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Row = tuple[str, int, int | None]
"""A component's path, what it costs, and how much more than recorded (`None` without a record)."""

_MOST_ROWS = 4
_NAMED = 2


def one_row_if_alike(rows: Iterable[Row]) -> Iterator[Row]:
    """One row, with their sums, for components that differ in their first number alone."""
    alike: dict[str, list[Row]] = {}
    for row in rows:
        alike.setdefault(family(row[0]), []).append(row)
    for members in alike.values():
        name = in_one_name([path for path, *_ in members])
        times = f" x {len(members)}" if len(members) > 1 else ""
        yield f"{name}{times}", sum(row[1] for row in members), _above(members)


def cut_short(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The first rows, and a last one for what has no room."""
    if len(rows) <= _MOST_ROWS + 1:
        return tuple(rows)
    rest = rows[_MOST_ROWS:]
    more = f"and {len(rest):,} more", sum(row[1] for row in rest), _above(rest)
    return *rows[:_MOST_ROWS], more


def _above(rows: Sequence[Row]) -> int | None:
    return None if rows[0][2] is None else sum(row[2] or 0 for row in rows)


def in_one_name(paths: Iterable[str]) -> str:
    """Paths that differ in their first number alone, e.g. `layer_0..11.moe`."""
    first, *others = dict.fromkeys(paths)
    if not others:
        return first
    name, *more = folded(dict.fromkeys([first, *others], 0))
    # A number with a leading zero does not fold.
    return family(first) if more else without_braces(name)


def each_of(paths: Sequence[str]) -> str:
    """The same where something is true of each path: `each of layer_0..11.moe`."""
    return f"each of {in_one_name(paths)}" if len({*paths}) > 1 else paths[0]


def without_braces(name: str) -> str:
    """A folded name for people: `layer_0..11` of `layer_{0..11}`."""
    ranges = re.sub(r"\{([0-9]+\.\.[0-9]+)\}", r"\1", name)
    return ranges.replace("{{", "{").replace("}}", "}")


def named(rows: Sequence[Row]) -> str:
    """What the rows, the largest first, are of: two of them, or the part of layers that has all."""
    names = {path.replace(ITSELF, ""): above or 0 for path, _, above in rows}
    if len(names) > _NAMED and (layer := _layer_of_all([*names])):
        return layer
    worth_a_word = sum(names.values()) / 100
    told = [name for name, above in names.items() if above >= worth_a_word]
    return " and ".join(told) if len(told) <= _NAMED else some(told, _NAMED)


def _layer_of_all(names: Sequence[str]) -> str | None:
    """What contains all, if it has a number: of a model, what contains all says nothing."""
    paths, times = zip(*(name.partition(" x ")[::2] for name in names), strict=True)
    # The dots of a range part no names of a path.
    common = common_ancestor(path.replace("..", "\0") for path in paths)
    if common is None or not any(map(str.isdigit, common)) or len(set(times)) > 1:
        return None
    return common.replace("\0", "..") + (f" x {times[0]}" if times[0] else "")


OfComponent = TypeVar("OfComponent", bound=Any)
"""A frozen dataclass about a component: a change."""


def one_per_family(items: Iterable[OfComponent]) -> list[OfComponent]:
    """Of what is the same of components that differ in their first number alone, one.

    Its component is `each of layer_0..11.moe`.
    """
    families: dict[OfComponent, list[Any]] = {}
    for item in items:
        common = replace(item, component=item.component and family(item.component))
        families.setdefault(common, []).append(item.component)
    return [replace(common, component=each_of(paths)) for common, paths in families.items()]
