"""The commands that read reports: compare, merge, html, trace, badge and show."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.budgets.units import parse_percent
from pytest_flops.counting.text import some
from pytest_flops.reports.comparison.compare import compare as compared
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.history import History, files_of, load_history, load_reports
from pytest_flops.reports.read import load_base, load_report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from fractions import Fraction

    from pytest_flops.reports.report import Report

OK, REGRESSED = 0, 1


def compare(given: argparse.Namespace) -> int:
    """Hold a report against the base's."""
    from pytest_flops.reports.pages.comparison import FORMATS
    from pytest_flops.reports.pages.sentence import headline

    tolerance = _percent(given.tolerance)
    base, head = load_base(given.base), load_report(given.head)
    if not head.held:
        raise ReportError(f"{given.head} measured nothing, so there is nothing to compare.")
    comparison = compared(base, head, tolerance=tolerance)
    print(FORMATS[given.format](comparison), end="")
    if not head.passed:
        print(f"pytest-flops: {given.head} is red by itself: {headline(head)}", file=sys.stderr)
    return OK if head.passed and not comparison.regressed else REGRESSED


def merge(given: argparse.Namespace) -> int:
    """Join the reports of shards, and write what one run would have written."""
    from pytest_flops.reports.merge import merge as merged
    from pytest_flops.reports.write import write_reports

    if given.shards not in (None, len(given.reports)):
        raise ReportError(
            f"{len(given.reports)} of {given.shards} shards have a report here: "
            f"{', '.join(given.reports)}."
        )
    report = merged(load_report(path) for path in given.reports)
    _refuse_to_overwrite(Path(given.output) / "flops.json", given.reports)
    print(*write_reports(report, given.output), sep="\n")
    _tell_why_red(report)
    return OK if report.passed else REGRESSED


def html(given: argparse.Namespace) -> int:
    """Render a report as one page, or many as the page of their trend."""
    from pytest_flops.reports.comparison.wording import judge_regressions
    from pytest_flops.reports.pages.html import render_html

    path = Path(given.reports[0])
    if given.reports[1:] or path.is_dir():
        return _trend(given)
    report, comparison = load_report(path), None
    if given.base:
        tolerance = _percent(given.tolerance)
        comparison = compared(load_report(given.base), report, tolerance=tolerance)
        report = judge_regressions(report, comparison)
    history = load_history(given.history) if given.history else History()
    _tell_left_out(history)
    page = render_html(report, comparison=comparison, history=history.reports)
    _write(given, path.with_suffix(".html"), page, path, *filter(None, [given.base]))
    _tell_why_red(report)
    return OK


def _trend(given: argparse.Namespace) -> int:
    from pytest_flops.reports.pages.trend import render_trend

    for option in ("base", "tolerance", "history"):
        if getattr(given, option):
            raise ReportError(f"--{option} is for the page of one report, and here are several.")
    files = [*files_of(given.reports)]
    history = load_reports(files)
    _tell_left_out(history)
    if not history.reports:
        raise ReportError(f"there is no report of pytest-flops in {some(given.reports)}.")
    first = Path(given.reports[0])
    beside = (first if first.is_dir() else first.parent) / "trend.html"
    _write(given, beside, render_trend(history), *files)
    return OK


def trace(given: argparse.Namespace) -> int:
    """Write a report as trace events."""
    from pytest_flops.reports.pages.trace import render_trace

    report = load_report(given.report)
    if not any(entry.measurement for entry in report.entries):
        raise ReportError(f"{given.report} measured nothing, so there is nothing to draw.")
    path = Path(given.report)
    _write(given, path.with_suffix(".trace.json"), render_trace(report), path)
    return OK


def badge(given: argparse.Namespace) -> int:
    """Write a report as a badge, and print what a README needs to show it."""
    from pytest_flops.reports.pages.badge import render_badge

    path = Path(given.report)
    _write(given, path.with_suffix(".badge.json"), render_badge(load_report(path)), path)
    print("![FLOPs](https://img.shields.io/endpoint?url=WHERE-YOU-PUBLISH-THE-FILE)")
    return OK


def show(given: argparse.Namespace) -> int:
    """Print a report as the run that wrote it did."""
    from pytest_flops.reports.pages.dearest import dearest_lines
    from pytest_flops.reports.pages.terminal import terminal_lines

    report, width = load_report(given.report), shutil.get_terminal_size().columns
    if any(entry.metered for entry in report.entries):
        print(*dearest_lines(report.entries, width=width), sep="\n")
    lines = terminal_lines(report, verbosity=given.verbose, width=width)
    print(*(text for text, _ in lines), sep="\n")
    return OK if report.passed else REGRESSED


def _tell_left_out(history: History) -> None:
    for each in history.left_out:
        print(f"left out: {each}", file=sys.stderr)


def _tell_why_red(report: Report) -> None:
    from pytest_flops.reports.pages.terminal import terminal_lines

    if not report.passed:
        print(
            *(text for text, _ in terminal_lines(report, verbosity=-1)), sep="\n", file=sys.stderr
        )


def _write(given: argparse.Namespace, beside: Path, text: str, *inputs: str | Path) -> None:
    """Write what was made of reports where it was asked for, else beside them; tell where."""
    from pytest_flops.reports.write import write_text

    output = Path(given.output or beside)
    _refuse_to_overwrite(output, inputs)
    print(write_text(output, text))


def _refuse_to_overwrite(output: Path, inputs: Sequence[str | Path]) -> None:
    for name in inputs:
        if output.resolve() == Path(name).resolve():
            raise ReportError(f"{output} is one of the reports given; name another --output.")


def _percent(text: str | None) -> Fraction | None:
    return parse_percent(text) if text else None
