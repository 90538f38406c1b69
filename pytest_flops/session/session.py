"""`Session`: what one pytest session knows, finds, and concludes at its end."""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.files.catalogue import Catalog
from pytest_flops.hookspecs import joined
from pytest_flops.options import DEFAULT_BUDGETS
from pytest_flops.reports.entry import Entry
from pytest_flops.session.extensions import Extensions, importable
from pytest_flops.session.progress import Progress
from pytest_flops.session.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from fractions import Fraction

    from pytest import Config, Item, Mark

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.parity import Parity
    from pytest_flops.counting.workload import Workload
    from pytest_flops.reports.comparison.comparison import Comparison
    from pytest_flops.reports.report import Report
    from pytest_flops.scaling.sweep import Sweep


class Session:
    """The state of one run behind the hooks; `BudgetHooks` makes it when it first meets a budget.

    Args:
        config: pytest's; its hooks are how other packages extend the gate.

    Attributes:
        catalog: The budgets of the files this run knows.
        entries: What the tests found.
        held: The locations of the budgets that some test held or named.
        left_out: The locations of budgets whose tests were deselected.
        extensions: What other packages registered.
        with_items: The locations of budgets whose own items this process collected.
        own_budgets: The node ids of marked tests that have a budget of their own, since they name
            none.
        test_files: The files of all collected tests, as node ids begin with them.
        notes: Lines for the terminal: what was written, what was not.
        report: Everything together, once the run has ended.
        comparison: The report held against the base, if the user named one.
    """

    def __init__(self, config: Config) -> None:
        settings = Settings.from_config(config)
        self.settings = settings
        self.catalog = Catalog(
            settings.rootdir,
            settings.budgets,
            settings.rootdir / DEFAULT_BUDGETS,
            settings.given,
            builders=lambda: self.extensions.builders,
        )
        self.entries: list[Entry] = []
        self.held: set[str] = set()
        self.left_out: set[str] = set()
        self.with_items: set[str] = set()
        self.own_budgets: set[str] = set()
        self.test_files: set[str] = set()
        self.notes: list[str] = []
        self.extensions = Extensions(config.hook)
        self.report: Report | None = None
        self.comparison: Comparison | None = None
        self._config = config
        self._measured: dict[tuple[str, str], Measurement] = {}

    @cached_property
    def tolerance(self) -> Fraction | None:
        """The tolerance that replaces every budget's own, if the user gave one."""
        if self.settings.tolerance is None:
            return None
        from pytest_flops.budgets.errors import BudgetError
        from pytest_flops.budgets.units import parse_percent

        try:
            return parse_percent(self.settings.tolerance)
        except BudgetError as error:
            raise BudgetError(f"--flops-tolerance: {error}") from error

    @cached_property
    def base(self) -> Report | None:
        """The report to compare with, if the user named one."""
        if self.settings.compare is None:
            return None
        from pytest_flops.reports.report import load_base

        return load_base(self.settings.compare)

    @cached_property
    def history(self) -> tuple[Report, ...]:
        """Past reports, oldest first, if the user named a folder of them."""
        if self.settings.history is None:
            return ()
        from pytest_flops.reports.history import load_history

        return load_history(self.settings.history)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Where this runs, and what other packages add to that."""
        from pytest_flops.reports.environment import environment

        return environment() | joined(self._config.hook.pytest_flops_report(config=self._config))

    def measure(self, budget: Budget) -> Measurement:
        """Count the workload of a budget, once per session.

        Raises:
            WorkloadError: It cannot be built or counted.
        """
        from pytest_flops.counting.measure import measure_workload

        assert budget.workload is not None
        key = (str(budget.location), budget.name)
        if key not in self._measured:
            with self._counting():
                builders = self.extensions.builders
                self._measured[key] = measure_workload(budget.workload, builders)
        return self._measured[key]

    def sweep(
        self, budget: Budget, workload: Workload, dimension: str, sizes: Iterable[int]
    ) -> Sweep:
        """Sweep a workload over one dimension, for a budget.

        Raises:
            ScalingError: A size is rejected, or the sweep says nothing.
            WorkloadError: There is no such builder.
        """
        from pytest_flops.scaling.workloads import sweep_workload

        builders = self.extensions.builders
        with self._counting(), self.progress(f"{budget.name}: {dimension}") as progress:
            return sweep_workload(workload, dimension, sizes, builders=builders, on_count=progress)

    def parity(self, budget: Budget) -> Iterable[Parity]:
        """Count the workload of a budget in the two ways that its builder knows.

        Raises:
            WorkloadError: It cannot be counted.
        """
        assert budget.workload is not None
        builder = self.extensions.builder(budget.workload.model)
        assert builder is not None
        assert builder.parity is not None
        with self._counting():
            return builder.parity(budget.workload)

    def progress(self, subject: str) -> closing[Progress]:
        """A line on the terminal that says how far a long sweep is."""
        return closing(Progress(self._config.pluginmanager, subject))

    @contextmanager
    def _counting(self) -> Iterator[None]:
        self.extensions.register_costs()
        with importable(self.settings.rootdir):
            yield

    def resolve(self, marks: list[Mark], item: Item) -> Budget | str:
        """The budget of a test's markers, or what is wrong with them."""
        from pytest_flops.budgets.errors import BudgetError, BudgetFileError
        from pytest_flops.session.markers import resolve

        # Also of a test whose marker is wrong: its record is not stale for that.
        self.own_budgets.add(item.nodeid)
        try:
            budget = resolve(marks, item.nodeid, self.catalog)
        except BudgetFileError as error:
            return str(error)
        except BudgetError as error:
            file, line, _ = item.location
            place = f"{file}:{(line or 0) + 1}"
            return f"{place}: {item.name}: the marker flops_budget is wrong: {error}"
        if budget.location is not None:
            self.own_budgets.remove(item.nodeid)
        return budget

    def leave_out(self, budget: Budget) -> None:
        """Know that a test of this budget was deselected."""
        if budget.location is not None:
            self.left_out.add(str(budget.location))

    def collected(self) -> dict[str, list[str]]:
        """What a worker of pytest-xdist collected and its controller did not, as plain types."""
        files = [str(path) for path in self.catalog.load_all()]
        return {
            "left_out": sorted(self.left_out),
            "files": files,
            "own_budgets": sorted(self.own_budgets),
            "test_files": sorted(self.test_files),
        }

    def take_over(self, collected: Mapping[str, list[str]]) -> None:
        """Know what a worker collected."""
        self.left_out.update(collected["left_out"])
        self.own_budgets.update(collected["own_budgets"])
        self.test_files.update(collected["test_files"])
        for file in collected["files"]:
            self.catalog.load(Path(file))

    def receive(self, found: Mapping[str, Any]) -> None:
        """Take in what one test report carries."""
        if found["held"] is not None:
            self.held.add(found["held"])
        self.entries.extend(Entry.from_dict(entry) for entry in found["entries"])

    def mistakes(self) -> list[str]:
        """What is wrong with the options and with the budget files that somebody named."""
        return [*self._wrong_options(), *map(str, self.catalog.problems)]

    def _wrong_options(self) -> Iterator[str]:
        from pytest_flops.budgets.errors import BudgetError
        from pytest_flops.reports.errors import ReportError

        yield from self.settings.mistakes
        try:
            self.catalog.load_all()
            _ = self.tolerance, self.base, self.history
        except (BudgetError, ReportError) as error:
            yield str(error)
