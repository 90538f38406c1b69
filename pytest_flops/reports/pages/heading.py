"""What stands in large letters on the page, and what is below it in the banner."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging import wording
from pytest_flops.budgets.judging.alike import named
from pytest_flops.budgets.units import format_amount, format_flops
from pytest_flops.counting.metric import QUANTITIES, unit_of
from pytest_flops.counting.text import printable, shorten
from pytest_flops.reports.comparison.wording import leading, regressions, relative
from pytest_flops.reports.pages.sentence import headline, scope
from pytest_flops.reports.pages.summary import cause, status, worst, worst_first
from pytest_flops.reports.pages.waterfall import waterfall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.comparison.comparison import Comparison
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report, SessionError

_LETTERS = 80
"""Three lines of a telephone."""
_NAME = 16
"""So much of a budget's name is told at least."""


def heading(report: Report, comparison: Comparison | None) -> tuple[str, str]:
    """What is red, where, and by how much; then how many are, if that is not all."""
    first = next(iter(worst_first(report.red)), None)
    verdict = worst(first) if first else None
    told = _told(first, comparison)[0] if first else _most_regressed(comparison)
    if report.passed or not told or (verdict and not _has_figures(verdict)):
        return headline(report), ""
    many = scope(report)
    what = told.replace(": ", " is ", 1)
    if first and verdict and report.held[1:] and told == _figures(verdict):
        what = _of_budget(first, verdict)
    return f"Red: {shorten(printable(what), _LETTERS)}", f"{many[0].upper()}{many[1:]}."


def red_budgets(report: Report, comparison: Comparison | None) -> Iterator[tuple[Entry, str]]:
    """The red budgets, worst first, each with what the heading and those before it do not tell."""
    told: set[str] = set()
    for entry in worst_first(report.red):
        verdict, words = worst(entry), _told(entry, comparison)
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


def _told(entry: Entry, comparison: Comparison | None) -> list[str]:
    """What made an entry red, if that is known, without operators; and the figures."""
    verdict = worst(entry)
    if verdict is None:
        return [status(entry)]
    if not _has_figures(verdict):
        return [wording.headline(verdict)]
    because = cause(verdict).partition("; ")[0]
    if " grew by " in because:
        because = because.partition(": ")[0]
    if not verdict.cause and verdict.component is None and verdict.quantity in QUANTITIES:
        because = _grown(entry, comparison)
    return [*[because] * bool(because), _figures(verdict)]


def _figures(verdict: Verdict) -> str:
    return wording.headline(verdict).partition("; ")[0]


def _of_budget(entry: Entry, verdict: Verdict) -> str:
    """The figures with the name of the budget; where both are too long, with fewer figures."""
    about = printable(verdict.about)
    figures = _figures(verdict).removeprefix(about).replace(": ", " is ", 1)
    name = printable(entry.budget.rpartition("::")[2])
    if len(f"{about} of {name}{figures}") > _LETTERS and verdict.kind != "scaling":
        bound = "limit" if verdict.kind == "limit" else "record"
        figures = f" is over its {bound} by {figures.rpartition(', over by ')[2]}"
    room = _LETTERS - len(f"{about} of {figures}")
    return f"{about} of {shorten(name, max(room, _NAME))}{figures}"


def _grown(entry: Entry, comparison: Comparison | None) -> str:
    """What grew since the base, which a budget without a record has as its only witness."""
    budgets = comparison.budgets if comparison else ()
    change = next((each for each in budgets if (each.subject, each.budget) == entry.key), None)
    fall = waterfall(change) if change else None
    rows = [(bar.name, bar.value, bar.value) for bar in fall.steps if bar.value > 0] if fall else []
    if not rows:
        return ""
    return f"{named(rows)} grew by {format_flops(sum(value for _, value, _ in rows))}"


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
    return f"{most.about} of {name} costs {more} more than in the base ({relative(most)})"
