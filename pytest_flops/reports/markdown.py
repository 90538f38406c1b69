"""A report as Markdown, for a job's summary and a pull request's comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flops.budgets.units import format_flops
from pytest_flops.budgets.wording import headline as verdict_headline
from pytest_flops.budgets.wording import printable
from pytest_flops.counting.count import QUANTITIES
from pytest_flops.reports.changes import leading, relative
from pytest_flops.reports.compare import BudgetChange, compare
from pytest_flops.reports.standing import fullest, headline, state, worst_first
from pytest_flops.reports.text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report

MAX_BYTES = 60_000
"""GitHub takes 65,536 characters in a comment; this leaves room for the caller's own words."""

_UNFOLDED = 20
_RED_VERDICTS = 8
_NAME = 100
_RESERVE = 800
_COLUMNS = "| | budget | limit used | forward | backward | optimizer | total |"
_RULE = "|---|---|---|--:|--:|--:|--:|"


def render_markdown(
    report: Report, *, base: Report | None = None, max_bytes: int = MAX_BYTES
) -> str:
    """The report, worst first, in at most `max_bytes` of UTF-8; what has no room is counted.

    Args:
        report: What to tell.
        base: A report to show changes against.
        max_bytes: The most the reader takes; at least 2,000.
    """
    sign = "✅" if report.passed else "❌"
    page = _Page(max_bytes)
    page.add([f"## {sign} {plain(headline(report))}", ""])
    page.add_items(_run_errors(report), "more errors")
    page.add_items(_red_entries(report), "more red budgets")
    if base is not None:
        page.add_items(_changed(base, report), "more changed budgets")
    _add_table(page, worst_first(report.entries))
    return page.text


def code(text: str) -> str:
    """User's text as inline code, which no reader takes for markup, mentions or links."""
    shown = shorten(printable(text), _NAME).replace("|", "\\|") or " "
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def plain(text: str) -> str:
    """User's text as plain text: markup escaped, mentions and references broken up."""
    shown = shorten(printable(text), 4 * _NAME)
    escaped = re.sub(r"([\\`*_{}\[\]()|~!])", r"\\\1", shown)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([@#])(?=\w)", "\\1\u200b", escaped)


class _Page:
    """Lines within a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._lines: list[str] = []
        self._left = max_bytes - _RESERVE

    @property
    def text(self) -> str:
        return "\n".join(self._lines).rstrip() + "\n"

    def add(self, lines: Sequence[str]) -> bool:
        """Add all of the lines, or none where there is no room."""
        size = sum(len(line.encode("utf-8", "backslashreplace")) + 1 for line in lines)
        if size > self._left:
            return False
        self._left -= size
        self._lines += lines
        return True

    def always(self, lines: Sequence[str]) -> None:
        """Add short lines that were reserved for."""
        self._lines += lines

    def add_items(self, items: Sequence[Sequence[str]], more: str) -> None:
        """Add as many items as fit into half of what is left, and say how many did not."""
        end = self._left // 2
        for place, lines in enumerate(items):
            if self._left < end or not self.add(lines):
                self.add([f"- … and {len(items) - place:,} {more}"])
                break
        if items:
            self.add([""])


def _run_errors(report: Report) -> list[list[str]]:
    errors = [
        [f"- ❌ {code(e.location) + ': ' if e.location else ''}{plain(e.message)}"]
        for e in report.errors
    ]
    return errors + [[f"- ❌ {code(test)} delivered nothing"] for test in report.missing]


def _red_entries(report: Report) -> list[list[str]]:
    return [list(_red_entry(entry)) for entry in worst_first(report.red)]


def _red_entry(entry: Entry) -> Iterator[str]:
    place = f" at {code(entry.location)}" if entry.location else ""
    yield f"- ❌ {code(entry.budget)} {state(entry)}{place}"
    for verdict in entry.failures[:_RED_VERDICTS]:
        yield f"  - {plain(verdict_headline(verdict))}"
        if verdict.parts:
            path, flops, above = verdict.parts[0]
            grown = f", {above:+,} FLOP" if above is not None else ""
            yield f"    most of it: {code(path)} ({format_flops(flops)}{grown})"
    if len(entry.failures) > _RED_VERDICTS:
        yield f"  - … and {len(entry.failures) - _RED_VERDICTS:,} more red verdicts"


def _changed(base: Report, report: Report) -> list[list[str]]:
    budgets = compare(base, report).budgets
    found = [list(_change(budget)) for budget in budgets if budget.status != "same"]
    return [["### Against the base", ""], *found] if found else [["Against the base: no change."]]


def _change(budget: BudgetChange) -> Iterator[str]:
    yield f"- {code(budget.budget)}: {budget.status}"
    for change in leading(budget)[:5]:
        about = code(change.component) if change.component else "everything"
        yield (f"  - {about} {change.quantity}: {change.difference:+,} FLOP ({relative(change)})")


def _add_table(page: _Page, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    page.always([_COLUMNS, _RULE])
    shown = _add_rows(page, entries[:_UNFOLDED])
    rest = entries[shown:]
    if rest and shown == _UNFOLDED:
        page.always(["", f"<details><summary>{len(rest):,} more budgets</summary>", ""])
        page.always([_COLUMNS, _RULE])
        shown += _add_rows(page, rest)
        page.always(["", "</details>"])
    if shown < len(entries):
        page.always(["", f"{len(entries) - shown:,} more are in `flops.html` and `flops.json`."])


def _add_rows(page: _Page, entries: Sequence[Entry]) -> int:
    """How many of the entries found room, from the first on."""
    for place, entry in enumerate(entries):
        if not page.add([_row(entry)]):
            return place
    return len(entries)


def _row(entry: Entry) -> str:
    use = fullest(entry)
    used = f"{use.percent} of {plain(use.about)}" if use else "no limit"
    counts = entry.measurement.count if entry.measurement else None
    numbers = [format_flops(counts.of(q)) if counts else "-" for q in QUANTITIES]
    cells = ["✅" if entry.passed else "❌", code(entry.budget), used, *numbers]
    return f"| {' | '.join(cells)} |"
