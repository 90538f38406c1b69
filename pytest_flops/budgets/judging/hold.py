"""`hold`: a budget against what was counted; every verdict of a count and its sweeps is made here.

The items of a budget file, the marker and the fixtures all come through this one function, so that
the same count gets the same verdicts whoever counted it. An item of a budget file holds one kind
of limit; a test holds them all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.judging.blame import blame, cut_short
from pytest_flops.budgets.judging.reasons import cause_told, lines_told
from pytest_flops.budgets.judging.scaling import hold_scaling
from pytest_flops.budgets.judging.wording import below_the_record
from pytest_flops.budgets.patterns import matching, no_match
from pytest_flops.budgets.units import format_amount, format_percent
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.components import OUTSIDE_PATH, depth
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.measurement import how_to_count, is_thread
from pytest_flops.counting.metric import (
    CALL,
    FLOPS,
    METRICS,
    OF_INDUCTOR,
    QUANTITIES,
    TOTAL,
    Metric,
    is_total,
    metric_of,
    quantities_of,
    quantity_of,
    unit_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from fractions import Fraction

    from pytest_flops.budgets.budget import Budget, Recorded
    from pytest_flops.budgets.verdict import Kind
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.metric import Quantity
    from pytest_flops.counting.parity import Parity
    from pytest_flops.scaling.sweep import Sweep

_TOTAL: Final = quantity_of(FLOPS, TOTAL)
_OPTIMIZER: Final = quantity_of(FLOPS, "optimizer")
EVERY_KIND: Final[tuple[Kind, ...]] = ("limit", "recorded", "scaling")

# Deeper components are recorded to explain what grew. Held are the upper ones alone: how a mixture
# of experts shares its tokens out may differ between machines, and what they cost together may not.
_HELD_DEPTH: Final = 2


def hold(
    budget: Budget,
    measurement: Measurement | None = None,
    sweeps: Sequence[Sweep] = (),
    *,
    tolerance: Fraction | None = None,
    rules: Rules | None = None,
    kinds: tuple[Kind, ...] = EVERY_KIND,
) -> tuple[Verdict, ...]:
    """Every verdict of a budget on what was counted.

    Components that are new since the record, and recorded ones that are gone, are remarks on green
    verdicts: what they cost is held by their parents and by the total.

    Args:
        budget: The limits, the recorded counts and the scaling limits.
        measurement: What was counted; `None` holds the sweeps alone.
        sweeps: How the cost grows, each over a dimension that the budget limits.
        tolerance: Replaces the budget's own tolerance on its recorded counts.
        rules: The counting rules that the budget's figures follow; `None` takes any.
        kinds: Which of `limit`, `recorded` and `scaling` to hold. A count that no gate may rest on
            is an error among the verdicts whatever is held.

    Raises:
        BudgetError: A sweep has no scaling limit, or leaves out sizes of it.
    """
    verdicts: list[Verdict] = []
    if measurement is not None:
        verdicts += _errors_of_count(measurement, rules)
        verdicts += _vanished_phases(budget, measurement, kinds)
        verdicts += _not_counted(budget, measurement, kinds)
        if "limit" in kinds:
            verdicts += _hold_limits(budget, measurement)
        if "recorded" in kinds and budget.recorded is not None:
            held = budget.tolerance if tolerance is None else tolerance
            verdicts += _Record(measurement, budget.recorded, held).verdicts()
    if "scaling" in kinds:
        verdicts += _hold_sweeps(budget, sweeps)
    return tuple(verdicts)


def hold_parity(records: Iterable[Parity]) -> tuple[Verdict, ...]:
    """The analytic count against the metered one; a parity check of nothing is an error."""
    verdicts = tuple(
        Verdict(
            kind="parity",
            passed=record.agrees,
            quantity=quantity_of(FLOPS, record.phase),
            component=record.component,
            actual=record.analytic,
            allowed=record.metered,
        )
        for record in records
    )
    return verdicts or (Verdict.error("the parity check counted nothing"),)


def uncounted_messages(measurement: Measurement) -> list[str]:
    """What was not counted, and what to do about it."""
    messages = []
    for name, calls in measurement.uncounted.items():
        times = "once" if calls == 1 else f"{calls:,} times"
        what = f"the operator {name} ran {times} and has no known cost, so the count is too low"
        if is_thread(name):
            what = f"not counted: {name[1:-1]}, so the count may be too low"
        about = [remark for remark in measurement.assumptions if f" {name} " in remark]
        messages.append("; ".join((what, how_to_count(name), *about)))
    return messages


def _errors_of_count(measurement: Measurement, rules: Rules | None) -> Iterator[Verdict]:
    """Why no gate may rest on a count: negative, void, incomplete, or by rules of another kind."""
    counts = {phase: measurement.of(quantity_of(FLOPS, phase)) for phase in PHASES}
    for phase, count in counts.items():
        if count < 0:
            yield Verdict.error(f"{phase} is {count:,} FLOP; no work costs less than 0")
    if FLOPS.zero_is_void and not any(counts.values()) and not measurement.uncounted:
        yield Verdict.error("nothing was counted: 0 FLOP in every phase; a budget of it is void")
    for message in uncounted_messages(measurement):
        yield Verdict.error(message)
    if rules not in (None, measurement.rules):
        yield Verdict.error(
            f"the budget is of {rules} FLOPs and the test counted {measurement.rules} ones; the "
            "two are not comparable: set the workload's rules, or check a model that the "
            "workload's builder accepts with the `flops` fixture"
        )


def _vanished_phases(
    budget: Budget, measurement: Measurement, kinds: tuple[Kind, ...]
) -> Iterator[Verdict]:
    """A phase that is limited or recorded above 0 and counts exactly 0 now did not run.

    A forgotten `optimizer.step()` and a mistaken `no_grad` look like this, and no bound sees them.
    """
    if not measurement.count.total:  # of nothing at all there is an error already
        return
    phases = [quantity for quantity in QUANTITIES if not is_total(quantity)]
    bounds = {}
    if "recorded" in kinds and (recorded := budget.recorded) is not None:
        bounds = {q: (recorded.of(q), "recorded count", recorded.location) for q in phases}
    if "limit" in kinds:
        for limit in budget.limits:
            if limit.pattern is None and limit.quantity in phases:
                bounds[limit.quantity] = limit.allowed, "limit", limit.location
    for quantity, (bound, what, location) in bounds.items():
        if bound and not measurement.of(quantity):
            amount = format_amount(bound, unit_of(quantity))
            message = (
                f"{quantity} is 0 FLOP, so its {what} of {amount} is held against nothing: was the "
                "phase run, and outside no_grad? If it is gone for good, drop its limit and run "
                "pytest --flops-update"
            )
            yield Verdict.error(message, location=location)


def _hold_limits(budget: Budget, measurement: Measurement) -> Iterator[Verdict]:
    unmatched: set[str] = set()
    for limit in budget.limits:
        quantity, pattern = limit.quantity, limit.pattern
        if not measurement.counts(quantity):
            continue
        matched = [None] if pattern is None else matching(pattern, measurement.components)
        seen = [path for path in matched if _is_seen(measurement, quantity, path)]
        if matched and not seen:
            message = _not_seen(quantity, str(matched[0]))
            yield Verdict.error(message, pattern=pattern, location=limit.location)
        for component in seen:
            found = _compared(measurement, budget.recorded, quantity, component, limit.allowed)
            yield replace(
                found,
                warned=found.passed and _is_close(found, budget.warn),
                written=limit.written,
                pattern=pattern,
                location=limit.location,
            )
        if pattern is not None and not matched and pattern not in unmatched:
            unmatched.add(pattern)
            message = no_match(pattern, measurement.components)
            yield Verdict.error(message, pattern=pattern, location=limit.location)


def _is_close(verdict: Verdict, warn: Fraction | None) -> bool:
    return warn is not None and (verdict.actual or 0) > warn * int(verdict.allowed or 0)


def _not_counted(
    budget: Budget, measurement: Measurement, kinds: tuple[Kind, ...]
) -> Iterator[Verdict]:
    """Metrics that the budget limits, or its record has, and that nobody counted."""
    asked = [*budget.limited_metrics] if "limit" in kinds else []
    asked += [*budget.recorded.metrics] if "recorded" in kinds and budget.recorded else []
    missing = [name for name in dict.fromkeys(asked) if name not in measurement.metrics]
    of_compiler = [name for name in missing if METRICS[name].of_compiler]
    for name in missing:
        if name not in of_compiler:
            message = (
                f"{name} was not counted, so what the budget says of it is held against nothing: a "
                "FLOPsMeter counts what it is asked for (metrics=[...]), and a FLOPsCount, or an "
                "object that a builder counts by itself, has FLOPs alone"
            )
            yield Verdict.error(message)
    if of_compiler:
        gave_up = lines_told(measurement.lines_of("graph_breaks"), CALL)
        by = "" if {*of_compiler} - {*OF_INDUCTOR} else " by Inductor (the default backend)"
        message = (
            f"nothing was compiled{by}, so what the budget says of {', '.join(of_compiler)} is "
            "held against nothing: call what torch.compile returns in the test's body, or in the "
            "step, or give the workload `compile: true`"
            f"{f'; the compiler gave up {gave_up}' if gave_up else ''}"
        )
        yield Verdict.error(message)


def _is_seen(measurement: Measurement, quantity: Quantity, component: str | None) -> bool:
    """Whether a count of a component says something; an optimizer's step shows every parameter."""
    return component not in measurement.not_called or quantity == _OPTIMIZER


def _not_seen(quantity: Quantity, component: str) -> str:
    return (
        f"{component} was not called, so its {quantity} is held against nothing: what it computes "
        "is counted where its weights are used, or inside the traced, scripted or exported module "
        "around it; limit that one"
    )


def _compared(
    measurement: Measurement,
    recorded: Recorded | None,
    quantity: Quantity,
    component: str | None,
    allowed: int,
) -> Verdict:
    actual = measurement.of(quantity, component)
    found = Verdict("limit", actual <= allowed, quantity, component, actual, allowed)
    if found.passed:
        return found
    reason = blame(found, measurement, recorded)
    cause = cause_told(found, reason, measurement, recorded)
    rows = reason.rows
    if cause and metric_of(quantity) is not FLOPS:  # which says more of what is outside modules
        rows = [row for row in rows if row[0] != OUTSIDE_PATH]
    return replace(found, parts=cut_short(rows), cause=cause)


class _Record(NamedTuple):
    """A measurement beside its recorded counts."""

    measurement: Measurement
    recorded: Recorded
    tolerance: Fraction

    def verdicts(self) -> Iterator[Verdict]:
        for quantity in QUANTITIES:
            yield self._verdict(None, quantity)
        for name in self.recorded.metrics:
            yield from self._of_metric(METRICS[name])
        now, then = self.measurement.components, self.recorded.components
        for path in then:
            if depth(path) > _HELD_DEPTH:
                continue
            if path in now:
                yield from self._phases_of(path)
            elif self.recorded.of(_TOTAL, path):
                yield self._remark(path, "recorded, but gone now")
        # What is deeper than all that was recorded may be as old as the record.
        deepest = min(_HELD_DEPTH, max(map(depth, then), default=0))
        for path in now:
            is_new = path not in then and depth(path) <= deepest
            if is_new and self.measurement.of(_TOTAL, path):
                yield self._remark(path, "new since the record")

    def _of_metric(self, metric: Metric) -> Iterator[Verdict]:
        if metric.name not in self.measurement.metrics:
            return  # which is an error already
        now, then = self.measurement.metrics[metric.name], self.recorded.metrics[metric.name]
        if not now.is_comparable_to(then):
            yield Verdict(
                kind="recorded",
                passed=True,
                quantity=quantity_of(metric, TOTAL),
                actual=now.of(metric, TOTAL),
                location=self.recorded.location,
                message=f"recorded with torch {then.torch}, and held against nothing with "
                f"{now.torch}: pytest --flops-update records it anew",
            )
            return
        for quantity in quantities_of(metric):
            yield self._verdict(None, quantity)
        if metric.join == "max":
            return  # what is alive while a part runs is the whole's: one cause would raise each
        for path in self.recorded.metrics[metric.name].components:
            if depth(path) <= _HELD_DEPTH and path in self.measurement.components:
                for quantity in quantities_of(metric):
                    if not is_total(quantity) or not metric.phases:
                        yield self._verdict(path, quantity)

    def _phases_of(self, path: str) -> Iterator[Verdict]:
        """A component's total follows from its phases and gets no verdict of its own."""
        for quantity in QUANTITIES:
            now, then = self.measurement.of(quantity, path), self.recorded.of(quantity, path)
            if is_total(quantity) or not (now or then):
                continue
            if then and not _is_seen(self.measurement, quantity, path):
                yield Verdict.error(_not_seen(quantity, path), location=self.recorded.location)
            else:
                yield self._verdict(path, quantity)

    def _verdict(self, component: str | None, quantity: Quantity) -> Verdict:
        actual = self.measurement.of(quantity, component)
        recorded = self.recorded.of(quantity, component)
        allowed = int(recorded * (1 + self.tolerance))
        compared = _compared(self.measurement, self.recorded, quantity, component, allowed)
        below = below_the_record(quantity, actual, recorded) if actual < recorded else ""
        return replace(
            compared,
            kind="recorded",
            written=format_percent(self.tolerance),
            recorded=recorded,
            location=self.recorded.location,
            message=below,
        )

    def _remark(self, component: str, message: str) -> Verdict:
        return Verdict(
            kind="recorded",
            passed=True,
            quantity=_TOTAL,
            component=component,
            actual=self.measurement.of(_TOTAL, component),
            recorded=self.recorded.of(_TOTAL, component),
            location=self.recorded.location,
            message=message,
        )


def _hold_sweeps(budget: Budget, sweeps: Sequence[Sweep]) -> Iterator[Verdict]:
    limits = {limit.dimension: limit for limit in budget.scaling}
    for sweep in sweeps:
        limit = limits.get(sweep.dimension)
        if limit is None:
            raise BudgetError(
                f"no scaling limit over {sweep.dimension} to hold this sweep against; "
                "give max_exponent="
            )
        if left_out := sorted(set(limit.sizes) - set(sweep.sizes)):
            raise BudgetError(
                f"the scaling limit over {sweep.dimension} is on sizes that this sweep leaves "
                f"out: {', '.join(map(str, left_out))}"
            )
        of_ranks = budget.workload is not None and limit.dimension in budget.workload.mesh
        yield from hold_scaling(limit, sweep, of_ranks=of_ranks)
