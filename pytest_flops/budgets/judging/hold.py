"""Counts held against budgets: a measurement and a budget in, verdicts out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.blame import parts_of_cost, parts_of_growth
from pytest_flops.budgets.judging.wording import cheaper_than_recorded
from pytest_flops.budgets.patterns import matching, no_match
from pytest_flops.budgets.units import format_percent
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.components import depth
from pytest_flops.counting.count import PHASES, QUANTITIES, FLOPsCount
from pytest_flops.counting.measurement import how_to_count, is_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction

    from pytest_flops.budgets.budget import Budget, Limit, Location, Recorded
    from pytest_flops.budgets.judging.blame import Row
    from pytest_flops.counting.count import Quantity
    from pytest_flops.counting.measurement import Measurement

# Deeper components are recorded to explain what grew. Held are the upper ones alone: how a mixture
# of experts shares its tokens out may differ between machines, and what they cost together may not.
HELD_DEPTH = 2

_NOTHING = FLOPsCount()


def judge_measurement(measurement: Measurement) -> tuple[Verdict, ...]:
    """Errors for a count that no gate may rest on: of nothing, below 0, or not of everything."""
    verdicts = [
        _error(f"{phase} is {flops:,} FLOP; no work costs less than 0")
        for phase in PHASES
        if (flops := measurement.count.of(phase)) < 0
    ]
    if measurement.count.total == 0 and not measurement.uncounted:
        verdicts.append(
            _error("nothing was counted: 0 FLOP in every phase; a budget of it is void")
        )
    verdicts += [_error(message) for message in uncounted_messages(measurement)]
    return tuple(verdicts)


def uncounted_messages(measurement: Measurement) -> list[str]:
    """What was not counted, and what to do about it."""
    return [_uncounted_message(name, calls) for name, calls in measurement.uncounted.items()]


def _uncounted_message(name: str, calls: int) -> str:
    how = how_to_count(name)
    if is_thread(name):
        return f"not counted: {name[1:-1]}, so the count may be too low; {how}"
    times = "once" if calls == 1 else f"{calls:,} times"
    return f"the operator {name} ran {times} and has no known cost, so the count is too low; {how}"


def judge_limits(budget: Budget, measurement: Measurement) -> tuple[Verdict, ...]:
    """Every limit against what it holds; a pattern that matches no component is an error."""
    verdicts: list[Verdict] = []
    matches: dict[str, list[str]] = {}
    for limit in budget.limits:
        pattern = limit.pattern
        if pattern is None:
            verdicts.append(_limit_verdict(limit, None, measurement, budget.recorded))
            continue
        if pattern not in matches:
            matches[pattern] = matching(pattern, measurement.components)
            if not matches[pattern]:
                message = no_match(pattern, measurement.components)
                verdicts.append(_error(message, pattern, _shown(limit.location)))
        verdicts += [
            _limit_verdict(limit, component, measurement, budget.recorded)
            for component in matches[pattern]
        ]
    return tuple(verdicts)


def judge_recorded(
    budget: Budget, measurement: Measurement, tolerance: Fraction | None = None
) -> tuple[Verdict, ...]:
    """The count against the recorded one, in whole and per component.

    Components that are new since the record, and recorded ones that are gone, are told as remarks
    on green verdicts: what they cost is held by their parents and the total.

    Args:
        budget: Its `recorded` is the base; without one there is nothing to judge.
        measurement: What was counted now.
        tolerance: Replaces the budget's own tolerance.
    """
    recorded = budget.recorded
    if recorded is None:
        return ()
    comparison = _Comparison(
        measurement, recorded, budget.tolerance if tolerance is None else tolerance
    )
    return tuple(comparison.verdicts())


def _error(message: str, pattern: str | None = None, location: str | None = None) -> Verdict:
    return Verdict("error", passed=False, pattern=pattern, location=location, message=message)


def _cost(measurement: Measurement, component: str | None) -> FLOPsCount:
    return measurement.count if component is None else measurement.components[component]


def _limit_verdict(
    limit: Limit, component: str | None, measurement: Measurement, recorded: Recorded | None
) -> Verdict:
    actual = _cost(measurement, component).of(limit.quantity)
    passed = actual <= limit.flops
    return Verdict(
        kind="limit",
        passed=passed,
        quantity=limit.quantity,
        component=component,
        actual=actual,
        allowed=limit.flops,
        written=limit.written,
        pattern=limit.pattern,
        location=_shown(limit.location),
        parts=() if passed else _parts(measurement, recorded, limit.quantity, component),
    )


def _parts(
    measurement: Measurement, recorded: Recorded | None, quantity: Quantity, component: str | None
) -> tuple[Row, ...]:
    """What grew since the record, if that is known and something did; else what costs most."""
    actual = _cost(measurement, component).of(quantity)
    if recorded and recorded.components:
        base = recorded.count if component is None else recorded.components.get(component, _NOTHING)
        whole = (actual, base.of(quantity))
        grown = parts_of_growth(
            measurement.components, recorded.components, quantity, whole, component
        )
        if grown:
            return grown
    return parts_of_cost(measurement.components, quantity, actual, component)


def _shown(location: Location | None) -> str | None:
    return None if location is None else str(location)


@dataclass(frozen=True)
class _Comparison:
    """A measurement beside its record."""

    measurement: Measurement
    recorded: Recorded
    tolerance: Fraction

    def verdicts(self) -> Iterator[Verdict]:
        yield from self._held(None, self.recorded.count, QUANTITIES)
        now = self.measurement.components
        for path, base in self.recorded.components.items():
            if depth(path) > HELD_DEPTH:
                continue
            if path in now:
                yield from self._held(path, base, PHASES)
            elif base.total:
                yield self._remark(path, 0, base.total, "recorded, but gone now")
        for path in self._new_components():
            yield self._remark(path, now[path].total, 0, "new since the record")

    def _held(
        self, component: str | None, base: FLOPsCount, quantities: Sequence[Quantity]
    ) -> Iterator[Verdict]:
        cost = _cost(self.measurement, component)
        for quantity in quantities:
            actual, recorded = cost.of(quantity), base.of(quantity)
            if component is None or actual or recorded:
                yield self._verdict(component, quantity, actual, recorded)

    def _verdict(
        self, component: str | None, quantity: Quantity, actual: int, recorded: int
    ) -> Verdict:
        allowed = int(recorded * (1 + self.tolerance))
        passed = actual <= allowed
        return Verdict(
            kind="recorded",
            passed=passed,
            quantity=quantity,
            component=component,
            actual=actual,
            allowed=allowed,
            written=format_percent(self.tolerance),
            recorded=recorded,
            location=_shown(self.recorded.location),
            message=cheaper_than_recorded(actual, recorded) if actual < recorded else "",
            parts=() if passed else _parts(self.measurement, self.recorded, quantity, component),
        )

    def _remark(self, component: str, actual: int, recorded: int, message: str) -> Verdict:
        return Verdict(
            kind="recorded",
            passed=True,
            quantity="total",
            component=component,
            actual=actual,
            recorded=recorded,
            location=_shown(self.recorded.location),
            message=message,
        )

    def _new_components(self) -> list[str]:
        """Components that cost something and would be held, were they as old as the record."""
        deepest = min(HELD_DEPTH, max(map(depth, self.recorded.components), default=0))
        return [
            path
            for path, cost in self.measurement.components.items()
            if path not in self.recorded.components and depth(path) <= deepest and cost.total
        ]
