"""Write a report's files, each whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.files import write_atomically
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.pages.html import render_html
from pytest_flops.reports.pages.markdown import render_markdown
from pytest_flops.reports.report import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flops.reports.comparison.comparison import Comparison
    from pytest_flops.reports.report import Report


def write_reports(
    report: Report,
    directory: str | Path,
    comparison: Comparison | None = None,
    history: Sequence[Report] = (),
) -> list[Path]:
    """Write `flops.json`, `flops.html` and `flops.md` into a folder and return their paths.

    Raises:
        ReportError: A file cannot be written; the older one, if any, is as it was.
    """
    texts = {
        "flops.json": to_json(report),
        "flops.html": render_html(report, comparison=comparison, history=history),
        "flops.md": render_markdown(report, comparison=comparison),
    }
    return [write_text(Path(directory) / name, text) for name, text in texts.items()]


def write_text(path: Path, text: str) -> Path:
    """Put `text` where `path` says, atomically; characters outside Unicode are written escaped.

    Raises:
        ReportError: It cannot be written; the older file, if any, is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ReportError(
            f"cannot write {path}: {error.strerror or error}. An older file there is as it was. "
            "Free the place, or name another one."
        ) from error
    return path
