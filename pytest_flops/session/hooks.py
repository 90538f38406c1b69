"""The hooks of a run that has budgets; `plugin` registers them when it first meets one.

Every pytest run of every user pays for the hooks in `plugin`: pluggy looks at each hook of a
registered object several times. What only a run with budgets needs stands here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flops import options
from pytest_flops.options import PLUGIN_NAME
from pytest_flops.session.stash import BUDGET, MISTAKE, RECORDER

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from pytest_flops.reports.report import Report
    from pytest_flops.session.session import Session


def hooks_of(config: pytest.Config) -> BudgetHooks:
    """The hooks of this run, registered on first use."""
    hooks: BudgetHooks | None = config.pluginmanager.get_plugin(PLUGIN_NAME)
    if hooks is None:
        hooks = BudgetHooks(config)
        config.pluginmanager.register(hooks, PLUGIN_NAME)
    return hooks


class BudgetHooks:
    """The state of one run behind its hooks, and those hooks that a run without budgets lacks.

    Attributes:
        due: The tests that the workers of pytest-xdist have to deliver.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.due: set[str] = set()
        self._config = config
        self._made: Session | None = None
        self._delivered: set[tuple[str, str]] = set()

    @property
    def session(self) -> Session:
        """What this run knows of budgets, made on first use."""
        if self._made is None:
            from pytest_flops.session.session import Session

            self._made = Session(self._config)
        return self._made

    def refuse_mistakes(self) -> None:
        """Refuse wrong options, and wrong files of budgets that somebody named, at once."""
        if not self._is_worker:
            self._refuse(self.session.mistakes())

    def bind(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """Bind marked tests to their budgets; returns every item that has one."""
        for item in items:
            self._bind(item)
        self.session.test_files.update(item.nodeid.partition("::")[0] for item in items)
        return [item for item in items if BUDGET in item.stash]

    def settle(self, collected: list[pytest.Item], items: list[pytest.Item]) -> None:
        """Take in what other plugins made of the items; with `--flops-only`, keep only ours."""
        for item in set(collected).difference(items):
            self.session.leave_out(item.stash[BUDGET])
        for item in items:
            self._bind(item)
        if self._made is not None and not self._is_worker:
            mistakes = [item.stash[MISTAKE] for item in items if MISTAKE in item.stash]
            self._refuse([*map(str, self.session.catalog.problems), *mistakes])
        if options.only_budgets(self._config):
            others = [item for item in items if not _counts_flops(item)]
            items[:] = [item for item in items if _counts_flops(item)]
            self._config.hook.pytest_deselected(items=others)

    def conclude(self, session: pytest.Session, *, ended: bool) -> None:
        """Judge, update and write, if the run has met a budget; `ended` unless it was cut short."""
        if self._made is not None and not self._is_worker and not self._collects_only:
            self._conclude(session, ended=ended)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a test that holds a budget a fresh recorder, at every try."""
        if MISTAKE in item.stash:
            pytest.fail(item.stash[MISTAKE], pytrace=False)
        if RECORDER in item.stash:
            del item.stash[RECORDER]
        if BUDGET in item.stash:
            from pytest_flops.session.recorder import Recorder

            subject = getattr(item, "subject", item.nodeid)
            item.stash[RECORDER] = Recorder(self.session, item.nodeid, item.stash[BUDGET], subject)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Meter a marked test that does not count by itself; judge when its body has passed."""
        recorder = item.stash.get(RECORDER, None)
        if recorder is None or hasattr(item, "subject"):
            return (yield)
        if "flops" in getattr(item, "fixturenames", ["flops"]):
            result = yield
            _raise_kept(item)
        else:
            with recorder.measure():
                result = yield
                _raise_kept(item)
        recorder.finish()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the report carry what the test found, and tell a red verdict in its own words."""
        recorder = item.stash.get(RECORDER, None)
        if recorder is None:
            return (yield)
        if call.when == "call":
            item.user_properties.extend(recorder.properties())
        report = yield
        if report.failed and call.when != "teardown":
            recorder.note_failure(call.excinfo.value if call.excinfo else None)
        elif hasattr(report, "wasxfail"):
            recorder.excuse(report.wasxfail)
        report.flops = recorder.record()  # type: ignore[attr-defined]
        if report.failed and call.excinfo and not hasattr(item, "subject"):
            report.longrepr = recorder.retold(call.excinfo.value, _place(item)) or report.longrepr
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a report carries, from this process or from a worker's."""
        self._delivered.add((report.nodeid, report.when))
        found = getattr(report, "flops", None)
        if found is not None and report.outcome != "rerun":  # type: ignore[comparison-overlap]
            self.session.receive(found)

    def pytest_sessionfinish(self) -> None:
        """Tell the controller of pytest-xdist what only a worker sees."""
        if self._is_worker and self._made is not None:
            self._config.workeroutput["flops"] = self.session.collected()  # type: ignore[attr-defined]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was found about budgets."""
        if self._made is None or self.session.report is None:
            return
        from pytest_flops.reports.pages.terminal import terminal_lines

        terminalreporter.section("FLOPs budgets")
        for text, markup in terminal_lines(
            self.session.report,
            verbosity=self._config.get_verbosity(),
            width=terminalreporter._tw.fullwidth,  # noqa: SLF001 - the only place that knows
            comparison=self.session.comparison,
        ):
            terminalreporter.write_line(text, **markup)
        for note in self.session.notes:
            terminalreporter.write_line(note)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from pytest_flops.reports.pages.github import annotate

            for line in annotate(self.session.report, self._config.rootpath):
                terminalreporter.write_line(line)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in what only a worker of pytest-xdist sees."""
        collected = getattr(node, "workeroutput", {}).get("flops")
        if collected is not None:
            self.session.take_over(collected)

    @property
    def _is_worker(self) -> bool:
        return hasattr(self._config, "workerinput")

    @property
    def _collects_only(self) -> bool:
        return bool(self._config.getoption("collectonly"))

    def _bind(self, item: pytest.Item) -> None:
        """Find the budget of a marked test, or what is wrong with its markers."""
        if _concerns_budgets(item):
            return
        marks = list(item.iter_markers(options.MARKER))
        if marks:
            found = self.session.resolve(marks, item)
            if isinstance(found, str):
                item.stash[MISTAKE] = found
            else:
                item.stash[BUDGET] = found

    def _refuse(self, mistakes: list[str]) -> None:
        if mistakes:
            raise pytest.UsageError(*dict.fromkeys(mistakes))

    def _conclude(self, session: pytest.Session, *, ended: bool) -> None:
        from pytest_flops.session.finish import conclude

        finished = {nodeid for nodeid, when in self._delivered if when == "teardown"}
        conclude(
            self.session,
            complete=ended,
            whole_suite=ended and self._ran_whole_suite(session),
            missing=self.due - finished if ended else (),
        )
        self._refuse([str(problem) for problem in self.session.catalog.problems])
        report = self.session.report
        if report is not None:
            self._tell_junit(report)
            session.testsfailed += len(report.errors) + len(report.missing)
            # A test may swallow its red verdict; a red report is a failed session all the same.
            session.testsfailed = session.testsfailed or len(report.red)

    def _tell_junit(self, report: Report) -> None:
        """Put the verdict and what regressed among the properties of the JUnit file, if any."""
        from _pytest.junitxml import xml_key  # pytest has no public name for it

        xml = self._config.stash.get(xml_key, None)
        if xml is not None:
            xml.add_global_property("flops.passed", str(report.passed).lower())
            for error in report.errors:
                if error.kind == "regression":
                    xml.add_global_property("flops.regression", error.message)

    def _ran_whole_suite(self, session: pytest.Session) -> bool:
        """Whether every test of the project was there, so that a budget nobody held is stale."""
        config = session.config
        option = config.option
        narrowed = (
            option.keyword,
            option.markexpr,
            option.deselect,
            option.ignore,
            option.ignore_glob,
            getattr(option, "lf", False),
            getattr(option, "stepwise", False),
        )
        sources = pytest.Config.ArgsSource
        named = config.args_source is sources.ARGS
        below = config.args_source is sources.INVOCATION_DIR and (
            config.invocation_params.dir != config.rootpath
        )
        return not (any(narrowed) or named or below)


def _place(item: pytest.Item) -> tuple[Path, int]:
    return item.path, (item.location[1] or 0) + 1


def _counts_flops(item: pytest.Item) -> bool:
    return _concerns_budgets(item) or "flops" in getattr(item, "fixturenames", ())


def _concerns_budgets(item: pytest.Item) -> bool:
    return BUDGET in item.stash or MISTAKE in item.stash


def _raise_kept(item: pytest.Item) -> None:
    """Raise the failure or skip of a unittest test, which pytest keeps aside until its report."""
    for kept in getattr(item, "_excinfo", None) or ():
        raise kept.value
