"""The whole report in one sentence, and the tests that it left out in another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.wording import subject
from pytest_flops.counting.text import printable, shorten, some
from pytest_flops.reports.pages.summary import holds_something, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.fates import Fate
    from pytest_flops.reports.report import Report

_NAME = 120
_FAILURES = {
    "error": ("could not be judged", "could not be judged"),
    "limit": ("is over its limit", "are over their limits"),
    "recorded": ("costs more than recorded", "cost more than recorded"),
    "scaling": ("grows too fast", "grow too fast"),
    "parity": ("fails its parity check", "fail their parity checks"),
}
"""By kind of the worst verdict: what one or several budgets do."""

_FAULTS = {
    "regression": ("budget is red against its base", "budgets are red against their base"),
    "stale": ("budget is measured by no test", "budgets are measured by no test"),
    "checkout": ("run imported another worktree's code", "runs imported another worktree's code"),
    "error": ("error of the run itself", "errors of the run itself"),
    "missing": ("test delivered nothing", "tests delivered nothing"),
}
"""By kind of what is wrong with the run as a whole: what one or several of it are."""

_LEFT_OUT: dict[Fate, str] = {
    "unreached": "not reached",
    "deselected": "deselected",
    "elsewhere": "taken out by another plugin or a conftest, as shards are",
}


def headline(report: Report) -> str:
    """The whole report in one sentence."""
    if report.is_idle_shard and report.passed:
        return "Green: other shards have every test."
    if not report.entries and not report.errors and not report.missing:
        return "Red: nothing was measured."
    if report.passed and not report.held:
        return f"Metered {len(report.entries):,}, and nothing was held."
    if report.passed:
        number = len(report.held)
        hold = "the one budget holds" if number == 1 else f"all {number:,} budgets hold"
        idle = sum(not holds_something(entry) for entry in report.held)
        but = f", but {idle} of {number} hold{'s' if idle == 1 else ''} nothing yet" if idle else ""
        return f"Green: {hold}{but}{_close(report.held)}."
    return f"Red: {scope(report, _cause_of_all(report.red))}."


def scope(report: Report, because: str = "") -> str:
    """How many budgets are red and how, and what is wrong with the run itself."""
    return ", and ".join([*_red_budgets(report, because), *_faults(report)])


def not_measured(report: Report) -> str:
    """In one line, the tests that were skipped or left out; empty if every test was measured."""
    skipped = [f"{t.test} ({t.reason or 'skipped'})" for t in report.tests if t.fate == "skipped"]
    numbers = Counter(test.fate for test in report.tests)
    listed = [some(skipped)] if skipped else []
    listed += [f"{numbers[fate]:,} {words}" for fate, words in _LEFT_OUT.items() if numbers[fate]]
    return printable(f"not measured: {'; '.join(listed)}") if listed else ""


def _close(entries: Sequence[Entry]) -> str:
    number = sum(bool(entry.warned) for entry in entries)
    words = "close to its limit" if number == 1 else "close to their limits"
    return f", {f'{number:,} ' * (len(entries) > 1)}{words}" if number else ""


def _red_budgets(report: Report, because: str) -> list[str]:
    red, of = report.red, len(report.held)
    if not red:
        return []
    kinds = {found.kind for entry in red if (found := worst(entry))}
    one, many = _FAILURES[kinds.pop()] if len(kinds) == 1 else ("is red", "are red")
    who = "the one budget" if of == 1 else f"{len(red):,} of {of:,} budgets"
    return [f"{who} {one if len(red) == 1 else many}{f': {because}' if because else ''}"]


def _cause_of_all(red: Sequence[Entry]) -> str:
    """What made them red, in short, if it is the same; of one without a cause, what it is of."""
    found = [verdict for entry in red if (verdict := worst(entry))]
    causes_told = {verdict.cause.partition(": ")[0] for verdict in found}
    told_of_all = causes_told.pop() if len(causes_told) == 1 else ""
    if len(found) == 1 and found[0].kind not in ("error", "parity"):
        told_of_all = told_of_all or subject(found[0])
    return shorten(printable(told_of_all), _NAME)


def _faults(report: Report) -> list[str]:
    kinds = [*(error.kind for error in report.errors), *["missing"] * len(report.missing)]
    numbers = Counter(kinds)
    faults = [
        f"{number:,} {one if number == 1 else many}"
        for kind, (one, many) in _FAULTS.items()
        if (number := numbers[kind])
    ]
    if not report.complete and not report.missing:
        faults.append("the run did not come to its end")
    return faults
