"""Past reports of a folder: read for the lines of history, and kept there by whole runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.files import delete
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.read import load_report
from pytest_flops.reports.report import to_json
from pytest_flops.reports.write import write_text

if TYPE_CHECKING:
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report

KEPT = 100
_OURS = re.compile(r"flops-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9A-Za-z-]*\.json")


def load_history(directory: str | Path) -> tuple[Report, ...]:
    """Every `*.json` of the folder and below, oldest first by the time in its environment.

    Raises:
        ReportError: There is no such folder, or one of the files is no report.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ReportError(f"cannot read the history: {folder} is no folder.")
    reports = [load_report(file) for file in sorted(folder.rglob("*.json"))]
    return tuple(sorted(reports, key=lambda report: str(report.environment.get("time") or "")))


def keep(report: Report, directory: Path) -> Path:
    """Write what a history shows of a report into the folder, and delete the oldest of ours there.

    The name is of the report's time and commit. What others put there stays.

    Raises:
        ReportError: It cannot be written, or an old one not deleted.
    """
    time, commit = (str(report.environment.get(key) or "") for key in ("time", "commit"))
    name = re.sub(r"[^0-9A-Za-z]+", "-", f"flops-{time[:19]}-{commit[:12]}").strip("-")
    entries = tuple(map(_in_whole, report.entries))
    short = replace(report, entries=entries, tests=(), budgets_known=())
    path = write_text(directory / f"{name}.json", to_json(short))
    kept = sorted(each for each in directory.iterdir() if _OURS.fullmatch(each.name))
    try:
        for old in kept[:-KEPT]:
            delete(old)
    except OSError as error:
        raise ReportError(f"cannot delete an old report of {directory}: {error}.") from error
    return path


def _in_whole(entry: Entry) -> Entry:
    """An entry without what makes reports large: components, operators, sweeps."""
    red_or_whole = tuple(v for v in entry.verdicts if v.component is None or not v.passed)
    found = entry.measurement
    if found is not None:
        wholes = {
            name: replace(costs, components={}, details={}) for name, costs in found.metrics.items()
        }
        parts = "components", "operations", "own_operations", "found_at"
        nothing: dict[str, Any] = {key: {} for key in parts}
        found = replace(found, **nothing, not_called=(), metrics=wholes)
    verdicts = red_or_whole or entry.verdicts[:1]
    return replace(entry, measurement=found, verdicts=verdicts, scaling=())
