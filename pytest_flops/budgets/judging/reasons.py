"""What made a verdict red, in a phrase: what grew, in which phases, by which operators or lines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.alike import cut_short, named
from pytest_flops.budgets.judging.blame import blame
from pytest_flops.budgets.units import format_amount
from pytest_flops.counting.components import OUTSIDE_PATH
from pytest_flops.counting.metric import BYTE, FLOPS, TOTAL, metric_of, phase_of, quantity_of
from pytest_flops.counting.text import some

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.budgets.judging.blame import Blame
    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Costs, Counted, Metric, Unit

_OPERATORS, _LINES = 3, 5


def with_reason(verdict: Verdict, measurement: Measurement, recorded: Recorded | None) -> Verdict:
    """A verdict of a limit or a record, with what made it red, if it is."""
    if verdict.passed:
        return verdict
    reason = blame(verdict, measurement, recorded)
    cause = _cause(verdict, reason, measurement, recorded)
    rows = reason.rows
    if cause and metric_of(str(verdict.quantity)) is not FLOPS:
        # The operators say more of what is outside modules.
        rows = [row for row in rows if row[0] != OUTSIDE_PATH]
    return replace(verdict, parts=cut_short(rows), cause=cause)


def _cause(
    verdict: Verdict, reason: Blame, measurement: Measurement, recorded: Recorded | None
) -> str:
    """What made a verdict red, in a phrase; empty where nothing is known of it."""
    quantity, rows = str(verdict.quantity), reason.rows
    metric = metric_of(quantity)
    if metric.join == "max":
        then = recorded.metrics.get(metric.name) if recorded else None
        return _at_the_peak(measurement.metrics[metric.name], then, reason, phase_of(quantity))
    lines = operators = ""
    if verdict.component is None:
        base = recorded if reason.grown else None
        operators, more = _operators(measurement, base, metric, reason.phases)
        found = measurement.lines_of(metric.name, reason.phases, more)
        lines = lines_told(found, metric.unit)
    words = _repeats(reason.again)
    if reason.grown and (operators or not lines):
        amount = format_amount(reason.grown, metric.unit)
        where = _in_phases(verdict, measurement, recorded, reason.phases)
        if rows[0][0] == OUTSIDE_PATH and operators:  # no component says where; the operators do
            words.append(f"{operators} {OUTSIDE_PATH.strip('()')}: {amount} more{where}")
        else:
            by = f": {operators}" if operators else ""
            words.append(f"{named(rows)} grew by {amount}{where}{by}")
    elif operators and metric is not FLOPS:
        words.append(f"most by {operators}")
    return "; ".join([*words, *[f"{metric.name} {lines}"] * bool(lines)])


def _repeats(again: Mapping[str, int]) -> list[str]:
    if not again:
        return []
    ran = {
        "Optimizer.step" if phase == "optimizer" else f"the {phase}": number
        for phase, number in again.items()
    }
    words = " and ".join(f"{who} ran {number:,} times" for who, number in ran.items())
    return [f"{words}, or on more data" if len(again) > 1 and "optimizer" not in again else words]


def _in_phases(
    verdict: Verdict, measurement: Measurement, recorded: Recorded | None, phases: Sequence[str]
) -> str:
    """Those in which it grew, where it did not in each."""
    if recorded is None:
        return ""
    metric = metric_of(str(verdict.quantity))

    def cost(of: Counted, phase: str) -> int:
        return of.of(quantity_of(metric, phase), verdict.component)

    grown = [phase for phase in phases if cost(measurement, phase) > cost(recorded, phase)]
    return f" in {' and '.join(grown)}" if grown and len(grown) < len(metric.phases) else ""


def _operators(
    measurement: Measurement, recorded: Recorded | None, metric: Metric, phases: Sequence[str]
) -> tuple[str, set[str]]:
    """The operators that are new or more since the record, and which; or else those that cost most.

    What is more is looked for at the lines of these alone.
    """

    def values(of: Counted | None, kept: str = "operations") -> dict[str, int]:
        if of is None:
            return {}
        if metric is FLOPS:
            return {name: sum(map(cost.of, phases)) for name, cost in of.operations.items()}
        costs = of.metrics.get(metric.name)
        found: Mapping[str, Mapping[str, int]] = costs.details.get(kept, {}) if costs else {}
        return {name: sum(cost.get(p, 0) for p in phases) for name, cost in found.items()}

    now, then, calls = values(measurement), values(recorded), values(measurement, "calls")
    more, new = {}, set()
    for operator, cost in now.items():
        often = calls.get(operator, cost)  # of how many calls, where this is not what is counted
        name = operator if often == cost or metric is FLOPS else f"{operator} x {often}"
        more[name] = cost - then.get(operator, 0)
        if then and not then.get(operator):
            new.add(name)
    grown = {operator for operator in now if then and now[operator] > then.get(operator, 0)}
    return _most(more, metric.unit, "+" if then else "", new), grown


def lines_told(found: Mapping[str, int], unit: Unit) -> str:
    """The lines of the user's code that most of a metric comes from, as far as they are known."""
    return f"at {_most(found, unit, at_most=_LINES)}" if found else ""


def _most(
    values: Mapping[str, int],
    unit: Unit,
    sign: str = "",
    new: Collection[str] = (),
    at_most: int = _OPERATORS,
) -> str:
    """The names of the largest values, e.g. `aten.bmm (new, +4 MFLOP), ... and 2 more`."""
    worth_a_word = sum(cost for cost in values.values() if cost > 0) / 100
    most = [name for name in values if values[name] > worth_a_word]
    most.sort(key=lambda name: (-values[name], name))
    listed = [
        f"{name} ({'new, ' if name in new else ''}{sign}{format_amount(values[name], unit)})"
        for name in most
    ]
    return some(listed, at_most)


def _at_the_peak(now: Costs, then: Costs | None, reason: Blame, phase: str) -> str:
    """What is alive at a peak and was not in the record, or else what is, and when that was."""
    at, kinds = now.details.get("at"), now.details.get("kinds", {})
    if at is None:
        return ""
    if phase not in (TOTAL, at["phase"]):
        return f"what was alive is known of the highest peak alone, which is in {at['phase']}"
    before = then.details.get("kinds", {}) if then else {}
    told = {kind: size - before.get(kind, 0) for kind, size in kinds.items()}
    who = f"{named(reason.rows)}: " if reason.grown else ""
    more = f"{format_amount(reason.grown, BYTE)} more " if reason.grown else ""
    alive = _most(told, BYTE, "+" if before else "")
    where = f"at {at['operator']} in {at['phase']} of {at['module'] or OUTSIDE_PATH}"
    return f"{who}{more}alive at the peak, {alive}; {where}"
