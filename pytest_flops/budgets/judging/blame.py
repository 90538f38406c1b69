"""What a red verdict is about, told once: the components that make up a cost or its growth.

A row is the deepest component that explains its share; what a component costs beyond its children
is a row of its own, `layer_0 (itself)`. Components that are alike, such as the layers of a model,
are one row, `layer_0..11 x 12`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pytest_flops.budgets.files.folding import folded
from pytest_flops.counting.components import (
    ITSELF,
    OUTSIDE_PATH,
    by_parent,
    common_ancestor,
    contains,
    depth,
    family,
    innermost,
)
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import FLOPS, metric_of, phases_of, quantity_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.counting.count import FLOPsCount
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Costs, Counted, Quantity

Row = tuple[str, int, int | None]
"""A component's path, what it costs, and how much more than recorded (`None` without a record)."""

_MOST_ROWS = 4
_NAMED = 2


class Blame(NamedTuple):
    """What made a verdict red: phases that ran more often, or the parts that grew or cost most."""

    rows: Sequence[Row]
    phases: Sequence[str]
    """Those of the verdict's quantity that the rows are of."""
    again: Mapping[str, int]
    """How often a phase ran that ran once in the record."""

    @property
    def grown(self) -> int:
        """How much more than recorded the rows are; 0 without a record, or where nothing grew."""
        return sum(above or 0 for *_, above in self.rows)


def blame(verdict: Verdict, measurement: Measurement, recorded: Recorded | None) -> Blame:
    """What grew most since the record, if that is known and something did; else what costs most."""
    quantity, component = str(verdict.quantity), verdict.component
    metric, phases = metric_of(quantity), phases_of(quantity)
    again: dict[str, int] = {}
    if metric is FLOPS and component is None and recorded is not None:
        again = {p: n for p, n in _repeated(measurement, recorded).items() if p in phases}
        phases = [phase for phase in phases if phase not in again]
        if again and all(measurement.of(phase) <= recorded.of(phase) for phase in phases):
            return Blame((), (), again)
    if metric.join == "max":  # peaks do not add up; what was alive at the peak does
        then = recorded.metrics.get(metric.name) if recorded else None
        return Blame(_alive(measurement.metrics[metric.name], then, phases), phases, again)
    quantities = [quantity_of(metric, phase) for phase in phases]
    return Blame(_rows(measurement, recorded, quantities, component), phases, again)


def _rows(
    measurement: Measurement,
    recorded: Recorded | None,
    quantities: Sequence[Quantity],
    component: str | None,
) -> list[Row]:
    def cost(of: Counted, path: str | None) -> int:
        return sum(of.of(each, path) for each in quantities)

    if recorded is not None and recorded.components:
        # No deeper than the record: below it, nobody knows what was there before.
        deepest = max(map(depth, recorded.components), default=0)
        known = {path for path in measurement.components if depth(path) <= deepest}
        paths = known | set(recorded.components)
        now = {path: cost(measurement, path) for path in paths}
        then = {path: cost(recorded, path) for path in paths}
        wholes = cost(measurement, component), cost(recorded, component)
        if grown := _growth(now, wholes[0], then, wholes[1], component):
            return grown
    costs = {path: cost(measurement, path) for path in measurement.components}
    return _dearest(costs, cost(measurement, component), component)


def _alive(now: Costs, then: Costs | None, phases: Collection[str]) -> list[Row]:
    """What was alive at the peak, by the module that made it: what is more, or else the most.

    It is known of the highest peak alone, and so nothing of the peaks of other phases.
    """
    at = now.details.get("at")
    if at is not None and at["phase"] not in phases:
        return []
    modules, whole = now.details.get("modules", {}), sum(now.details.get("kinds", {}).values())
    if then is not None and {"kinds", "modules"} <= then.details.keys():
        before, whole_before = then.details["modules"], sum(then.details["kinds"].values())
        of_both = (dict.fromkeys({*modules, *before}, 0) | of for of in (modules, before))
        return _growth(next(of_both), whole, next(of_both), whole_before)
    return _dearest(modules, whole, None)


def _growth(
    now: Mapping[str, int],
    whole: int,
    then: Mapping[str, int],
    whole_before: int,
    under: str | None = None,
) -> list[Row]:
    """The shares of the same paths now that are above those of the record, the largest first."""
    before = dict(own_costs(then, whole_before, under))
    shares = own_costs(now, whole, under)
    rows = [(p, cost, cost - before[p]) for p, cost in shares if cost > before[p]]
    return sorted(one_row_if_alike(rows), key=lambda row: (-(row[2] or 0), row[0]))


def _dearest(costs: Mapping[str, int], whole: int, under: str | None) -> list[Row]:
    rows = [(path, cost, None) for path, cost in own_costs(costs, whole, under) if cost > 0]
    return sorted(one_row_if_alike(rows), key=lambda row: (-row[1], row[0]))


def own_costs(costs: Mapping[str, int], whole: int, under: str | None) -> Iterator[tuple[str, int]]:
    """Every leaf below `under` with its cost, and every parent with what its children leave."""
    below = sorted(path for path in costs if path != under and contains(under, path))
    children = by_parent(below)
    rest_of_whole = whole - sum(costs[path] for path in children.get(None, ()))
    if under is None:
        yield OUTSIDE_PATH, rest_of_whole + costs.get(OUTSIDE_PATH, 0)
    elif below:
        yield under + ITSELF, rest_of_whole
    for path in below:
        if path in children:
            yield path + ITSELF, costs[path] - sum(costs[child] for child in children[path])
        elif path != OUTSIDE_PATH:
            yield path, costs[path]


def one_row_if_alike(rows: Iterable[Row]) -> Iterator[Row]:
    """One row, with their sums, for components that differ in their first number alone."""
    alike: dict[str, list[Row]] = {}
    for row in rows:
        alike.setdefault(family(row[0]), []).append(row)
    for members in alike.values():
        above = None if members[0][2] is None else sum(row[2] or 0 for row in members)
        yield together([path for path, *_ in members]), sum(row[1] for row in members), above


def cut_short(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The first rows, and a last one for what has no room."""
    if len(rows) <= _MOST_ROWS + 1:
        return tuple(rows)
    rest = rows[_MOST_ROWS:]
    above = None if rest[0][2] is None else sum(row[2] or 0 for row in rest)
    return *rows[:_MOST_ROWS], (f"and {len(rest):,} more", sum(row[1] for row in rest), above)


def together(paths: Sequence[str]) -> str:
    """Paths that differ in their first number alone as one, e.g. `layer_0..11.moe x 12`."""
    if len(paths) == 1:
        return paths[0]
    return f"{in_one_name(paths)} x {len(paths)}"


def in_one_name(paths: Sequence[str]) -> str:
    """Paths that differ in their first number alone, e.g. `layer_0..11.moe`."""
    name, *more = folded(dict.fromkeys(paths, 0))
    if more:  # a number with a leading zero does not fold
        return family(paths[0])
    return without_braces(name)


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
    if len(told) <= _NAMED:
        return " and ".join(told)
    return f"{', '.join(told[:_NAMED])} and {len(told) - _NAMED:,} more"


def _layer_of_all(names: Sequence[str]) -> str | None:
    """What contains all, if it has a number: of a model, what contains all says nothing."""
    paths, times = zip(*(name.partition(" x ")[::2] for name in names), strict=True)
    # The dots of a range part no names of a path.
    common = common_ancestor(path.replace("..", "\0") for path in paths)
    if common is None or not any(map(str.isdigit, common)) or len(set(times)) > 1:
        return None
    return common.replace("\0", "..") + (f" x {times[0]}" if times[0] else "")


def _repeated(measurement: Measurement, recorded: Recorded) -> dict[str, int]:
    """The phases that ran several times for once in the record, and how often.

    Every component costs so many times as much then, of an optimizer every operator, and no
    operator is new. Where each phase costs as many times more, wider layers may be the reason.
    """
    found: dict[str, int] = {}
    for phase in PHASES:
        whole, before = measurement.of(phase), recorded.of(phase)
        calls, calls_before = (_of(of.operations, phase) for of in (measurement, recorded))
        now, then = (_of(of.components, phase) for of in (measurement, recorded))
        slack = whole / 100  # of a second backward, gradients are added to those of the first
        if phase == "optimizer":
            now, then, slack = calls, calls_before, 0
        parts = [name for name in innermost(then) if name != OUTSIDE_PATH]
        times = round(whole / before) if before and parts else 1
        if (
            times > 1
            and all(times * then[name] <= now.get(name, 0) for name in parts)
            and whole <= times * before + slack
            and sum(calls[name] for name in calls.keys() - calls_before) <= slack
        ):
            found[phase] = times
    return {} if all(phase in found for phase in PHASES if recorded.of(phase)) else found


def _of(costs: Mapping[str, FLOPsCount], phase: str) -> dict[str, int]:
    return {name: cost.of(phase) for name, cost in costs.items() if cost.of(phase)}


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
    return [
        replace(
            common, component=paths[0] if len({*paths}) == 1 else f"each of {in_one_name(paths)}"
        )
        for common, paths in families.items()
    ]
