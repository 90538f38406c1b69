"""Budget files as test files: each budget a group of items, one for each thing it holds."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

import pytest

from pytest_flops.session.hooks import BUDGET, RECORDER, hooks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_flops.budgets.budget import Budget, ScalingLimit
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.parity import Parity
    from pytest_flops.counting.workload import Workload
    from pytest_flops.session.judge import Judge
    from pytest_flops.session.session import Session


class BudgetFile(pytest.File):
    """A YAML file of budgets."""

    def collect(self) -> Iterable[pytest.Collector]:
        """One group for each budget that has a workload; the catalogue keeps mistakes."""
        budgets = hooks_of(self.config).session.catalog.load(self.path)
        for name, budget in budgets.items():
            if budget.workload is not None:
                group: BudgetGroup = BudgetGroup.from_parent(self, name=name)
                group.budget, group.workload = budget, budget.workload
                yield group


class BudgetGroup(pytest.Collector):
    """One budget of a file."""

    budget: Budget
    workload: Workload

    @property
    def flops(self) -> Session:
        """What this run knows; `session` is pytest's."""
        return hooks_of(self.config).session

    @cached_property
    def measurement(self) -> Measurement:
        """The count of the workload, for all items."""
        return self._count()

    @cached_property
    def _with_lines(self) -> Measurement:
        """The same, counted again with the lines that red verdicts name."""
        return self._count(lines=True)

    def _count(self, *, lines: bool = False) -> Measurement:
        from pytest_flops.counting.measure import measure_workload

        with self.flops.counting():
            builders, metrics = self.flops.extensions.builders, self.flops.metrics_of(self.budget)
            return measure_workload(self.workload, builders, metrics=metrics, lines=lines)

    def collect(self) -> Iterable[pytest.Item]:
        """The items that have something to hold."""
        budget, flops = self.budget, self.flops
        flops.with_items.add(str(budget.location))
        if budget.limits:
            yield self._item("limits", self._hold_limits)
        if budget.recorded or flops.settings.update or not (budget.limits or budget.scaling):
            yield self._item("recorded", self._hold_recorded)
        for limit in budget.scaling:
            yield self._item(f"scaling[{limit.dimension}]", partial(self._hold_scaling, limit))
        builder = flops.extensions.builder(self.workload.model)
        if builder and builder.parity:
            yield self._item("parity", partial(self._hold_parity, builder.parity))

    def _item(self, name: str, hold: Callable[[Judge], None]) -> BudgetItem:
        item: BudgetItem = BudgetItem.from_parent(self, name=name)
        item.hold, item.subject, item.stash[BUDGET] = hold, self.nodeid, self.budget
        return item

    def _hold_limits(self, judge: Judge) -> None:
        judge.hold(self.measurement, kinds=("limit",), with_lines=lambda: self._with_lines)

    def _hold_recorded(self, judge: Judge) -> None:
        judge.hold(self.measurement, kinds=("recorded",), with_lines=lambda: self._with_lines)
        if not self.budget.recorded and not self.flops.settings.update:
            pytest.skip("not recorded yet: run pytest --flops-update and commit the lock file")

    def _hold_scaling(self, limit: ScalingLimit, judge: Judge) -> None:
        sweep = self.flops.sweep(self.budget, limit, self.workload)
        judge.hold(sweeps=[sweep], kinds=("scaling",))

    def _hold_parity(self, parity: Callable[[Workload], Iterable[Parity]], judge: Judge) -> None:
        """Two ways of counting the workload agree, to the last FLOP."""
        from pytest_flops.budgets.judging.hold import hold_parity

        with self.flops.counting():
            found = hold_parity(parity(self.workload))
        judge.conclude(found)


class BudgetItem(pytest.Item):
    """One thing that one budget holds."""

    hold: Callable[[Judge], None]
    subject: str

    def runtest(self) -> None:
        """Count and judge.

        Raises:
            BudgetExceeded: A verdict is red.
        """
        self.hold(self.stash[RECORDER])

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The budget's line in its file."""
        budget = self.stash[BUDGET]
        line = budget.location.line - 1 if budget.location else None
        # Not the node id: pytest would take its dots for those of a module.
        return self.path, line, f"{budget.name}: {self.name}"
