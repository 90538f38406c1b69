"""`hold`: a budget against what was counted; every verdict of a count and its sweeps is made here.

The items of a budget file, the marker and the fixtures all come through this one function, so that
the same count gets the same verdicts whoever counted it. An item of a budget file holds one kind
of limit; a test holds them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.judging.reasons import with_reason
from pytest_flops.budgets.judging.recorded import Record
from pytest_flops.budgets.judging.scaling import hold_scaling
from pytest_flops.budgets.judging.unseen import (
    errors_of_count,
    is_seen,
    not_counted,
    not_seen,
    vanished_phases,
)
from pytest_flops.budgets.patterns import matching, no_match
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.metric import FLOPS, quantity_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from fractions import Fraction

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.budgets.verdict import Kind
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.parity import Parity
    from pytest_flops.scaling.sweep import Sweep

EVERY_KIND: Final[tuple[Kind, ...]] = ("limit", "recorded", "scaling")


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
        verdicts += errors_of_count(measurement, rules)
        verdicts += vanished_phases(budget, measurement, kinds)
        verdicts += not_counted(budget, measurement, kinds)
        if "limit" in kinds:
            verdicts += _hold_limits(budget, measurement)
        if "recorded" in kinds and budget.recorded is not None:
            held = budget.tolerance if tolerance is None else tolerance
            verdicts += Record(measurement, budget.recorded, held).verdicts()
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


def _hold_limits(budget: Budget, measurement: Measurement) -> Iterator[Verdict]:
    unmatched: set[str] = set()
    for limit in budget.limits:
        quantity, pattern = limit.quantity, limit.pattern
        if not measurement.counts(quantity):
            continue
        matched = [None] if pattern is None else matching(pattern, measurement.components)
        seen = [path for path in matched if is_seen(measurement, quantity, path)]
        if matched and not seen:
            message = not_seen(quantity, str(matched[0]))
            yield Verdict.error(message, pattern=pattern, location=limit.location)
        for component in seen:
            actual, allowed, warn = measurement.of(quantity, component), limit.allowed, budget.warn
            found = Verdict(
                kind="limit",
                passed=actual <= allowed,
                quantity=quantity,
                component=component,
                actual=actual,
                allowed=allowed,
                written=limit.written,
                pattern=pattern,
                location=limit.location,
                warned=warn is not None and warn * allowed < actual <= allowed,
            )
            yield with_reason(found, measurement, budget.recorded)
        if pattern is not None and not matched and pattern not in unmatched:
            unmatched.add(pattern)
            message = no_match(pattern, measurement.components)
            yield Verdict.error(message, pattern=pattern, location=limit.location)


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
