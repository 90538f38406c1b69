"""What a red verdict is about, told once: the components that make up a cost or its growth.

A row is the deepest component that explains its share; what a component costs beyond its children
is a row of its own, `layer_0 (itself)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_flops.budgets.judging.alike import one_row_if_alike
from pytest_flops.counting.components import (
    ITSELF,
    OUTSIDE_PATH,
    by_parent,
    contains,
    depth,
    innermost,
)
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import FLOPS, metric_of, phases_of, quantity_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.budgets.judging.alike import Row
    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.counting.count import FLOPsCount
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Costs, Counted, Quantity


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
