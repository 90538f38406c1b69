"""What a red verdict is about, told once: the components that make up a cost or its growth.

A row is the deepest component that explains its share; what a component costs beyond its children
is a row of its own, `layer_0 (itself)`. Components that are alike, such as the layers of a model,
are one row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_flops.counting.components import by_parent, contains, depth, family
from pytest_flops.counting.metric import metric_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Costs, Quantity

Row = tuple[str, int, int | None]
"""A component's path, what it costs, and how much more than recorded (`None` without a record)."""

_MOST_ROWS = 5
OUTSIDE = "(outside every component)"


def largest_rows(
    measurement: Measurement, recorded: Recorded | None, quantity: Quantity, component: str | None
) -> tuple[Row, ...]:
    """What grew most since the record, if that is known and something did; else what costs most.

    Args:
        measurement: What was counted now.
        recorded: The counts of the record, if there is one.
        quantity: What is compared.
        component: The judged component, or `None` for the whole workload.
    """
    metric = metric_of(quantity)
    if metric.join == "max":  # peaks do not add up; what was alive at the peak does
        then = recorded.metrics.get(metric.name) if recorded else None
        return _alive(measurement.metrics[metric.name], then)
    if recorded is not None and recorded.components:
        rows = _rows_of_growth(measurement, recorded, quantity, component)
        grown = [row for row in rows if row[2] is not None and row[2] > 0]
        if grown:
            return _largest(grown)
    costs = {path: measurement.of(quantity, path) for path in measurement.components}
    shares = _shares(costs, measurement.of(quantity, component), component)
    return _largest([(path, cost, None) for path, cost in shares if cost > 0])


def _alive(now: Costs, then: Costs | None) -> tuple[Row, ...]:
    """What was alive at the peak, by the module that made it: what is more, or else the most."""
    modules, whole = now.details.get("modules", {}), sum(now.details.get("kinds", {}).values())
    if then is not None and {"kinds", "modules"} <= then.details.keys():
        before, whole_before = then.details["modules"], sum(then.details["kinds"].values())
        paths = {*modules, *before}
        grown = _growth(
            {path: modules.get(path, 0) for path in paths},
            whole,
            {path: before.get(path, 0) for path in paths},
            whole_before,
        )
        return _largest(row for row in grown if (row[2] or 0) > 0)
    return _largest((path, size, None) for path, size in _shares(modules, whole, None) if size > 0)


def _rows_of_growth(
    measurement: Measurement, recorded: Recorded, quantity: Quantity, component: str | None
) -> Iterator[Row]:
    """Rows no deeper than the record: below it, nobody knows what was there before."""
    deepest = max(map(depth, recorded.components), default=0)
    known = {path for path in measurement.components if depth(path) <= deepest}
    paths = known | set(recorded.components)
    now = {path: measurement.of(quantity, path) for path in paths}
    then = {path: recorded.of(quantity, path) for path in paths}
    whole, whole_before = measurement.of(quantity, component), recorded.of(quantity, component)
    yield from _growth(now, whole, then, whole_before, component)


def _growth(
    now: Mapping[str, int],
    whole: int,
    then: Mapping[str, int],
    whole_before: int,
    under: str | None = None,
) -> Iterator[Row]:
    """The shares of the same paths now, and what they are above those of the record."""
    before = dict(_shares(then, whole_before, under))
    for path, cost in _shares(now, whole, under):
        yield path, cost, cost - before[path]


def _largest(rows: Iterable[Row]) -> tuple[Row, ...]:
    def place(row: Row) -> tuple[int, str]:
        path, cost, above = row
        return -(cost if above is None else above), path

    return tuple(sorted(_one_row_per_family(rows), key=place))[:_MOST_ROWS]


def _shares(costs: Mapping[str, int], whole: int, under: str | None) -> Iterator[tuple[str, int]]:
    """Every leaf below `under` with its cost, and every parent with what its children leave."""
    below = sorted(path for path in costs if path != under and contains(under, path))
    children = by_parent(below)
    rest_of_whole = whole - sum(costs[path] for path in children.get(None, ()))
    if under is None:
        yield OUTSIDE, rest_of_whole
    elif below:
        yield f"{under} (itself)", rest_of_whole
    for path in below:
        if path in children:
            yield f"{path} (itself)", costs[path] - sum(costs[child] for child in children[path])
        else:
            yield path, costs[path]


def _one_row_per_family(rows: Iterable[Row]) -> Iterator[Row]:
    """Of components that differ in their first number alone, and cost and grew the same, one row.

    It has their sum and the name `layer_*.moe (12 together)`.
    """
    families: dict[Row, list[str]] = {}
    for path, cost, above in rows:
        families.setdefault((family(path), cost, above), []).append(path)
    for (name, cost, above), paths in families.items():
        number = len(paths)
        shown = paths[0] if number == 1 else f"{name} ({number} together)"
        yield shown, number * cost, above and number * above


OfComponent = TypeVar("OfComponent", bound=Any)
"""A frozen dataclass about a component: a verdict, a change."""


def one_per_family(items: Iterable[OfComponent], **ignored: Any) -> list[OfComponent]:
    """Of what is the same of components that differ in their first number alone, one.

    Its component is `layer_*.moe (each of 12)`.

    Args:
        items: What is told of components.
        **ignored: Fields in which they may differ, each with a value to compare in its place.
    """
    families: dict[OfComponent, list[OfComponent]] = {}
    for item in items:
        common = replace(item, component=family(item.component or ""), **ignored)
        families.setdefault(common, []).append(item)
    told = []
    for common, alike in families.items():
        one = alike[0]
        if len(alike) > 1 and one.component is not None:
            one = replace(one, component=f"{common.component} (each of {len(alike)})")
        told.append(one)
    return told
