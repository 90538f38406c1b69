"""A report as Markdown, for a job's summary and a pull request's comment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.causes import causes
from pytest_flops.budgets.judging.wording import acceptance, following, told
from pytest_flops.reports.comparison import wording
from pytest_flops.reports.pages import summary
from pytest_flops.reports.pages.markdown_page import MAX_BYTES, Page, code, plain
from pytest_flops.reports.pages.sentence import headline, not_measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flops.reports.comparison.comparison import BudgetChange, Comparison
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report

_UNFOLDED = 20
_RED_VERDICTS = 8
_SIGNS = {"red": "❌", "close": "⚠️", "green": "✅"}
_COLUMNS = "| | budget | limit used | forward | backward | optimizer | total |"
_RULE = "|---|---|---|--:|--:|--:|--:|"


def render_markdown(
    report: Report, *, comparison: Comparison | None = None, max_bytes: int = MAX_BYTES
) -> str:
    """The report, worst first, in at most `max_bytes` of UTF-8; what has no room is counted.

    2,000 bytes are the least.
    """
    sign = "✅" if report.passed else "❌"
    page = Page(max_bytes)
    page.add([f"## {sign} {plain(headline(report))}", ""])
    page.add_items(_run_errors(report), "more errors")
    red = summary.worst_first(report.red)
    page.add_items([list(_red_entry(entry)) for entry in red], "more red budgets")
    if comparison is not None:
        changes = markdown_items(comparison)
        if tools := wording.other_tools(comparison):
            page.add([plain(tools), ""])
        page.add(["### Against the base", ""] if changes else ["Against the base: no change.", ""])
        page.add_items(changes, "more changed budgets")
    if left_out := not_measured(report):
        page.add([plain(left_out), ""])
    remarks = [(entry, text) for entry in report.entries for text in summary.remarks(entry)]
    page.add_items(
        [[f"- {code(entry.title)}: {plain(text)}"] for entry, text in remarks], "more remarks"
    )
    _add_table(page, report.entries, comparison.by_key if comparison else summary.NO_BASE)
    return page.text


def _run_errors(report: Report) -> list[list[str]]:
    errors = [
        [f"- ❌ {code(str(e.location)) + ': ' if e.location else ''}{plain(e.message)}"]
        for e in report.errors
    ]
    return errors + [[f"- ❌ {code(test)} delivered nothing"] for test in report.missing]


def _red_entry(entry: Entry) -> Iterator[str]:
    place = f" at {code(str(entry.location))}" if entry.location else ""
    yield f"- ❌ {code(entry.title)} {summary.status(entry)}{place}"
    found = causes(entry.failures)
    for cause in found[:_RED_VERDICTS]:
        yield from (f"  - {plain(words)}" for words in told(cause.verdict))
    if len(found) > _RED_VERDICTS:
        yield f"  - … and {len(found) - _RED_VERDICTS:,} more red verdicts"
    if number := sum(len(cause.following) for cause in found):
        yield f"  - {following(number)}; `flops.html` lists all"
    yield from (f"  - {plain(way)}" for way in acceptance(entry.failures))


def markdown_items(comparison: Comparison) -> list[list[str]]:
    """The budgets that changed as items of a list, regressions first."""
    return [list(_changed_budget(budget)) for budget in wording.changed_budgets(comparison)]


def _changed_budget(budget: BudgetChange) -> Iterator[str]:
    sign = "❌ " if budget.regressed else ""
    place = f" at {code(str(budget.location))}" if budget.location else ""
    yield f"- {sign}{code(budget.budget)} {wording.status(budget)}{place}"
    for words, names in wording.details(budget):
        yield f"  - {words}{code(names) if names else ''}"


def _add_table(page: Page, entries: Sequence[Entry], against: summary.Against) -> None:
    shown = 0
    for entry in summary.worst_first(entries, against):
        if shown == _UNFOLDED:
            more = f"{len(entries) - shown:,} more budgets"
            page.always(["", f"<details><summary>{more}</summary>", ""])
        if shown in (0, _UNFOLDED):
            page.always([_COLUMNS, _RULE])
        if not page.add([_row(entry, against)]):
            break
        shown += 1
    if len(entries) > _UNFOLDED <= shown:
        page.always(["", "</details>"])
    if shown < len(entries):
        page.always(["", f"{len(entries) - shown:,} more are in `flops.html` and `flops.json`."])


def _row(entry: Entry, against: summary.Against) -> str:
    share = plain(summary.limit_used(entry) or "-")
    cells = [
        _SIGNS[summary.tone(entry, against)],
        code(summary.title(entry)),
        share,
        *summary.totals(entry),
    ]
    return f"| {' | '.join(cells)} |"
