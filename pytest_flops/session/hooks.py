"""The hooks of a run that has budgets; `plugin` registers them when it first meets one.

Every pytest run of every user pays for the hooks in `plugin`: pluggy looks at each hook of a
registered object several times. What only a run with budgets needs stands here.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flops import options
from pytest_flops.session.extensions import Extensions
from pytest_flops.session.metering import metering, raise_kept

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.reports.fates import Fate
    from pytest_flops.session.recorder import Recorder
    from pytest_flops.session.session import Session

# What pytest's items keep for us.
BUDGET: pytest.StashKey[Budget] = pytest.StashKey()
MARKS: pytest.StashKey[list[pytest.Mark]] = pytest.StashKey()
MISTAKE: pytest.StashKey[str] = pytest.StashKey()
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()


def hooks_of(config: pytest.Config) -> BudgetHooks:
    """The hooks of this run, registered on first use."""
    hooks: BudgetHooks | None = config.pluginmanager.get_plugin(options.PLUGIN_NAME)
    if hooks is None:
        hooks = BudgetHooks(config)
        config.pluginmanager.register(hooks, options.PLUGIN_NAME)
    return hooks


class BudgetHooks:
    """The hooks that a run without budgets lacks, and what `plugin`'s hooks do in a run with some.

    Attributes:
        due: The tests that the workers of pytest-xdist have to deliver.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.due: set[str] = set()
        self._config = config
        self._made: Session | None = None
        self._extensions = Extensions(config.hook)
        # Kept beside `due`: xdist replaces a lost worker, and the new one collects everything anew.
        self._finished: set[str] = set()
        self._is_worker = hasattr(config, "workerinput")
        self._left_out: set[pytest.Item] = set()

    @property
    def session(self) -> Session:
        """What this run knows of budgets, made on first use."""
        if self._made is None:
            from pytest_flops.session.session import Session

            self._made = Session(self._config, self._extensions)
        return self._made

    def pytest_plugin_registered(self, plugin: object) -> None:
        """Know a plugin's metrics; pytest calls this for those that were registered before, too."""
        self._extensions.register_metrics(plugin)

    def refuse_mistakes(self) -> None:
        """Refuse wrong options, and wrong files of budgets that somebody named, at once."""
        if not self._is_worker:
            _refuse(self.session.mistakes())

    def bind(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """Bind marked tests to their budgets; returns every item that has one."""
        for item in items:
            self._bind(item)
        self.session.catalog.load_for({item.path.parent for item in items})
        self.session.test_files.update(item.nodeid.partition("::")[0] for item in items)
        return [item for item in items if _holds_budget(item)]

    def refuse_late_marker(self, item: pytest.Item) -> None:
        """Fail a test that has got a marker since it was bound to its budget."""
        if len(_marks(item)) > len(item.stash.get(MARKS, ())):
            pytest.fail(
                f"a fixture or hook added the marker {options.MARKER} when the test was set up, "
                "too late to hold it: write the marker at the test, or add it in "
                "pytest_collection_modifyitems",
                pytrace=False,
            )

    def settle(self, collected: list[pytest.Item], items: list[pytest.Item]) -> None:
        """Take in what other plugins made of the items; with `--flops-only`, keep only ours."""
        for item in items:
            self._bind(item)
        self._note_fates([*dict.fromkeys([*collected, *filter(_holds_budget, items)])], set(items))
        if self._made is not None and not self._is_worker:
            mistakes = [item.stash[MISTAKE] for item in items if MISTAKE in item.stash]
            problems = map(str, self.session.catalog.problems)
            of_options = self.session.settings.mistakes
            _refuse([*of_options, *self._extensions.mistakes, *problems, *mistakes])
        if options.chosen(self._config, "flops_only"):
            others = [item for item in items if not _counts_flops(item)]
            items[:] = [item for item in items if _counts_flops(item)]
            self._config.hook.pytest_deselected(items=others)

    def conclude(self, session: pytest.Session, *, ended: bool) -> None:
        """Judge, update and write, if the run has met a budget; `ended` unless it was cut short."""
        if self._made is None or self._is_worker or self._config.getoption("collectonly"):
            return
        # A worker of pytest-xdist may have read files that the controller has not.
        _refuse(map(str, self.session.catalog.problems))
        from pytest_flops.session.finish import conclude
        from pytest_flops.session.junit import tell_junit
        from pytest_flops.session.selection import narrowing

        narrowed_by = narrowing(self._config)
        conclude(
            self.session,
            complete=ended,
            whole_suite=ended and not narrowed_by,
            missing=self.due - self._finished if ended else (),
        )
        report = self.session.report
        if report is not None:
            if narrowed_by and any(known.is_stale for known in report.budgets_known):
                why = f"since {narrowed_by} narrows the run"
                self.session.notes.append(f"not judged: budgets that no test measured, {why}")
            tell_junit(self._config, report, tests_failed=session.testsfailed)
            session.testsfailed += len(report.errors) + len(report.missing)
            # The exit code says what the report says, also where a test swallowed its red verdict,
            # or every test of a budget was skipped and nothing was measured.
            session.testsfailed = session.testsfailed or int(not report.passed)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a test that holds a budget a fresh recorder, at every try.

        First of all, since the fixtures that the others set up take the recorder.
        """
        if MISTAKE in item.stash:
            pytest.fail(item.stash[MISTAKE], pytrace=False)
        if RECORDER in item.stash:
            del item.stash[RECORDER]
        if BUDGET in item.stash:
            from pytest_flops.session.recorder import Recorder

            subject = getattr(item, "subject", item.nodeid)
            item.stash[RECORDER] = Recorder(self.session, item.nodeid, item.stash[BUDGET], subject)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Meter a marked test that does not count by itself; judge when its body has passed.

        Inside what pytest captures and logs, which a body that runs twice needs twice.
        """
        recorder = item.stash.get(RECORDER, None)
        if recorder is None:
            return (yield from self._meter_unmarked(item))
        if _is_of_a_file(item):
            return (yield)
        if _asks_for_flops(item):
            result = yield
            raise_kept(item)
        else:
            with metering(item, partial(recorder.metering, recorder.budget)):
                result = yield
                raise_kept(item)
        recorder.finish()
        return result

    def _meter_unmarked(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """With `--flops`, meter a test without a budget; what passed is told, and never judged."""
        if not options.chosen(self._config, "flops") or _asks_for_flops(item):
            return (yield)
        from pytest_flops.session.recorder import Recorder

        recorder = Recorder(self.session, item.nodeid, budget=None)
        with metering(item, lambda _: recorder.meter()):
            result = yield
            raise_kept(item)
        if recorder.entries:
            item.stash[RECORDER] = recorder
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the report carry what the test found, and tell a red verdict in its own words."""
        recorder = item.stash.get(RECORDER, None)
        if recorder is None:
            report = yield
            if report.skipped and self._made is not None and _counts_flops(item):
                self._note_skipped(item, report)
            return report
        if call.when == "call":
            item.user_properties.extend(recorder.properties())
        report = yield
        error = call.excinfo.value if call.excinfo else None
        xfailed = hasattr(report, "wasxfail")
        broke = xfailed and report.skipped and not isinstance(error, pytest.xfail.Exception)
        if (report.failed or (broke and not recorder.is_red)) and call.when != "teardown":
            recorder.note_failure(error)
        elif xfailed:
            recorder.excuse(report.wasxfail)
        if report.skipped:
            recorder.note_skip(_why_skipped(report))
        report.flops = recorder.record(str(report.when))  # type: ignore[attr-defined]
        if report.failed and error is not None:
            report.longrepr = self._told(item, error, recorder.budget) or report.longrepr
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a report carries, from this process or from a worker's."""
        if report.when == "teardown":
            self._finished.add(report.nodeid)
        found = getattr(report, "flops", None)
        if found is None:
            return
        outcome: str = report.outcome
        self.session.receive(_counts_alone(found) if outcome == "rerun" else found)

    def pytest_sessionfinish(self) -> None:
        """Tell the controller of pytest-xdist what only a worker sees."""
        if self._is_worker and self._made is not None:
            self._config.workeroutput["flops"] = self.session.collected()  # type: ignore[attr-defined]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was found about budgets, and with `--flops` which tests cost most."""
        if self._made is None:
            return
        report, metered = self.session.report, options.chosen(self._config, "flops")
        if report is None and not metered:
            return
        width = terminalreporter._tw.fullwidth  # noqa: SLF001 - the only place that knows
        terminalreporter.section("FLOPs budgets")
        if metered:
            from pytest_flops.reports.pages.dearest import dearest_lines

            for line in dearest_lines(self.session.entries, width=width):
                terminalreporter.write_line(line)
        if report is None:
            return
        from pytest_flops.reports.pages.terminal import terminal_lines

        verbosity, comparison = self._config.get_verbosity(), self.session.comparison
        lines = terminal_lines(report, verbosity=verbosity, width=width, comparison=comparison)
        for text, markup in lines:
            terminalreporter.write_line(text, **markup)
        for note in self.session.notes:
            terminalreporter.write_line(note)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from pytest_flops.reports.pages.github import annotate

            for line in annotate(report, self._config.rootpath):
                terminalreporter.write_line(line)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in what only a worker of pytest-xdist sees."""
        collected = getattr(node, "workeroutput", {}).get("flops")
        if collected is not None:
            self.session.take_over(collected)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Know what pytest itself leaves out (`-k`, `-m`, `--deselect`): the rest, a shard does."""
        frame = sys._getframe(1)  # noqa: SLF001 - the hook does not say who calls it
        while frame.f_back and frame.f_globals["__name__"].startswith("pluggy."):
            frame = frame.f_back
        if frame.f_globals["__name__"].startswith("_pytest."):
            self._left_out.update(items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Know which test files were skipped whole, for instance by `pytest.importorskip`."""
        if report.skipped:
            self.session.skipped_files[report.nodeid] = _why_skipped(report)

    def _bind(self, item: pytest.Item) -> None:
        """Find the budget of a marked test, or what is wrong with its markers."""
        marks = _marks(item)
        if len(marks) == len(item.stash.get(MARKS, ())) or _is_of_a_file(item):
            return
        from pytest_flops.budgets.errors import BudgetError
        from pytest_flops.session.markers import budget_of, mistake

        item.stash[MARKS] = marks
        try:
            budget = budget_of(item, self.session.catalog)
        except BudgetError as error:
            item.stash[MISTAKE] = mistake(error, item)
        else:
            if budget is not None:
                item.stash[BUDGET] = budget

    def _note_fates(self, ours: list[pytest.Item], kept: set[pytest.Item]) -> None:
        """Note what becomes of every test that holds a budget, until its reports arrive."""
        from pytest_flops.reports.fates import BudgetTest

        for item in ours:
            fate: Fate = "unreached"
            if item not in kept:
                fate = "deselected" if item in self._left_out else "elsewhere"
            budget = item.stash.get(BUDGET, None)
            name, place = (budget.name, budget.location) if budget else (item.nodeid, None)
            self.session.tests[item.nodeid] = BudgetTest(item.nodeid, name, place, fate)

    def _note_skipped(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Note an unmarked test that was skipped: in the base it may have held limits of a call."""
        if self.session.settings.compare:
            from pytest_flops.reports.fates import BudgetTest
            from pytest_flops.reports.report import as_record

            test = BudgetTest(item.nodeid, item.nodeid, None, "skipped", _why_skipped(report))
            report.flops = {"test": as_record(test), "entries": []}  # type: ignore[attr-defined]

    def _told(self, item: pytest.Item, error: BaseException, budget: Budget | None) -> str | None:
        """An error of ours in its own words, and the line of a marked test that raised it."""
        from pytest_flops.session.failures import line_that_raised, retold

        text = retold(error, budget)
        if text is None or _is_of_a_file(item):
            return text
        line = line_that_raised(error, item.path) or (item.location[1] or 0) + 1
        return f"{text}\n\n{self.session.catalog.shown(item.path)}:{line}"


def _why_skipped(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason that the author of a skip or of an expected failure gives."""
    if hasattr(report, "wasxfail"):
        return f"xfail: {report.wasxfail.removeprefix('reason: ')}"
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _refuse(mistakes: Iterable[str]) -> None:
    found = dict.fromkeys(mistakes)
    if found:
        raise pytest.UsageError(*found)


def _is_of_a_file(item: pytest.Item) -> bool:
    """Whether it is a `BudgetItem`, which is not imported before a budget file is met."""
    return hasattr(item, "subject")


def _counts_flops(item: pytest.Item) -> bool:
    return _holds_budget(item) or "flops" in getattr(item, "fixturenames", ())


def _asks_for_flops(item: pytest.Item) -> bool:
    """Whether a test counts by itself, or is none of Python's."""
    return "flops" in getattr(item, "fixturenames", ["flops"])


def _holds_budget(item: pytest.Item) -> bool:
    return BUDGET in item.stash or MISTAKE in item.stash


def _counts_alone(found: dict[str, Any]) -> dict[str, Any]:
    """What a try found that pytest-rerunfailures repeats.

    The last try is judged. The counts of those before it stay, since the same code costs the same:
    two tries with different counts are an error, as two tests with different counts are.
    """
    counted = (entry for entry in found["entries"] if entry["measurement"])
    return found | {"entries": [entry | {"verdicts": [], "scaling": []} for entry in counted]}


def _marks(item: pytest.Item) -> list[pytest.Mark]:
    """The markers of a test that are ours or may be meant to be, nearest first."""
    return [mark for mark in item.iter_markers() if options.is_nearly_the_marker(mark.name)]
