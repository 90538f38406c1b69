"""The end of a session: stale budgets, recorded counts, the comparison, the report's files."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import KnownBudget, build_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.gate import Gate
    from pytest_flops.reports.outcome import Outcome
    from pytest_flops.reports.report import Fate, Report

SessionErrors = list[dict[str, Any]]


def conclude(gate: Gate, *, complete: bool, whole_suite: bool, missing: Iterable[str] = ()) -> None:
    """Judge the session as a whole, write what it leaves behind, and set `gate.report`.

    Args:
        gate: The session.
        complete: Whether it came to its end.
        whole_suite: Whether every test of the project was there, so that a budget that no test
            held is an error.
        missing: Tests that a lost worker did not deliver.
    """
    known = _known_budgets(gate)
    if not (gate.outcomes or gate.held or (whole_suite and known)):
        return

    def report_with(errors: SessionErrors) -> Report:
        return build_report(
            gate.outcomes,
            errors=errors,
            environment=gate.environment,
            complete=complete,
            missing=missing,
            budgets_known=known,
            whole_suite=whole_suite,
        )

    errors = [*_update(gate)] if gate.settings.update else []
    errors += _regressions(gate, report_with(errors))
    gate.report = report_with(errors)
    try:
        _write(gate, gate.report)
    except ReportError as error:
        gate.report = report_with([*errors, {"message": str(error)}])


def _known_budgets(gate: Gate) -> list[KnownBudget]:
    measured = {outcome.location for outcome in gate.outcomes}

    def fate(location: str) -> Fate:
        if location in measured:
            return "measured"
        if location in gate.held:
            return "skipped"
        return "deselected" if location in gate.left_out else "unnamed"

    return [
        KnownBudget(budget.name, str(budget.location), fate(str(budget.location)))
        for budgets in gate.catalog.load_all().values()
        for budget in budgets.values()
    ]


def _update(gate: Gate) -> Iterator[dict[str, Any]]:
    """Write the recorded counts into the budget files; yield what could not be written."""
    from pytest_flops.budgets.update import recorded_from, update_recorded

    counted: dict[Path, dict[str, Measurement]] = defaultdict(dict)
    for outcome in gate.outcomes:
        if outcome.location is None or outcome.measurement is None or _is_no_count(outcome):
            continue
        file = gate.catalog.file_of(outcome.location)
        first = counted[file].setdefault(outcome.budget, outcome.measurement)
        if first.count != outcome.measurement.count:
            del counted[file][outcome.budget]
            yield {
                "message": f"the budget {outcome.budget!r} was counted with different results by "
                "several tests; nothing was recorded for it",
                "location": outcome.location,
            }
    for file, measurements in counted.items():
        changes = {name: recorded_from(found) for name, found in measurements.items()}
        try:
            changed = update_recorded(file, changes)
        except BudgetError as error:
            yield {"message": str(error), "location": None}
            continue
        names = ", ".join(sorted(changes))
        state = "recorded" if changed else "already recorded"
        gate.notes.append(f"{state} in {gate.catalog.shown(file)}: {names}")


def _is_no_count(outcome: Outcome) -> bool:
    return any(verdict.kind == "error" for verdict in outcome.verdicts)


def _regressions(gate: Gate, report: Report) -> SessionErrors:
    """What got dearer since the base, if one was given."""
    if gate.base is None:
        return []
    from pytest_flops.reports.changes import regressions
    from pytest_flops.reports.compare import compare

    comparison = compare(gate.base, report, tolerance=gate.tolerance)
    return [
        {"message": message, "location": location} for message, location in regressions(comparison)
    ]


def _write(gate: Gate, report: Report) -> None:
    if gate.settings.report is None:
        return
    from pytest_flops.reports.write import write_reports

    paths = write_reports(report, gate.settings.report, base=gate.base, history=gate.history)
    gate.notes.append(f"report: {', '.join(gate.catalog.shown(path) for path in paths)}")
