"""Past reports of a project, read from a folder, oldest first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import load_report

if TYPE_CHECKING:
    from pytest_flops.reports.report import Report


def load_history(directory: str | Path) -> tuple[Report, ...]:
    """The reports of a folder and the folders in it, by the time they were made.

    Raises:
        ReportError: There is no such folder, or a JSON file in it is no report of ours.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ReportError(f"there is no folder of past reports at {directory}.")
    reports = [load_report(path) for path in sorted(folder.rglob("*.json"))]
    return tuple(sorted(reports, key=lambda report: str(report.environment.get("time"))))
