"""The end of a run: stale budgets, recorded counts, the comparison, the report's files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_flops.budgets.files.lock import lock_file_of
from pytest_flops.counting.text import some
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.comparison.wording import judge_regressions
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.fates import BudgetTest, with_fates
from pytest_flops.reports.report import SessionError, build_report, in_order
from pytest_flops.session.recording import keep_records, stale_records, tests_not_recorded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.reports.report import Report
    from pytest_flops.session.session import Session


def conclude(
    session: Session, *, complete: bool, whole_suite: bool, missing: Collection[str] = ()
) -> None:
    """Judge the run as a whole, write what it leaves behind, and keep the report.

    Args:
        session: What the run found; gets the report.
        complete: Whether it came to its end.
        whole_suite: Whether every test of the project was asked for, so that a budget that no test
            held is an error, unless a shard of the suite left its tests to another.
        missing: Tests that a lost worker did not deliver.
    """
    budgets = [budget for named in session.catalog.budgets.values() for budget in named.values()]
    tests = [*session.tests.values(), *_not_collected(session, whole_suite=whole_suite)]
    fates = {test.fate for test in tests}
    if not (session.entries or fates - {"deselected"} or (whole_suite and budgets)):
        return

    settings, ended = session.settings, complete and not missing
    if settings.update or settings.ratchet:
        errors = [*keep_records(session, ended=ended, whole_suite=whole_suite)]
    else:
        errors = [*_not_recorded(session, budgets)]
    errors += _foreign_code(session)
    if ended and whole_suite and not settings.update:
        _tell_stale(session)
    _tell_skipped_files(session)
    session.report = build_report(
        session.entries,
        errors=errors,
        environment=session.environment,
        complete=complete,
        missing=missing,
        budgets_known=with_fates([(each.name, each.location) for each in budgets], tests),
        tests=tests,
        # Another shard may have measured what this one left to it.
        whole_suite=whole_suite and "elsewhere" not in fates,
    )
    # Recording the counts anew accepts whatever grew, so an update compares nothing.
    if session.base is not None and not settings.update:
        session.comparison = compare(session.base, session.report, tolerance=session.tolerance)
        session.report = judge_regressions(session.report, session.comparison)
    try:
        _write(session, session.report)
        if ended and whole_suite and "elsewhere" not in fates:
            _keep(session, session.report)
    except ReportError as error:
        failed = SessionError(str(error))
        session.report = replace(session.report, errors=in_order([*session.report.errors, failed]))
        with suppress(ReportError):  # what could be written is red by now, and must say so
            _write(session, session.report)


def _foreign_code(session: Session) -> Iterator[SessionError]:
    """Code of another worktree of the repository: this run did not count what is checked out."""
    if modules := session.foreign_modules():
        yield SessionError(
            f"this run imported {some(modules)}, which is another worktree of this repository, so "
            "what it counted is not what is checked out here: install this checkout, or put its "
            "folders first on PYTHONPATH",
            kind="checkout",
        )


def _not_collected(session: Session, *, whole_suite: bool) -> Iterator[BudgetTest]:
    """Tests of the base that this run did not collect, where the run itself says why."""
    measured = {test for entry in session.entries for test in entry.tests}
    for entry in session.base.held if session.base else ():
        for test in entry.tests:
            file = test.partition("::")[0]
            found = partial(BudgetTest, test, entry.budget, entry.location)
            if test in session.tests or test in measured:
                continue
            if file in session.skipped_files:
                yield found("skipped", session.skipped_files[file])
            elif not whole_suite and (session.settings.rootdir / file).exists():
                yield found("deselected", "not asked for")


def _not_recorded(session: Session, budgets: list[Budget]) -> Iterator[SessionError]:
    """Budgets without recorded counts: errors if a record is required, else a note."""
    missing = [(budget.name, budget.location) for budget in budgets if budget.recorded is None]
    missing += [(test, None) for test in tests_not_recorded(session)]
    if session.settings.require_recorded:
        for name, location in missing:
            yield SessionError(
                f"the budget {name!r} has no recorded counts: run pytest --flops-update and commit "
                "the lock file",
                location,
            )
    elif missing:
        names = some([name for name, _ in missing])
        session.notes.append(f"not recorded yet: {names} (pytest --flops-update does it)")


def _tell_skipped_files(session: Session) -> None:
    """Whole files of tests that were skipped, and whose records so hold nothing."""
    for file, reason in session.skipped_files.items():
        if lock_file_of(session.settings.rootdir / file).exists():
            session.notes.append(f"{file} was skipped whole, so its records hold nothing: {reason}")


def _tell_stale(session: Session) -> None:
    for lock, keys in stale_records(session).items():
        session.notes.append(
            f"stale in {session.catalog.shown(lock)}, since no test or budget has the name: "
            f"{some([name for _, name in keys])} (pytest --flops-update drops it)"
        )


def _write(session: Session, report: Report) -> None:
    folder, catalog = session.settings.report, session.catalog
    if folder is None:
        return
    from pytest_flops.reports.write import write_reports

    paths = write_reports(report, folder, session.comparison, session.history)
    session.notes.append(f"report: {', '.join(catalog.shown(path) for path in paths)}")


def _keep(session: Session, report: Report) -> None:
    """Add a whole run to the history, unless it counted another checkout."""
    folder = session.settings.history
    if folder is None or any(error.kind == "checkout" for error in report.errors):
        return
    from pytest_flops.reports.history import keep

    session.notes.append(f"history: {session.catalog.shown(keep(report, folder))}")
