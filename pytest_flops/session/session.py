"""`Session`: what one run of pytest knows of budgets, what its tests find, and its report."""

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
    from collections.abc import Iterator, Mapping
    from fractions import Fraction

    from pytest import Config

    from pytest_flops.budgets.budget import Budget, ScalingLimit
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
        left_to_others: Those among them that a plugin deselected, which may split the suite into
            shards, and not the ini file.
        with_items: The locations of budgets whose own items this process collected.
        own_budgets: The node ids of marked tests that have a budget of their own, since they name
            none.
        test_files: The files of all collected tests, as node ids begin with them.
        notes: Lines for the terminal: what was written, what was not.
        report: Everything together, once the run has ended.
        comparison: The report held against the base, if the user named one.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.settings = settings = Settings(config)
        self.extensions = Extensions(config.hook)
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
        self.left_to_others: set[str] = set()
        self.with_items: set[str] = set()
        self.own_budgets: set[str] = set()
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
        from pytest_flops.budgets.errors import BudgetError
        from pytest_flops.budgets.units import parse_percent

        try:
            return parse_percent(self.settings.tolerance)
        except BudgetError as error:
            raise BudgetError(f"--flops-tolerance: {error}") from error

    @cached_property
    def base(self) -> Report | None:
        """The report to compare with, if the user named one."""
        from pytest_flops.reports.report import load_base

        return load_base(self.settings.compare) if self.settings.compare else None

    @cached_property
    def history(self) -> tuple[Report, ...]:
        """Past reports, oldest first, if the user named a folder of them."""
        from pytest_flops.reports.report import load_history

        return load_history(self.settings.history) if self.settings.history else ()

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Where this runs, and what other packages add to that."""
        from pytest_flops.reports.environment import environment

        return environment() | joined(self._config.hook.pytest_flops_report(config=self._config))

    def mistakes(self) -> Iterator[str]:
        """What is wrong with the options and with the budget files that somebody named."""
        from pytest_flops.budgets.errors import BudgetError
        from pytest_flops.reports.errors import ReportError

        yield from self.settings.mistakes
        try:
            self.catalog.load_all()
            _ = self.tolerance, self.base, self.history
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
                workload, limit.dimension, limit.sizes, builders=builders, on_count=on_count
            )

    def collected(self) -> dict[str, list[str]]:
        """What a worker of pytest-xdist collected and its controller did not, as plain types."""
        return {
            "left_out": sorted(self.left_out),
            "left_to_others": sorted(self.left_to_others),
            "own_budgets": sorted(self.own_budgets),
            "test_files": sorted(self.test_files),
            "files": [str(path) for path in self.catalog.load_all()],
            "foreign_modules": self.foreign_modules(),
        }

    def take_over(self, collected: Mapping[str, list[str]]) -> None:
        """Know what a worker collected."""
        self.left_out.update(collected["left_out"])
        self.left_to_others.update(collected["left_to_others"])
        self.own_budgets.update(collected["own_budgets"])
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
        if found["held"] is not None:
            self.held.add(found["held"])
        self.entries.extend(Entry.from_dict(entry) for entry in found["entries"])
