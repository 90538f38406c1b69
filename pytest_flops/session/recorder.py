"""`Recorder`: how one test counts; the object behind the `flops` fixture."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.counting.metric import METRICS, SYNCS
from pytest_flops.reports.entry import Entry
from pytest_flops.session.builders import measured
from pytest_flops.session.judge import Judge
from pytest_flops.session.markers import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.counting.compiler import CompilerEvents
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.meter.meter import FLOPsMeter
    from pytest_flops.counting.metric import Metric
    from pytest_flops.counting.workload import Workload
    from pytest_flops.scaling.sweep import Sweep


class Recorder(Judge):
    """Counts for one test, and judges what it has counted."""

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
                "flops.scaling() sweeps exactly one dimension, e.g. seq_len=[64, 128, 256], held "
                f"by max_exponent=2; it was given {' and '.join(dimension) or 'none'}"
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

    def _budget_with(self, limits: dict[str, Any]) -> Budget:
        if self.budget is None and not limits:
            raise BudgetError(
                "there is nothing to hold the count against: mark the test with "
                "@pytest.mark.flops_budget(...) or give limits in the call, e.g. "
                'total="6.4 GFLOP"'
            )
        return merge(self._own, limits)

    def _rules_of(self, workload: Workload | None) -> Rules | None:
        """The counting rules that a budget's figures follow, stated or by its builder's default."""
        if workload is None:
            return None
        builder = self._session.extensions.builder(workload.model)
        return workload.rules or (builder.default_rules if builder else "executed")


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
