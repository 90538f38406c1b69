"""`Judge`: holds what one test counts against its budget, and keeps what it finds."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget
from pytest_flops.budgets.judging.hold import EVERY_KIND, hold
from pytest_flops.budgets.judging.unseen import uncounted_messages
from pytest_flops.budgets.judging.wording import explain
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.metric import QUANTITIES, metric_of
from pytest_flops.counting.text import printable
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.fates import BudgetTest
from pytest_flops.reports.report import as_record
from pytest_flops.session.builders import differences
from pytest_flops.session.failures import BudgetExceeded, excused, in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_flops.budgets.verdict import Kind
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.workload import Workload
    from pytest_flops.reports.fates import Fate
    from pytest_flops.scaling.sweep import Sweep
    from pytest_flops.session.session import Session


class Judge:
    """Judges and remembers for one test.

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
        self._own = budget or Budget(name=test)
        self._counted = 0
        self._swept: set[str] = set()
        self._delivered = 0
        self._skipped: str | None = None

    def hold(
        self,
        measurement: Measurement | None = None,
        sweeps: Sequence[Sweep] = (),
        *,
        budget: Budget | None = None,
        workload: Workload | None = None,
        rules: Rules | None = None,
        kinds: tuple[Kind, ...] = EVERY_KIND,
        with_lines: Callable[[], Measurement] | None = None,
    ) -> None:
        """Hold a count and sweeps against a budget, the test's own unless given; keep the outcome.

        `workload` is what was counted, where it may differ from the budget's workload; `rules` are
        the counting rules of the budget's figures, where others may have been counted. `with_lines`
        counts again and looks up lines, for a red verdict that is told by them.

        Raises:
            BudgetExceeded: A verdict is red.
            BudgetError: No limit holds a sweep.
        """
        budget, settings = budget or self._own, self._session.settings
        judged = measurement
        if measurement is not None:
            self._counted += 1
            budget = self._with_its_record(budget)
            if settings.allow_uncounted:
                for message in uncounted_messages(measurement):
                    warnings.warn(printable(message), stacklevel=2)
                judged = replace(measurement, uncounted={})
        if settings.update:  # this run makes the record; the old one holds nothing
            kinds = tuple(kind for kind in kinds if kind != "recorded")
        self._swept.update(sweep.dimension for sweep in sweeps)
        tolerance = self._session.tolerance
        judge = partial(hold, budget, sweeps=sweeps, tolerance=tolerance, rules=rules, kinds=kinds)
        verdicts = [*judge(judged)]
        if judged and with_lines and any(_lacks_lines(verdict, judged) for verdict in verdicts):
            judged = replace(judged, found_at=with_lines().found_at)
            verdicts = [*judge(judged)]
        if all(verdict.passed for verdict in verdicts):
            verdicts += self._of_another_workload(budget.workload, workload)
        if measurement is not None and not verdicts:
            verdicts.append(_not_held(measurement, update=settings.update))
        self.conclude(verdicts, budget, measurement, workload, sweeps)

    def conclude(
        self,
        verdicts: Iterable[Verdict],
        budget: Budget | None = None,
        measurement: Measurement | None = None,
        workload: Workload | None = None,
        sweeps: Iterable[Sweep] = (),
    ) -> None:
        """Keep what was found, and fail the test if it is red.

        Raises:
            BudgetExceeded: A verdict is red.
        """
        budget = budget or self._own
        entry = Entry(
            subject=self._numbered(self._subject) if measurement else self._subject,
            budget=budget.name,
            tests=(self._test,),
            verdicts=tuple(verdicts),
            measurement=measurement,
            scaling=tuple(sweeps),
            workload=workload or budget.workload,
            location=budget.location,
            tolerance=budget.tolerance,
        )
        self.entries.append(entry)
        if entry.failures:
            raise BudgetExceeded(explain(budget.name, entry.verdicts, location=budget.location))

    def finish(self) -> None:
        """After the test's body passed: a budget that was held against nothing is an error.

        Raises:
            BudgetExceeded: Nothing was counted, or a limit was held against nothing.
        """
        budget = self.budget
        if budget is None:
            return
        if not self.entries:
            self._fail(
                "the test counted nothing: it asks for the `flops` fixture but never calls "
                "flops.check(), flops.measure() or flops.scaling()"
            )
        if (budget.limits or budget.recorded) and not self._counted:
            self._fail(
                "the limits and recorded counts were held against nothing: call flops.check() or "
                "flops.measure()"
            )
        if str(budget.location) in self._session.with_items:  # its items hold the scaling limits
            return
        for limit in budget.scaling:
            if limit.dimension not in self._swept:
                self._fail(
                    f"the scaling limit over {limit.dimension} was held against nothing: call "
                    f"flops.scaling(builder, {limit.dimension}={list(limit.sizes)})"
                )

    @property
    def is_red(self) -> bool:
        """Whether a verdict is red."""
        return any(entry.failures for entry in self.entries)

    def note_failure(self, error: BaseException | None) -> None:
        """A test that failed for a reason of its own has judged nothing, and that is no pass."""
        if not self.is_red:
            with suppress(BudgetExceeded):
                self._fail(f"not judged whole, because of {in_one_line(error)}")

    def note_skip(self, reason: str) -> None:
        """A test that was skipped, for the reason that its author gives."""
        self._skipped = reason

    def excuse(self, reason: str) -> None:
        """Red verdicts of a test that is expected to fail turn into remarks."""
        self.entries = [excused(entry, reason) for entry in self.entries]

    def record(self, when: str) -> dict[str, Any]:
        """What the test found since the last report, as plain types for that of another phase."""
        marked = self.budget is not None
        lost = bool(self._session.settings.compare) and when == "teardown" and not self.entries
        new = self.entries[self._delivered :]
        self._delivered = len(self.entries)
        return {
            # A test without a marker may hold a limit given in the call, and does so no more: the
            # base says whether.
            "test": as_record(self._became()) if marked or lost else None,
            "entries": [entry.to_dict() for entry in new],
        }

    def _became(self) -> BudgetTest:
        fate: Fate = "unreached"
        if any(entry.measurement or entry.passed for entry in self.entries):
            fate = "measured"
        elif self.entries:
            fate = "failed"
        elif self._skipped is not None:
            fate = "skipped"
        reason = (self._skipped or "") if fate == "skipped" else ""
        return BudgetTest(self._test, self._own.name, self._own.location, fate, reason)

    def properties(self) -> list[tuple[str, int]]:
        """The counts, for JUnit."""
        return [
            (f"flops.{entry.budget}.{quantity}", flops)
            for entry in self.entries
            if entry.measurement is not None
            for quantity, flops in entry.measurement.count.to_dict().items()
        ]

    def _fail(self, message: str) -> None:
        self.conclude([Verdict.error(message)])

    def _with_its_record(self, budget: Budget) -> Budget:
        """A test that counts several things has a record for each; the first is there already."""
        if self._counted == 1 or self.budget is None or budget.location is not None:
            return budget
        recorded = self._session.catalog.recorded(self._numbered(self._test))
        return replace(budget, recorded=recorded)

    def _numbered(self, name: str) -> str:
        return name if self._counted == 1 else f"{name} (count {self._counted})"

    def _of_another_workload(
        self, budgeted: Workload | None, counted: Workload | None
    ) -> Iterator[Verdict]:
        """A smaller workload than the budget's is within its limits, which says nothing."""
        if budgeted is None or counted is None or budgeted.model != counted.model:
            return
        builder = self._session.extensions.builder(counted.model)
        found = "; ".join(differences(counted, budgeted, builder)) if builder else ""
        if found:
            yield Verdict.error(f"the test counted another workload than the budget's: {found}")


def _lacks_lines(verdict: Verdict, measurement: Measurement) -> bool:
    """Whether a red verdict is told by lines that nobody has looked up."""
    if verdict.passed or verdict.quantity is None or verdict.kind not in ("limit", "recorded"):
        return False
    metric = metric_of(verdict.quantity)
    return metric.told_by_line and metric.name not in measurement.found_at


def _not_held(measurement: Measurement, *, update: bool) -> Verdict:
    """A remark where the budget had nothing to hold this count against."""
    return Verdict(
        kind="recorded",
        passed=True,
        quantity=QUANTITIES[-1],
        actual=measurement.count.total,
        message="recorded by this run" if update else "not recorded yet",
    )
