"""Annotations of a GitHub workflow: messages on the lines of budget files.

See "Workflow commands for GitHub Actions" in GitHub's documentation for the format, its escapes
and `GITHUB_WORKSPACE`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_flops.reports.pages.summary import remarks, status, summary, worst_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.budget import Location
    from pytest_flops.reports.report import Report


def annotate(report: Report, rootdir: Path) -> Iterator[str]:
    """An error for whatever makes the report red: the run's own, then the budgets, worst first.

    What regressed since the base is among the run's own. A warning for each green budget that is
    close to a limit follows. The report's locations are relative to `rootdir`.
    """
    for error in report.errors:
        yield annotation("error", error.message, error.location, rootdir)
    for test in report.missing:
        yield annotation("error", f"{test} delivered nothing", None, rootdir)
    for entry in worst_first(report.red):
        message = f"the budget {entry.budget!r}: {'; '.join(summary(entry))}"
        yield annotation("error", message, entry.location, rootdir)
    for entry in worst_first(report.held):
        if entry.passed and entry.warned:
            message = f"the budget {entry.budget!r} is {next(remarks(entry), status(entry))}"
            yield annotation("warning", message, entry.warned[0].location, rootdir)


def annotation(
    level: Literal["error", "warning", "notice"],
    message: str,
    location: Location | None,
    rootdir: Path | None = None,
) -> str:
    """One workflow command; the file of `location` is relative to `rootdir`."""
    properties = {"title": "FLOPs budget"}
    if location is not None:
        file = _in_repository(location.file, rootdir or Path.cwd())
        place = {"file": file, "line": str(location.line), "col": str(location.column)}
        properties = place | properties
    listed = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{level} {listed}::{_escaped(message)}"


def _in_repository(file: str, rootdir: Path) -> str:
    """The file as GitHub knows it: relative to the checkout, wherever in it the project is."""
    checkout = os.environ.get("GITHUB_WORKSPACE")
    path = rootdir / file
    if checkout and path.is_relative_to(checkout):
        return path.relative_to(checkout).as_posix()
    return file


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
