"""What stands in large letters on the page, and what is below it in the banner."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import printable
from pytest_flops.budgets.judging import wording
from pytest_flops.budgets.units import format_amount
from pytest_flops.counting.metric import unit_of
from pytest_flops.reports.comparison.wording import leading, regressions, relative
from pytest_flops.reports.pages.summary import cause, headline, scope, status, worst, worst_first
from pytest_flops.reports.text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.comparison.comparison import Comparison
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report, SessionError

_LETTERS = 80
"""Three lines of a telephone."""


def heading(report: Report, comparison: Comparison | None) -> tuple[str, str]:
    """What is red, where, and by how much; then how many are, if that is not all."""
    red = worst_first(report.red)
    verdict = worst(red[0]) if red else None
    told = _told(verdict)[0] if verdict else _most_regressed(comparison)
    if report.passed or not told or (verdict and not _has_figures(verdict)):
        return headline(report), ""
    many = scope(report)
    what = told.replace(": ", " is ", 1)
    return f"Red: {shorten(printable(what), _LETTERS)}", f"{many[0].upper()}{many[1:]}."


def red_budgets(report: Report) -> Iterator[tuple[Entry, str]]:
    """The red budgets, worst first, each with what the heading and those before it do not tell."""
    told: set[str] = set()
    for entry in worst_first(report.red):
        verdict = worst(entry)
        words = _told(verdict) if verdict else [status(entry)]
        if not told and verdict and _has_figures(verdict):
            told.add(words[0])  # by the heading
        yield entry, "; ".join(each for each in words if each not in told)
        told.update(words[:1])


def untold_errors(report: Report, comparison: Comparison | None) -> list[SessionError]:
    """What is wrong with the run itself, but for what the table of changes shows in figures."""
    if comparison is None or comparison.foreign:
        return [*report.errors]
    counted = tuple(budget for budget in comparison.budgets if budget.changes)
    shown = regressions(replace(comparison, budgets=counted))
    return [error for error in report.errors if error not in shown]


def _has_figures(verdict: Verdict) -> bool:
    return verdict.kind not in ("error", "parity")


def _told(verdict: Verdict) -> list[str]:
    """What made a verdict red, if that is known, without operators; and its figures."""
    figures = wording.headline(verdict)
    if not _has_figures(verdict):
        return [figures]
    because = cause(verdict).partition("; ")[0]
    if " grew by " in because:
        because = because.partition(": ")[0]
    return [*[because] * bool(because), figures.partition("; ")[0]]


def _most_regressed(comparison: Comparison | None) -> str:
    """The largest regression against the base, in a phrase; empty where there is none."""
    grown = [
        (change, budget.budget.rpartition("::")[2])
        for budget in (comparison.budgets if comparison else ())
        for change in leading(budget)[:1]
        if change.regressed
    ]
    if not grown:
        return ""
    most, name = max(grown, key=lambda pair: pair[0].difference)
    more = format_amount(most.difference, unit_of(most.quantity))
    about = f"{most.component or ''} {most.quantity}".lstrip()
    return f"{about} of {name} costs {more} more than in the base ({relative(most)})"
