"""Which components make up most of a cost, or of its growth: the rows that explain a red verdict.

Components are a tree by dotted path. A row is the deepest component that explains its share; what
a component costs beyond its children is a row of its own, `layer_0 (itself)`. Components that are
alike are one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.alike import merge_rows
from pytest_flops.counting.components import by_parent, contains, depth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_flops.counting.count import FLOPsCount, Quantity

Row = tuple[str, int, int | None]

MOST_ROWS = 5
_OUTSIDE = "(outside every component)"


def parts_of_cost(
    components: Mapping[str, FLOPsCount], quantity: Quantity, whole: int, under: str | None
) -> tuple[Row, ...]:
    """The dearest components of the whole or under one component, without a base to compare."""
    costs = {path: count.of(quantity) for path, count in components.items()}
    shares = dict(_shares(costs, whole, under))
    rows: list[Row] = [(path, cost, None) for path, cost in shares.items() if cost > 0]
    return tuple(sorted(merge_rows(rows), key=lambda row: (-row[1], row[0])))[:MOST_ROWS]


def parts_of_growth(
    components: Mapping[str, FLOPsCount],
    base: Mapping[str, FLOPsCount],
    quantity: Quantity,
    whole: tuple[int, int],
    under: str | None,
) -> tuple[Row, ...]:
    """The components that grew most above the base, of the whole or under one component.

    Args:
        components: The cost by component path now.
        base: The recorded cost by component path.
        quantity: What is compared.
        whole: The judged cost now and in the base.
        under: The judged component, or `None` for the whole workload.
    """
    deepest = max(map(depth, base), default=0)
    comparable = {path for path in components if depth(path) <= deepest} | set(base)
    now = {path: components[path].of(quantity) if path in components else 0 for path in comparable}
    then = {path: base[path].of(quantity) if path in base else 0 for path in comparable}
    costs = dict(_shares(now, whole[0], under))
    before = dict(_shares(then, whole[1], under))
    rows = [(path, cost, cost - before[path]) for path, cost in costs.items()]
    grown: list[Row] = [row for row in rows if row[2] > 0]
    return tuple(sorted(merge_rows(grown), key=lambda row: (-(row[2] or 0), row[0])))[:MOST_ROWS]


def _shares(costs: Mapping[str, int], whole: int, under: str | None) -> Iterator[tuple[str, int]]:
    """Every leaf below `under` with its cost, and every parent with what its children leave."""
    below = [path for path in costs if path != under and contains(under, path)]
    children = by_parent(sorted(below))
    if under is None:
        roots = children.get(None, [])
        yield _OUTSIDE, whole - sum(costs[root] for root in roots)
    elif below:
        yield f"{under} (itself)", whole - sum(costs[path] for path in children[None])
    for path in below:
        if path in children:
            rest = costs[path] - sum(costs[child] for child in children[path])
            yield f"{path} (itself)", rest
        else:
            yield path, costs[path]
