"""The end of a session: stale budgets, recorded counts, the comparison, the report's files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from pytest_flops.reports.comparison.comparison import compare
from pytest_flops.reports.comparison.wording import judge_regressions
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import (
    KnownBudget,
    SessionError,
    build_report,
    in_order,
)
from pytest_flops.session.recording import keep_records, stale_records, tests_not_recorded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pytest_flops.budgets.budget import Budget, Location
    from pytest_flops.reports.report import Fate, Report
    from pytest_flops.session.session import Gate

_NAMED = 5


def conclude(
    gate: Gate, *, complete: bool, whole_suite: bool, missing: Collection[str] = ()
) -> None:
    """Judge the session as a whole, write what it leaves behind, and keep it in the gate.

    Args:
        gate: The session.
        complete: Whether it came to its end.
        whole_suite: Whether every test of the project was asked for, so that a budget that no test
            held is an error, unless a shard of the suite left its tests to another.
        missing: Tests that a lost worker did not deliver.
    """
    known = _known_budgets(gate)
    if not (gate.entries or gate.held or (whole_suite and known)):
        return

    ended = complete and not missing
    if gate.settings.writes:
        errors = [*keep_records(gate, ended=ended, whole_suite=whole_suite)]
    else:
        errors = [*_not_recorded(gate)]
    if ended and whole_suite and not gate.settings.update:
        _tell_stale(gate)
    gate.report = build_report(
        gate.entries,
        errors=errors,
        environment=gate.environment,
        complete=complete,
        missing=missing,
        budgets_known=known,
        whole_suite=whole_suite and all(budget.fate != "deselected" for budget in known),
    )
    # Recording the counts anew accepts whatever grew, so an update compares nothing.
    if gate.base is not None and not gate.settings.update:
        gate.comparison = compare(gate.base, gate.report, tolerance=gate.tolerance)
        gate.report = judge_regressions(gate.report, gate.comparison)
    try:
        _write(gate, gate.report)
    except ReportError as error:
        failed = SessionError(str(error))
        gate.report = replace(gate.report, errors=in_order([*gate.report.errors, failed]))
        with suppress(ReportError):  # what could be written is red by now, and must say so
            _write(gate, gate.report)


def _known_budgets(gate: Gate) -> list[KnownBudget]:
    measured = {str(entry.location) for entry in gate.entries}

    def fate(budget: Budget) -> Fate:
        location = str(budget.location)
        if location in measured:
            return "measured"
        if location in gate.held:
            return "skipped"
        return "deselected" if location in gate.left_out else "unnamed"

    return [
        KnownBudget(budget.name, budget.location, fate(budget))
        for budgets in gate.catalog.load_all().values()
        for budget in budgets.values()
    ]


def _not_recorded(gate: Gate) -> Iterator[SessionError]:
    """Budgets without recorded counts: errors if a record is required, else a note."""
    missing: list[tuple[str, Location | None]] = [
        (budget.name, budget.location)
        for budgets in gate.catalog.load_all().values()
        for budget in budgets.values()
        if budget.recorded is None
    ]
    missing += [(test, None) for test in tests_not_recorded(gate)]
    if gate.settings.require_recorded:
        for name, location in missing:
            yield SessionError(
                f"the budget {name!r} has no recorded counts: run pytest --flops-update and commit "
                "the lock file",
                location,
            )
    elif missing:
        names = _some(name for name, _ in missing)
        gate.notes.append(f"not recorded yet: {names} (pytest --flops-update does it)")


def _tell_stale(gate: Gate) -> None:
    for lock, keys in stale_records(gate).items():
        gate.notes.append(
            f"stale in {gate.catalog.shown(lock)}, since no test or budget has the name: "
            f"{_some(name for _, name in keys)} (pytest --flops-update drops it)"
        )


def _some(names: Iterable[str]) -> str:
    first, more = list(islice(names := iter(names), _NAMED)), sum(1 for _ in names)
    return f"{', '.join(first)} and {more:,} more" if more else ", ".join(first)


def _write(gate: Gate, report: Report) -> None:
    if gate.settings.report is None:
        return
    from pytest_flops.reports.write import write_reports

    if gate.catalog.foreign:
        files = ", ".join(sorted(gate.catalog.shown(path) for path in gate.catalog.foreign))
        gate.notes.append(f"left alone, since they do not look like budgets: {files}")
    paths = write_reports(report, gate.settings.report, gate.comparison, gate.history)
    gate.notes.append(f"report: {', '.join(gate.catalog.shown(path) for path in paths)}")
