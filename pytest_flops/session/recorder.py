"""`Recorder`: what one test counts and how it is judged; the object behind the `flops` fixture."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget
from pytest_flops.budgets.errors import BudgetError, printable
from pytest_flops.budgets.judging.hold import EVERY_KIND, hold, uncounted_messages
from pytest_flops.budgets.judging.wording import explain
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.metric import METRICS, QUANTITIES, SYNCS, metric_of
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.fates import BudgetTest
from pytest_flops.reports.report import as_record
from pytest_flops.session.builders import differences, measured
from pytest_flops.session.failures import BudgetExceeded, excused, in_one_line
from pytest_flops.session.markers import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flops.budgets.verdict import Kind
    from pytest_flops.counting.compiler import CompilerEvents
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.meter.meter import FLOPsMeter
    from pytest_flops.counting.metric import Metric
    from pytest_flops.counting.workload import Workload
    from pytest_flops.reports.fates import Fate
    from pytest_flops.scaling.sweep import Sweep
    from pytest_flops.session.session import Session


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
        self._own = budget or Budget(name=test)
        self._counted = 0
        self._swept: set[str] = set()
        self._delivered = 0
        self._skipped: str | None = None

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
        measurement, workload = measured(
            counted,
            self._own.workload,
            self._session.extensions.builders,
            batch_size=batch_size,
            seq_len=seq_len,
            optimizer=optimizer,
        )
        sweeps = [
            self._session.sweep(budget, limit, workload) for limit in budget.scaling if workload
        ]
        rules = self._rules_of(budget.workload)
        self.hold(measurement, sweeps, budget=budget, workload=workload, rules=rules)
        return measurement

    @contextmanager
    def measure(self, **limits: Any) -> Iterator[FLOPsMeter]:
        """Meter what runs inside; hold it against the budget, or the limits given, at the end.

        Without either it only counts, for you to look at or to `check` later.
        """
        given = self.budget is not None or limits
        budget = self._budget_with(limits) if given else None
        named = budget.metrics if budget else ()
        if of_compiler := [name for name in named if METRICS[name].of_compiler]:
            raise BudgetError(
                f"{', '.join(of_compiler)}: a `with` block cannot run a second time, and what is "
                "compiled runs eagerly while a meter counts: mark a test that does not ask for the "
                "fixture `flops`, or check count_flops(..., compile=True)"
            )
        with self.metering(budget) as meter:
            yield meter

    @contextmanager
    def metering(
        self, budget: Budget | None, again: Callable[[], object] | None = None
    ) -> Iterator[FLOPsMeter]:
        """Meter what runs inside, and hold it against a budget at the end, if there is one.

        Where the budget asks for the compiler's metrics, `again` runs the same a second time: what
        is compiled runs eagerly while a meter counts.
        """
        from pytest_flops.counting.meter.meter import FLOPsMeter

        self._session.extensions.register_costs()
        asked = [METRICS[name] for name in self._session.metrics_of(budget)]
        of_compiler = [metric for metric in asked if metric.of_compiler]
        of_meter = [metric for metric in asked if not metric.of_compiler]
        # What a red verdict would tell is looked up now; the lines of syncs always are.
        named = budget.metrics if budget else ()
        lines = any(m.told_by_line and m is not SYNCS for m in of_meter if m.name in named)
        with FLOPsMeter(metrics=[metric.name for metric in of_meter], lines=lines) as meter:
            yield meter
        if budget is not None:
            measurement = meter.measurement()
            if of_compiler and again is not None:
                measurement = _compiled(again, of_compiler).added_to(measurement)
            self.hold(measurement, budget=budget, rules=self._rules_of(budget.workload))

    @contextmanager
    def meter(self) -> Iterator[None]:
        """Meter what runs inside and note what it costs, if anything; hold it to nothing."""
        with self.measure() as meter:
            yield
        found = meter.measurement()
        if found.count.total or found.uncounted:
            tests = (self._test,)
            entry = Entry(self._subject, self._own.name, tests, (), found, metered=True)
            self.entries.append(entry)

    def scaling(
        self,
        builder: Callable[..., Any],
        *,
        max_exponent: float | None = None,
        components: dict[str, float] | None = None,
        metrics: dict[str, float] | None = None,
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
            metrics: Largest allowed exponent of other metrics, by name.
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
        sizes = list(sizes) if isinstance(sizes, Iterable) else sizes
        most = {"max_exponent": max_exponent, "components": components, "metrics": metrics}
        given = {key: value for key, value in most.items() if value is not None}
        limit = {"sizes": sizes, "tolerance": tolerance, **given}
        budget = self._budget_with({"scaling": {name: limit}} if given else {})
        held = (each.metrics for each in budget.scaling if each.dimension == name)
        with self._session.counting(f"{budget.name}: {name}") as on_count:
            sweep = sweep_builder(
                builder,
                name,
                sizes,
                optimizer=optimizer,
                metrics=tuple(next(held, ())),
                builders=self._session.extensions.builders,
                on_count=on_count,
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

    def _budget_with(self, limits: dict[str, Any]) -> Budget:
        if self.budget is None and not limits:
            raise BudgetError(
                "there is nothing to hold the count against: mark the test with "
                "@pytest.mark.flops_budget(...) or give limits in the call, e.g. "
                'total="6.4 GFLOP"'
            )
        return merge(self._own, limits)

    def _with_its_record(self, budget: Budget) -> Budget:
        """A test that counts several things has a record for each; the first is there already."""
        if self._counted == 1 or self.budget is None or budget.location is not None:
            return budget
        recorded = self._session.catalog.recorded(self._numbered(self._test))
        return replace(budget, recorded=recorded)

    def _numbered(self, name: str) -> str:
        return name if self._counted == 1 else f"{name} (count {self._counted})"

    def _rules_of(self, workload: Workload | None) -> Rules | None:
        """The counting rules that a budget's figures follow, stated or by its builder's default."""
        if workload is None:
            return None
        builder = self._session.extensions.builder(workload.model)
        return workload.rules or (builder.default_rules if builder else "executed")

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


def _compiled(body: Callable[[], object], metrics: Sequence[Metric]) -> CompilerEvents:
    """What the compiler does in a second run of a test's body."""
    from pytest_flops.counting.compiler import CompilerEvents

    try:
        with CompilerEvents(metrics) as events:
            body()
    except Exception as error:
        raise BudgetError(
            "in its second run, in which its code is compiled, the test raised "
            f"{type(error).__name__}: {error}"
        ).with_traceback(error.__traceback__) from error
    return events


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
