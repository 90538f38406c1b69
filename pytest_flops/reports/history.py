"""Past reports of a folder, for the small lines of history."""

from __future__ import annotations

from pathlib import Path

from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import Report, load_report


def load_history(directory: str | Path) -> tuple[Report, ...]:
    """Every `*.json` of the folder and below, oldest first by the time in its environment.

    Raises:
        ReportError: There is no such folder, or one of the files is no report.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ReportError(f"cannot read the history: {folder} is no folder.")
    reports = (load_report(file) for file in sorted(folder.rglob("*.json")))
    return tuple(sorted(reports, key=_time))


def _time(report: Report) -> str:
    return str(report.environment.get("time") or "")
