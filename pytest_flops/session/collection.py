"""Budget files as test files: each budget a group of items, one for each thing it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_flops.session.stash import BUDGET, RECORDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_flops.budgets.budget import Budget, ScalingLimit
    from pytest_flops.session.recorder import Recorder
    from pytest_flops.session.session import Gate


class BudgetFile(pytest.File):
    """A YAML file of budgets."""

    gate: Gate

    @classmethod
    def of(cls, parent: pytest.Collector, path: Path, gate: Gate) -> BudgetFile:
        """The collector of one file."""
        file: BudgetFile = cls.from_parent(parent, path=path)
        file.gate = gate
        return file

    def collect(self) -> Iterable[pytest.Collector]:
        """One group for each budget that has a workload; mistakes are kept for the session.

        Raises:
            CollectError: The file has mistakes and this is a worker of pytest-xdist, which has no
                other way to tell the controller.
        """
        budgets = self.gate.catalog.load(self.path)
        if not budgets and hasattr(self.config, "workerinput"):
            raise self.CollectError("\n".join(map(str, self.gate.catalog.problems)))
        for name, budget in budgets.items():
            if budget.workload is not None:
                yield BudgetGroup.of(self, budget, name=name)


class BudgetGroup(pytest.Collector):
    """One budget of a file."""

    budget: Budget
    gate: Gate

    @classmethod
    def of(cls, parent: BudgetFile, budget: Budget, *, name: str) -> BudgetGroup:
        """The group of one budget."""
        group: BudgetGroup = cls.from_parent(parent, name=name)
        group.budget, group.gate = budget, parent.gate
        return group

    def collect(self) -> Iterable[pytest.Item]:
        """The items that have something to hold."""
        budget = self.budget
        self.gate.with_items.add(str(budget.location))
        if budget.limits:
            yield self._item("limits", BudgetItem.hold_limits)
        if budget.recorded or self.gate.settings.update or not (budget.limits or budget.scaling):
            yield self._item("recorded", BudgetItem.hold_recorded)
        for limit in budget.scaling:
            item = self._item(f"scaling[{limit.dimension}]", BudgetItem.hold_scaling)
            item.scaling_limit = limit
            yield item
        builder = self.gate.extensions.builder(budget.workload.model) if budget.workload else None
        if builder and builder.parity:
            yield self._item("parity", BudgetItem.hold_parity)

    def _item(self, name: str, hold: Callable[[BudgetItem, Recorder], None]) -> BudgetItem:
        item: BudgetItem = BudgetItem.from_parent(self, name=name)
        item.budget, item.gate, item.hold = self.budget, self.gate, hold
        item.subject = self.nodeid
        item.stash[BUDGET] = self.budget
        return item


class BudgetItem(pytest.Item):
    """One thing that one budget holds."""

    budget: Budget
    gate: Gate
    subject: str
    hold: Callable[[BudgetItem, Recorder], None]
    scaling_limit: ScalingLimit

    def runtest(self) -> None:
        """Count and judge.

        Raises:
            BudgetExceeded: A verdict is red.
        """
        self.hold(self, self.stash[RECORDER])

    def hold_limits(self, recorder: Recorder) -> None:
        """The count is within every limit."""
        recorder.hold(self.gate.measure(self.budget), kinds=("limit",))

    def hold_recorded(self, recorder: Recorder) -> None:
        """The count is no higher than the recorded one and the tolerance allow."""
        recorder.hold(self.gate.measure(self.budget), kinds=("recorded",))
        if not self.budget.recorded and not self.gate.settings.update:
            pytest.skip("not recorded yet: run pytest --flops-update and commit the lock file")

    def hold_scaling(self, recorder: Recorder) -> None:
        """The cost grows no faster than allowed over one dimension."""
        assert self.budget.workload is not None
        limit = self.scaling_limit
        sweep = self.gate.sweep(self.budget, self.budget.workload, limit.dimension, limit.sizes)
        recorder.hold(sweeps=[sweep], kinds=("scaling",))

    def hold_parity(self, recorder: Recorder) -> None:
        """Two ways of counting the workload agree, to the last FLOP."""
        from pytest_flops.budgets.judging.hold import hold_parity

        recorder.conclude(hold_parity(self.gate.parity(self.budget)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The verdict's own words; a traceback only for what nobody foresaw."""
        return self.stash[RECORDER].retold(excinfo.value) or super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The budget's line in its file."""
        line = self.budget.location.line - 1 if self.budget.location else None
        # Not the node id: pytest would take its dots for those of a module.
        return self.path, line, f"{self.budget.name}: {self.name}"
