"""`Session`: what one run of pytest knows of budgets, what its tests find, and its report."""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.files.catalogue import Catalog
from pytest_flops.counting.metric import described, learn
from pytest_flops.counting.registration import names_in
from pytest_flops.hookspecs import joined
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.fates import BudgetTest, best_of_tests
from pytest_flops.reports.read import load_base
from pytest_flops.reports.report import as_record, placed
from pytest_flops.session.extensions import importable
from pytest_flops.session.progress import Progress
from pytest_flops.session.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from fractions import Fraction

    from pytest import Config

    from pytest_flops.budgets.budget import Budget, ScalingLimit
    from pytest_flops.counting.workload import Workload
    from pytest_flops.reports.comparison.comparison import Comparison
    from pytest_flops.reports.report import Report
    from pytest_flops.scaling.sweep import Sweep
    from pytest_flops.session.extensions import Extensions


class Session:
    """The state of one run behind the hooks; `BudgetHooks` makes it when it first meets a budget.

    Args:
        config: pytest's.
        extensions: What other packages add to the gate.

    Attributes:
        catalog: The budgets of the files this run knows.
        entries: What the tests found.
        tests: Every collected test that holds a budget, by node id, and what became of it so far.
        with_items: The locations of budgets whose own items this process collected.
        skipped_files: The test files that were skipped whole, and why.
        test_files: The files of all collected tests, as node ids begin with them.
        notes: Lines for the terminal: what was written, what was not.
        report: Everything together, once the run has ended.
        comparison: The report held against the base, if the user named one.
    """

    def __init__(self, config: Config, extensions: Extensions) -> None:
        self._config = config
        self.settings = settings = Settings(config)
        self.extensions = extensions
        self.catalog = Catalog(
            settings.rootdir,
            settings.budgets,
            settings.given,
            builders=lambda: self.extensions.builders,
        )
        self.entries: list[Entry] = []
        self.tests: dict[str, BudgetTest] = {}
        self.with_items: set[str] = set()
        self.skipped_files: dict[str, str] = {}
        self._foreign_modules: set[str] = set()
        self.test_files: set[str] = set()
        self.notes: list[str] = []
        self.report: Report | None = None
        self.comparison: Comparison | None = None

    @cached_property
    def tolerance(self) -> Fraction | None:
        """The tolerance that replaces every budget's own, if the user gave one."""
        if self.settings.tolerance is None:
            return None
        from pytest_flops.budgets.units import parse_percent

        try:
            return parse_percent(self.settings.tolerance)
        except BudgetError as error:
            raise BudgetError(f"--flops-tolerance: {error}") from error

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the user asked for, beside those that budgets ask for."""
        try:
            return names_in(self.settings.metrics)
        except ValueError as error:
            raise BudgetError(f"--flops-metrics: {error}") from error

    def metrics_of(self, budget: Budget | None) -> tuple[str, ...]:
        """The metrics to count for a budget, or for none."""
        return (*(budget.metrics if budget else ()), *self.metrics)

    @cached_property
    def base(self) -> Report | None:
        """The report to compare with, if the user named one."""
        return load_base(self.settings.compare) if self.settings.compare else None

    @cached_property
    def history(self) -> tuple[Report, ...]:
        """Past reports, oldest first, of the folder that the user named, if it is there yet."""
        from pytest_flops.reports.history import load_history

        folder = self.settings.history
        if folder is None or not folder.exists():
            return ()
        found = load_history(folder)
        self.notes += [f"left out of the history: {each}" for each in found.left_out]
        return found.reports

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Where this runs, and what other packages add to that."""
        from pytest_flops.reports.environment import environment

        return environment() | joined(self._config.hook.pytest_flops_report(config=self._config))

    def mistakes(self) -> Iterator[str]:
        """What is wrong with the options and with the budget files that somebody named."""
        yield from self.settings.mistakes
        yield from self.extensions.mistakes
        try:
            self.catalog.load_named()
            _ = self.metrics, self.tolerance, self.base, self.history
        except (BudgetError, ReportError) as error:
            yield str(error)
        yield from map(str, self.catalog.problems)

    @contextmanager
    def counting(self, subject: str = "") -> Iterator[Progress]:
        """What counting a workload needs: custom costs, modules of rootdir, a line of progress."""
        self.extensions.register_costs()
        with (
            importable(self.settings.rootdir),
            closing(Progress(self._config.pluginmanager, subject)) as on_count,
        ):
            yield on_count

    def sweep(self, budget: Budget, limit: ScalingLimit, workload: Workload) -> Sweep:
        """Sweep a workload as a scaling limit of a budget asks for.

        Raises:
            ScalingError: A size is rejected, or the sweep says nothing.
            WorkloadError: There is no such builder.
        """
        from pytest_flops.scaling.workloads import sweep_workload

        builders = self.extensions.builders
        with self.counting(f"{budget.name}: {limit.dimension}") as on_count:
            return sweep_workload(
                workload,
                limit.dimension,
                limit.sizes,
                metrics=tuple(limit.metrics),
                builders=builders,
                on_count=on_count,
            )

    def collected(self) -> dict[str, Any]:
        """What a worker of pytest-xdist collected and its controller did not, as plain types."""
        return {
            "tests": [as_record(test) for test in self.tests.values()],
            "skipped_files": self.skipped_files,
            "test_files": sorted(self.test_files),
            "files": [str(path) for path in self.catalog.budgets],
            "foreign_modules": self.foreign_modules(),
            "metrics": described(),
        }

    def take_over(self, collected: Mapping[str, Any]) -> None:
        """Know what a worker collected."""
        learn(collected["metrics"])
        theirs = [BudgetTest(**placed(test)) for test in collected["tests"]]
        self.tests = {t.test: t for t in best_of_tests([*self.tests.values(), *theirs])}
        self.skipped_files.update(collected["skipped_files"])
        self.test_files.update(collected["test_files"])
        self._foreign_modules.update(collected["foreign_modules"])
        for file in collected["files"]:
            self.catalog.load(Path(file))

    def foreign_modules(self) -> list[str]:
        """What was imported from another worktree of the repository, here and by the workers."""
        from pytest_flops.session.checkout import modules_of_another_worktree

        here = modules_of_another_worktree(self.settings.rootdir)
        return sorted(self._foreign_modules.union(here))

    def receive(self, found: Mapping[str, Any]) -> None:
        """Take in what one test report carries."""
        if found["test"] is not None:
            test = BudgetTest(**placed(found["test"]))
            self.tests[test.test] = test
        self.entries.extend(Entry.from_dict(entry) for entry in found["entries"])
