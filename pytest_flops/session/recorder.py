"""`Recorder`: what one test counts and how it is judged; the object behind the `flops` fixture."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget
from pytest_flops.budgets.errors import BudgetError, printable
from pytest_flops.budgets.judging.hold import EVERY_KIND, hold, uncounted_messages
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.metric import QUANTITIES
from pytest_flops.reports.entry import Entry
from pytest_flops.session.builders import differences, measured
from pytest_flops.session.markers import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_flops.budgets.verdict import Kind
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.meter.meter import FLOPsMeter
    from pytest_flops.counting.workload import Workload
    from pytest_flops.scaling.sweep import Sweep
    from pytest_flops.session.session import Session


class BudgetExceeded(AssertionError):  # noqa: N818 - it reads as what happened
    """A red verdict. The message is the whole story, for people."""


class Recorder:
    """Counts, judges and remembers for one test.

    Args:
        session: The run this test belongs to.
        test: The test's node id.
        budget: What its markers or its budget file say; `None` without either.
        subject: The report entry its findings belong to; the test itself unless given.
    """

    def __init__(
        self, session: Session, test: str, budget: Budget | None, subject: str | None = None
    ) -> None:
        self.budget = budget
        self.entries: list[Entry] = []
        self._session = session
        self._test = test
        self._subject = subject or test
        self._counted = 0
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
            counted: A model or configuration that a registered builder accepts (the budget's
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
        measurement, workload = measured(
            counted,
            base,
            self._session.extensions.builders,
            batch_size=batch_size,
            seq_len=seq_len,
            optimizer=optimizer,
        )
        sweeps = self._sweeps(budget, workload)
        rules = self._rules_of(budget.workload)
        self.hold(measurement, sweeps, budget=budget, workload=workload, rules=rules)
        return measurement

    @contextmanager
    def measure(self, **limits: Any) -> Iterator[FLOPsMeter]:
        """Meter what runs inside; hold it against the budget, or the limits given, at the end.

        Without either it only counts, for you to look at or to `check` later.
        """
        from pytest_flops.counting.meter.meter import FLOPsMeter

        self._session.extensions.register_costs()
        with FLOPsMeter() as meter:
            yield meter
        if limits or self.budget is not None:
            budget = self._budget_with(limits)
            rules = self._rules_of(budget.workload)
            self.hold(meter.measurement(), budget=budget, rules=rules)

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
            builder: `builder(seq_len=n)` returns `(model, inputs)`, or what a registered builder
                accepts.
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
        self._session.extensions.register_costs()
        with self._session.progress(f"{budget.name}: {name}") as progress:
            sweep = sweep_builder(
                builder,
                name,
                sizes,
                optimizer=optimizer,
                builders=self._session.extensions.builders,
                on_count=progress,
            )
        self.hold(sweeps=[sweep], budget=budget)
        return sweep

    def hold(
        self,
        measurement: Measurement | None = None,
        sweeps: Sequence[Sweep] = (),
        *,
        budget: Budget | None = None,
        workload: Workload | None = None,
        rules: Rules | None = None,
        kinds: tuple[Kind, ...] = EVERY_KIND,
    ) -> None:
        """Hold a count and sweeps against a budget, and keep the outcome.

        Args:
            measurement: What was counted, if anything was.
            sweeps: How the cost grows.
            budget: What to hold them against; the test's own budget unless given.
            workload: What was counted, where it may differ from the budget's workload.
            rules: The counting rules of the budget's figures, where others may have been counted.
            kinds: Which of `limit`, `recorded` and `scaling` to hold.

        Raises:
            BudgetExceeded: A verdict is red.
            BudgetError: No limit holds a sweep.
        """
        budget = budget or self._required_budget()
        if measurement is not None:
            budget = self._with_its_record(budget)
        if self._session.settings.update:  # this run makes the record; the old one holds nothing
            kinds = tuple(kind for kind in kinds if kind != "recorded")
        self._swept.update(sweep.dimension for sweep in sweeps)
        judged = measurement and self._without_what_is_allowed(measurement)
        tolerance = self._session.tolerance
        verdicts = list(hold(budget, judged, sweeps, tolerance=tolerance, rules=rules, kinds=kinds))
        if all(verdict.passed for verdict in verdicts):
            verdicts += self._of_another_workload(budget.workload, workload)
        self.conclude(
            verdicts, budget=budget, measurement=measurement, workload=workload, sweeps=sweeps
        )

    def _without_what_is_allowed(self, measurement: Measurement) -> Measurement:
        """With `--flops-allow-uncounted`, operators without a cost are warnings and no errors."""
        if not self._session.settings.allow_uncounted:
            return measurement
        for message in uncounted_messages(measurement):
            warnings.warn(printable(message), stacklevel=2)
        return replace(measurement, uncounted={})

    def conclude(
        self,
        verdicts: Sequence[Verdict],
        *,
        budget: Budget | None = None,
        measurement: Measurement | None = None,
        workload: Workload | None = None,
        sweeps: Sequence[Sweep] = (),
    ) -> None:
        """Keep what was found, and fail the test if it is red.

        Raises:
            BudgetExceeded: A verdict is red.
        """
        budget = budget or self._required_budget()
        workload = workload or budget.workload
        if measurement is not None and not verdicts:
            verdicts = [self._not_held(measurement)]
        entry = Entry(
            subject=self._subject_of(measurement),
            budget=budget.name,
            tests=(self._test,),
            verdicts=tuple(verdicts),
            measurement=measurement,
            scaling=tuple(sweeps),
            workload=workload,
            location=budget.location,
            tolerance=budget.tolerance,
        )
        self.entries.append(entry)
        if entry.failures:
            from pytest_flops.budgets.judging.wording import explain

            raise BudgetExceeded(explain(budget.name, entry.verdicts, location=budget.location))

    def _subject_of(self, measurement: Measurement | None) -> str:
        """The subject of the next entry: a test that counts several things has one for each."""
        if measurement is None:
            return self._subject
        self._counted += 1
        return self._numbered(self._subject, self._counted)

    @staticmethod
    def _numbered(name: str, number: int) -> str:
        return name if number == 1 else f"{name} (count {number})"

    def finish(self) -> None:
        """After the test's body passed: a budget that was held against nothing is an error.

        Raises:
            BudgetExceeded: Nothing was counted, or a limit was held against nothing.
        """
        if self.budget is None:
            return
        if not self.entries:
            self._fail(
                "the test counted nothing: it asks for the `flops` fixture but never calls "
                "flops.check(), flops.measure() or flops.scaling()"
            )
        self._require_all_held(self.budget)

    def _require_all_held(self, budget: Budget) -> None:
        counted = any(entry.measurement is not None for entry in self.entries)
        if (budget.limits or budget.recorded) and not counted:
            self._fail(
                "the limits and recorded counts were held against nothing: call flops.check() or "
                "flops.measure()"
            )
        elsewhere = str(budget.location) in self._session.with_items
        for limit in budget.scaling:
            if limit.dimension not in self._swept and not elsewhere:
                self._fail(
                    f"the scaling limit over {limit.dimension} was held against nothing: call "
                    f"flops.scaling(builder, {limit.dimension}={list(limit.sizes)})"
                )

    def note_failure(self, error: BaseException | None) -> None:
        """A test that failed for a reason of its own has judged nothing, and that is no pass."""
        if any(entry.failures for entry in self.entries):
            return
        with suppress(BudgetExceeded):
            self._fail(f"not judged whole, because of {_in_one_line(error)}")

    def excuse(self, reason: str) -> None:
        """Red verdicts of a test that is expected to fail turn into remarks."""
        self.entries = [
            replace(entry, verdicts=tuple(_excused(verdict, reason) for verdict in entry.verdicts))
            for entry in self.entries
        ]

    def record(self) -> dict[str, Any]:
        """What the test found since the last report, as plain types for the next one."""
        location = self.budget.location if self.budget else None
        new = self.entries[self._delivered :]
        self._delivered = len(self.entries)
        return {
            "held": str(location) if location else None,
            "entries": [entry.to_dict() for entry in new],
        }

    def properties(self) -> list[tuple[str, int]]:
        """The counts, for JUnit."""
        return [
            (f"flops.{entry.budget}.{quantity}", flops)
            for entry in self.entries
            if entry.measurement is not None
            for quantity, flops in entry.measurement.count.to_dict().items()
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
        return f"{text}\n\n{self._session.catalog.shown(file)}:{line}"

    def _fail(self, message: str) -> None:
        budget = self.budget or Budget(name=self._test)
        self.conclude([Verdict(kind="error", passed=False, message=message)], budget=budget)

    def _not_held(self, measurement: Measurement) -> Verdict:
        """A remark for a budget that had nothing to hold this count against."""
        message = "recorded by this run" if self._session.settings.update else "not recorded yet"
        return Verdict(
            kind="recorded",
            passed=True,
            quantity=QUANTITIES[-1],
            actual=measurement.count.total,
            message=message,
        )

    def _of_another_workload(
        self, budgeted: Workload | None, counted: Workload | None
    ) -> list[Verdict]:
        """Something smaller than the budget's workload is within its limits, and says nothing."""
        if budgeted is None or counted is None or budgeted.model != counted.model:
            return []
        builder = self._session.extensions.builder(counted.model)
        found = differences(counted, budgeted, builder) if builder else []
        message = f"the test counted another workload than the budget's: {'; '.join(found)}"
        return [Verdict(kind="error", passed=False, message=message)] if found else []

    def _with_its_record(self, budget: Budget) -> Budget:
        """The budget with the record of the next count, which a further count has for itself."""
        if self._counted == 0 or self.budget is None or budget.location is not None:
            return budget
        test = self._numbered(self._test, self._counted + 1)
        return replace(budget, recorded=self._session.catalog.recorded(test))

    def _rules_of(self, workload: Workload | None) -> Rules | None:
        """The counting rules that a budget's figures follow, stated or by its builder's default."""
        if workload is None:
            return None
        builder = self._session.extensions.builder(workload.model)
        return workload.rules or (builder.default_rules if builder else "executed")

    def _sweeps(self, budget: Budget, workload: Workload | None) -> list[Sweep]:
        if workload is None or not budget.scaling:
            return []
        return [
            self._session.sweep(budget, workload, limit.dimension, limit.sizes)
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
