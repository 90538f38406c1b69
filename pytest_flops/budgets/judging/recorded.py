"""`Record`: hold a measurement against its recorded counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_flops.budgets.judging.reasons import with_reason
from pytest_flops.budgets.judging.unseen import is_seen, not_seen
from pytest_flops.budgets.judging.wording import below_the_record
from pytest_flops.budgets.units import format_percent
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.components import depth
from pytest_flops.counting.metric import (
    FLOPS,
    METRICS,
    QUANTITIES,
    TOTAL,
    Metric,
    is_total,
    quantities_of,
    quantity_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Quantity

_TOTAL: Final = quantity_of(FLOPS, TOTAL)

# Deeper components are recorded to explain what grew. Held are the upper ones alone: how a mixture
# of experts shares its tokens out may differ between machines, and what they cost together may not.
_HELD_DEPTH: Final = 2


class Record(NamedTuple):
    """A measurement beside its recorded counts."""

    measurement: Measurement
    recorded: Recorded
    tolerance: Fraction

    def verdicts(self) -> Iterator[Verdict]:
        """One for each quantity of the whole, and for each phase of the upper components."""
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
            if then and not is_seen(self.measurement, quantity, path):
                yield Verdict.error(not_seen(quantity, path), location=self.recorded.location)
            else:
                yield self._verdict(path, quantity)

    def _verdict(self, component: str | None, quantity: Quantity) -> Verdict:
        actual = self.measurement.of(quantity, component)
        recorded = self.recorded.of(quantity, component)
        allowed = int(recorded * (1 + self.tolerance))
        found = Verdict(
            kind="recorded",
            passed=actual <= allowed,
            quantity=quantity,
            component=component,
            actual=actual,
            allowed=allowed,
            written=format_percent(self.tolerance),
            recorded=recorded,
            location=self.recorded.location,
            message=below_the_record(quantity, actual, recorded) if actual < recorded else "",
        )
        return with_reason(found, self.measurement, self.recorded)

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
