"""`Recorder`: what one test counts and how it is judged; the object behind the `flops` fixture."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget
from pytest_flops.budgets.errors import BudgetError, printable
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.reports.outcome import Outcome
from pytest_flops.session.builders import differences, measurement_of, workload_of
from pytest_flops.session.markers import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.meter.meter import FLOPsMeter
    from pytest_flops.counting.workload import Workload
    from pytest_flops.scaling.sweep import Sweep
    from pytest_flops.session.session import Gate


class BudgetExceeded(AssertionError):  # noqa: N818 - it reads as what happened
    """A red verdict. The message is the whole story, for people."""


class Recorder:
    """Counts, judges and remembers for one test.

    Args:
        gate: The session this test belongs to.
        test: The test's node id.
        budget: What its markers or its budget file say; `None` without either.
        subject: The report entry its findings belong to; the test itself unless given.
    """

    def __init__(
        self, gate: Gate, test: str, budget: Budget | None, subject: str | None = None
    ) -> None:
        self.budget = budget
        self.outcomes: list[Outcome] = []
        self._gate = gate
        self._test = test
        self._subject = subject or test
        self._swept: set[str] = set()
        self._delivered = 0

    def check(
        self,
        counted: object,
        *,
        batch_size: int | None = None,
        seq_len: int | None = None,
        optimizer: str | None = None,
        **limits: Any,
    ) -> Measurement:
        """Count `counted`, hold it against the test's budget, and fail the test if it is over.

        Args:
            counted: A ResNet-BK model or its configuration (counted analytically; the budget's
                scaling limits are held too), a `FLOPsCounter`, a finished `FLOPsMeter`, a
                `Measurement`, or a `FLOPsCount`.
            batch_size: Sequences per step, the budget's workload's unless given.
            seq_len: Tokens per sequence, likewise.
            optimizer: The optimizer's name, likewise.
            **limits: Limits for this call, as the marker takes them.

        Returns:
            What was counted.

        Raises:
            BudgetExceeded: A verdict is red.
            BudgetError: There is no limit to hold, or `counted` is none of the above.
        """
        budget = self._budget_with(limits)
        base = self.budget.workload if self.budget else None
        workload = workload_of(
            counted, base, batch_size=batch_size, seq_len=seq_len, optimizer=optimizer
        )
        measurement = measurement_of(counted, workload)
        sweeps = self._sweeps(budget, workload)
        self.judge(measurement, budget=budget, workload=workload, sweeps=sweeps)
        return measurement

    @contextmanager
    def measure(self, **limits: Any) -> Iterator[FLOPsMeter]:
        """Meter what runs inside; hold it against the budget, or the limits given, at the end.

        Without either it only counts, for you to look at or to `check` later.
        """
        from pytest_flops.counting.meter.meter import FLOPsMeter

        self._gate.extensions.register_costs()
        with FLOPsMeter() as meter:
            yield meter
        if limits or self.budget is not None:
            self.judge(meter.measurement(), budget=self._budget_with(limits))

    def scaling(
        self,
        builder: Callable[..., Any],
        *,
        max_exponent: float | None = None,
        components: dict[str, float] | None = None,
        tolerance: float = 0.0,
        optimizer: str = "adamw",
        **dimension: Sequence[int],
    ) -> Sweep:
        """Sweep one dimension of any model and hold how its cost grows.

        Args:
            builder: `builder(seq_len=n)` returns `(model, inputs)` or a `ResNetBKConfig`.
            max_exponent: Largest allowed exponent of the total and every phase; unless given, the
                test's budget has a scaling limit over this dimension.
            components: Largest allowed exponent by component pattern.
            tolerance: How far above a largest exponent a measured one may be.
            optimizer: The optimizer's name.
            **dimension: The one swept dimension and its sizes, e.g. `seq_len=[64, 128, 256]`.

        Returns:
            The sweep: counts, exponents and exact polynomials.

        Raises:
            BudgetExceeded: It grows faster than allowed.
            BudgetError: No limit is given, or not exactly one dimension.
        """
        from pytest_flops.scaling.workloads import sweep_builder

        if len(dimension) != 1:
            raise BudgetError(
                "flops.scaling() sweeps exactly one dimension, e.g. seq_len=[64, 128, 256]"
            )
        ((name, sizes),) = dimension.items()
        given: dict[str, Any] = {"sizes": list(sizes) if isinstance(sizes, Iterable) else sizes}
        if max_exponent is not None:
            given["max_exponent"] = max_exponent
        if components is not None:
            given["components"] = components
        if tolerance:
            given["tolerance"] = tolerance
        own = max_exponent is not None or components is not None
        budget = self._budget_with({"scaling": {name: given}} if own else {})
        self._gate.extensions.register_costs()
        with self._gate.progress(f"{budget.name}: {name}") as progress:
            sweep = sweep_builder(builder, name, sizes, optimizer=optimizer, on_count=progress)
        self.judge_sweeps(budget, [sweep])
        return sweep

    def judge(
        self,
        measurement: Measurement,
        *,
        budget: Budget | None = None,
        workload: Workload | None = None,
        sweeps: Sequence[Sweep] = (),
    ) -> None:
        """Hold a count against limits, recorded counts and scaling limits, and keep the outcome.

        Raises:
            BudgetExceeded: A verdict is red.
        """
        from pytest_flops.budgets.judging.hold import judge_limits, judge_recorded

        budget = self._with_its_record(budget or self._required_budget(), measurement)
        verdicts = [*self.judge_count(measurement), *judge_limits(budget, measurement)]
        if budget.workload and budget.workload.counted_by != measurement.rules:
            verdicts.append(_other_rules(budget.workload, measurement))
        if budget.recorded is not None and not self._gate.settings.update:
            verdicts += judge_recorded(budget, measurement, self._gate.tolerance)
        verdicts += self._judge_scaling(budget, sweeps)
        if all(verdict.passed for verdict in verdicts):
            verdicts += _of_another_workload(budget.workload, workload)
        self.conclude(
            verdicts, budget=budget, measurement=measurement, workload=workload, sweeps=sweeps
        )

    def judge_count(self, measurement: Measurement) -> tuple[Verdict, ...]:
        """Errors that make a count no count: nothing counted, or operators without a cost.

        The latter are warnings where the user allows them.
        """
        from pytest_flops.budgets.judging.hold import judge_measurement, uncounted_messages

        if self._gate.settings.allow_uncounted:
            for message in uncounted_messages(measurement):
                warnings.warn(printable(message), stacklevel=2)
            measurement = replace(measurement, uncounted={})
        return judge_measurement(measurement)

    def judge_sweeps(self, budget: Budget, sweeps: Sequence[Sweep]) -> None:
        """Hold sweeps against the scaling limits over their dimensions, and keep the outcome.

        Raises:
            BudgetExceeded: A verdict is red.
            BudgetError: No limit holds a sweep.
        """
        limited = {limit.dimension: limit for limit in budget.scaling}
        for sweep in sweeps:
            if sweep.dimension not in limited:
                raise BudgetError(
                    f"no scaling limit over {sweep.dimension} to hold this sweep against; "
                    "give max_exponent="
                )
            left_out = sorted(set(limited[sweep.dimension].sizes) - set(sweep.sizes))
            if left_out:
                raise BudgetError(
                    f"the scaling limit over {sweep.dimension} is on sizes that this sweep leaves "
                    f"out: {', '.join(map(str, left_out))}"
                )
        self.conclude(self._judge_scaling(budget, sweeps), budget=budget, sweeps=sweeps)

    def conclude(
        self,
        verdicts: Sequence[Verdict],
        *,
        budget: Budget | None = None,
        measurement: Measurement | None = None,
        workload: Workload | None = None,
        sweeps: Sequence[Sweep] = (),
    ) -> None:
        """Keep an outcome, and fail the test if it is red.

        Raises:
            BudgetExceeded: A verdict is red.
        """
        budget = budget or self._required_budget()
        workload = workload or budget.workload
        if measurement is not None and not verdicts:
            verdicts = [self._not_held(measurement)]
        location = str(budget.location) if budget.location else None
        outcome = Outcome(
            subject=self._subject,
            budget=budget.name,
            test=self._test,
            verdicts=tuple(verdicts),
            measurement=measurement,
            scaling=tuple(sweep.to_dict() for sweep in sweeps),
            workload=asdict(workload) if workload else None,
            location=location,
            tolerance=budget.tolerance,
        )
        self.outcomes.append(outcome)
        if not outcome.passed:
            from pytest_flops.budgets.judging.wording import explain

            raise BudgetExceeded(explain(budget.name, outcome.verdicts, location=location))

    def finish(self) -> None:
        """After the test's body passed: a budget that was held against nothing is an error.

        Raises:
            BudgetExceeded: Nothing was counted, or a limit was held against nothing.
        """
        if self.budget is None:
            return
        if not self.outcomes:
            self._fail(
                "the test counted nothing: it asks for the `flops` fixture but never calls "
                "flops.check(), flops.measure() or flops.scaling()"
            )
        self._require_all_held(self.budget)

    def _require_all_held(self, budget: Budget) -> None:
        counted = any(outcome.measurement is not None for outcome in self.outcomes)
        if (budget.limits or budget.recorded) and not counted:
            self._fail(
                "the limits and recorded counts were held against nothing: call flops.check() or "
                "flops.measure()"
            )
        elsewhere = str(budget.location) in self._gate.with_items
        for limit in budget.scaling:
            if limit.dimension not in self._swept and not elsewhere:
                self._fail(
                    f"the scaling limit over {limit.dimension} was held against nothing: call "
                    f"flops.scaling(builder, {limit.dimension}={list(limit.sizes)})"
                )

    def note_failure(self, error: BaseException | None) -> None:
        """A test that failed for a reason of its own has judged nothing, and that is no pass."""
        if any(not outcome.passed for outcome in self.outcomes):
            return
        with suppress(BudgetExceeded):
            self._fail(f"not judged whole, because of {_in_one_line(error)}")

    def excuse(self, reason: str) -> None:
        """Red verdicts of a test that is expected to fail turn into remarks."""
        self.outcomes = [
            replace(
                outcome,
                verdicts=tuple(_excused(verdict, reason) for verdict in outcome.verdicts),
            )
            for outcome in self.outcomes
        ]

    def record(self) -> dict[str, Any]:
        """What the test found since the last report, as plain types for the next one."""
        location = self.budget.location if self.budget else None
        new = self.outcomes[self._delivered :]
        self._delivered = len(self.outcomes)
        return {
            "held": str(location) if location else None,
            "outcomes": [outcome.to_dict() for outcome in new],
        }

    def properties(self) -> list[tuple[str, int]]:
        """The counts, for JUnit."""
        return [
            (f"flops.{outcome.budget}.{quantity}", flops)
            for outcome in self.outcomes
            if outcome.measurement is not None
            for quantity, flops in outcome.measurement.count.to_dict().items()
        ]

    def retold(self, error: BaseException, place: tuple[Path, int] | None = None) -> str | None:
        """What went wrong, for people; `None` if it is none of this plugin's errors.

        Args:
            error: What the test raised.
            place: The file and line of the test; a line of that file that raised is told instead.
        """
        if not _is_our_own(error):
            return None
        text = str(error)
        if not isinstance(error, BudgetExceeded):
            text = _quoted(text)
            if self.budget is not None:
                origin = f" ({self.budget.location})" if self.budget.location else ""
                text = f"{text}\n\nin budget {self.budget.name!r}{origin}"
        if place is None:
            return text
        file, line = place
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == str(file):
                line = frame.lineno or line
        return f"{text}\n\n{self._gate.catalog.shown(file)}:{line}"

    def _fail(self, message: str) -> None:
        budget = self.budget or Budget(name=self._test)
        self.conclude([Verdict(kind="error", passed=False, message=message)], budget=budget)

    def _not_held(self, measurement: Measurement) -> Verdict:
        """A remark for a budget that had nothing to hold this count against."""
        message = "recorded by this run" if self._gate.settings.update else "not recorded yet"
        return Verdict(
            kind="recorded",
            passed=True,
            quantity="total",
            actual=measurement.count.total,
            message=message,
        )

    def _with_its_record(self, budget: Budget, measurement: Measurement) -> Budget:
        """The budget with the record of this count, of a test that counts several things.

        They are numbered as the entries of a report are (`reports.entry.entries_of`).
        """
        counted = [outcome.measurement for outcome in self.outcomes if outcome.measurement]
        others = [each for n, each in enumerate(counted) if each not in counted[:n]]
        number = others.index(measurement) if measurement in others else len(others)
        if number == 0 or self.budget is None or budget.location is not None:
            return budget
        record = self._gate.catalog.recorded(f"{self._test} (count {number + 1})")
        return replace(budget, recorded=record)

    def _judge_scaling(self, budget: Budget, sweeps: Sequence[Sweep]) -> list[Verdict]:
        from pytest_flops.budgets.judging.scaling import judge_scaling

        limits = {limit.dimension: limit for limit in budget.scaling}
        self._swept.update(sweep.dimension for sweep in sweeps)
        return [
            verdict for sweep in sweeps for verdict in judge_scaling(limits[sweep.dimension], sweep)
        ]

    def _sweeps(self, budget: Budget, workload: Workload | None) -> list[Sweep]:
        if workload is None or not budget.scaling:
            return []
        return [
            self._gate.sweep(budget, workload, limit.dimension, limit.sizes)
            for limit in budget.scaling
        ]

    def _budget_with(self, limits: dict[str, Any]) -> Budget:
        if self.budget is None and not limits:
            raise BudgetError(
                "there is nothing to hold the count against: mark the test with "
                "@pytest.mark.flops_budget(...) or give limits in the call, e.g. "
                'total="6.4 GFLOP"'
            )
        return merge(self.budget or Budget(name=self._test), limits)

    def _required_budget(self) -> Budget:
        return self._budget_with({})


def _is_our_own(error: BaseException | None) -> bool:
    from pytest_flops.counting.measure import WorkloadError
    from pytest_flops.scaling.errors import ScalingError

    return isinstance(error, BudgetExceeded | BudgetError | WorkloadError | ScalingError)


def _quoted(text: str) -> str:
    """Somebody's error; its further lines behind a bar, so that none can pose as a CI command."""
    return "\n| ".join(printable(line) for line in text.splitlines())


def _in_one_line(error: BaseException | None) -> str:
    if error is None:
        return "a failure of the test"
    first, *more = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first}{' ...' if more else ''}"


def _excused(verdict: Verdict, reason: str) -> Verdict:
    if verdict.passed:
        return verdict
    remark = f"over, as expected (xfail{f': {reason}' if reason else ''})"
    message = f"{remark}; {verdict.message}" if verdict.message else remark
    return replace(verdict, passed=True, message=message)


def _of_another_workload(budgeted: Workload | None, counted: Workload | None) -> list[Verdict]:
    """Something smaller than the budget's workload is within its limits, and says nothing."""
    if budgeted is None or counted is None or budgeted.model != counted.model:
        return []
    found = differences(counted, budgeted)
    message = f"the test counted another workload than the budget's: {'; '.join(found)}"
    return [Verdict(kind="error", passed=False, message=message)] if found else []


def _other_rules(workload: Workload, measurement: Measurement) -> Verdict:
    return Verdict(
        kind="error",
        passed=False,
        message=(
            f"the budget is of {workload.counted_by} FLOPs and the test counted "
            f"{measurement.rules} ones; the two are not comparable: set the workload's rules, or "
            "check a ResNet-BK model with the `flops` fixture"
        ),
    )
