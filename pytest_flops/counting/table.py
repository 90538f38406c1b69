"""What components cost as text: a tree with a line for each, its figures in columns."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from pytest_flops.counting.components import (
    ITSELF,
    by_parent,
    depth,
    family,
    last_name,
    relative_to,
)
from pytest_flops.counting.text import in_columns

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence


def tree(
    head: Sequence[str],
    whole: Sequence[int],
    costs: Mapping[str, Sequence[int]],
    *,
    levels: int | None = None,
    over: float = 0,
    adds_up: bool = True,
) -> list[str]:
    """A line for each component that costs something, indented as the model is nested.

    What a component costs beyond those inside it has a line after theirs, so that lines add up.
    Siblings with components of their own that follow one another, cost the same in every detail and
    differ by a number in their names have one line, with the figures of each.

    Args:
        head: What stands above the names, and above each figure; shares are those of the last.
        whole: The figures of the whole.
        costs: The figures of each component, by path.
        levels: How deep to go, if not to the end.
        over: Leave out what is less than so many percent of the whole.
        adds_up: Whether the components make up the whole, so that each has a share of it.
    """
    children = by_parent(costs)

    def inside(path: str) -> Hashable:
        own = tuple((last_name(each), inside(each)) for each in children.get(path, ()))
        return tuple(costs[path]), own

    def alike(path: str) -> Hashable:
        return (family(last_name(path)), inside(path)) if children.get(path) else path

    def figures(values: Sequence[int]) -> list[str]:
        share = f"{100 * values[-1] / whole[-1]:.1f} %" if whole[-1] else "-"
        return [*(f"{value:,}" for value in values), *([share] if costs and adds_up else [])]

    def rows(parent: str | None, indent: str) -> Iterator[list[str]]:
        shown = False
        for _, siblings in groupby(children.get(parent, ()), key=alike):
            path, *others = siblings
            values = costs[path]
            if not any(values) or (levels is not None and depth(path) > levels):
                continue
            if 100 * values[-1] < over * whole[-1]:
                continue
            name = _name(path, parent)
            if others:
                name += f" .. {_name(others[-1], parent)} (each of {len(others) + 1})"
            yield [indent + name, *figures(values)]
            yield from rows(path, indent + "  ")
            shown = True
        inner = [costs[each] for each in children.get(parent, ())]
        above = whole if parent is None else costs[parent]
        own = [max(value - sum(parts), 0) for value, *parts in zip(above, *inner, strict=True)]
        if shown and adds_up and any(own) and 100 * own[-1] >= over * whole[-1]:
            yield [f"{indent}{ITSELF.strip()}", *figures(own)]

    shares = ["share"] if costs and adds_up else []
    return in_columns([[*head, *shares], ["total", *figures(whole)], *rows(None, "  ")])


def _name(path: str, parent: str | None) -> str:
    """A component's name below its parent; that of a list's layer tells the list, too."""
    name = relative_to(path, parent)
    return f"{last_name(parent)}.{name}" if parent and name[:1].isdigit() else name
