"""A report as lines of a terminal, in pytest's own plain style."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.causes import causes
from pytest_flops.budgets.judging.wording import following, told_within
from pytest_flops.budgets.judging.wording import headline as verdict_headline
from pytest_flops.budgets.units import aligned, format_flops
from pytest_flops.counting.components import in_tree_order
from pytest_flops.counting.metric import QUANTITIES
from pytest_flops.counting.text import in_columns, printable
from pytest_flops.reports.comparison import wording
from pytest_flops.reports.pages import summary
from pytest_flops.reports.pages.sentence import headline, not_measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flops.reports.comparison.comparison import BudgetChange, Comparison
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report

Line = tuple[str, dict[str, bool]]

_GREEN = {"green": True}
_RED = {"red": True}
_BOLD_RED = {"red": True, "bold": True}
_YELLOW = {"yellow": True}
_PLAIN: dict[str, bool] = {}
_MARKUP = {"red": _RED, "close": _YELLOW, "green": _GREEN}

_ROWS = 20
_ROOM_FOR_PHASES = 80
_HEADER = ("budget", "verdict", "limit used", *QUANTITIES)
_BY_NEED = (6, 2, 3, 4, 5)  # after the name and the verdict: the total, the limit, the phases


def terminal_lines(
    report: Report, *, verbosity: int = 0, width: int = 80, comparison: Comparison | None = None
) -> list[Line]:
    """The report as `(text, markup)` lines for `terminalreporter.write_line(text, **markup)`.

    A `verbosity` below 0 is the headline and what is wrong with the run as a whole, which nothing
    else tells; above 0 it adds the components. No line of the table is
    wider than `width`.
    """
    passed = _YELLOW if any(entry.warned for entry in report.held) else _GREEN
    last: Line = (headline(report), passed if report.passed else _BOLD_RED)
    if verbosity < 0:
        return [*_run_errors(report), last]
    against = comparison.by_key if comparison else summary.NO_BASE
    lines = [*_table(report, against, verbosity, width), *_run_errors(report)]
    if left_out := not_measured(report):
        lines.append((left_out, _PLAIN))
    if comparison is not None:
        lines += _changes(comparison)
    return [*lines, last]


def _table(report: Report, against: summary.Against, verbosity: int, width: int) -> list[Line]:
    entries = summary.worst_first(report.held, against)
    if verbosity == 0:
        most = max(_ROWS, sum(summary.tone(entry, against) == "red" for entry in entries))
        told = [entry for entry in entries[most:] if any(summary.remarks(entry))]
        entries = [*entries[:most], *told]
    if not entries:
        return []
    rows = [_HEADER, *_with_points_aligned([_row(entry, against) for entry in entries], names=3)]
    head, *table = in_columns(rows, text=(0, 1, 2), width=width, by_need=_BY_NEED)
    lines: list[Line] = [(head, _PLAIN)]
    for entry, row in zip(entries, table, strict=True):
        lines.append((row, _MARKUP[summary.tone(entry, against)]))
        lines += [(f"  {text}", _RED) for text in _why(entry, verbosity, width - 2)]
        lines += [(f"  {printable(text)}", _YELLOW) for text in summary.remarks(entry)]
        if verbosity > 0:
            lines += _components(entry, width)
    hidden = len(report.held) - len(entries)
    if hidden:
        lines.append((f"and {hidden:,} more within budget; -v shows them", _GREEN))
    return lines


def _why(entry: Entry, verbosity: int, width: int) -> Iterator[str]:
    """What made an entry red, and how much follows from it; all of its red verdicts if asked."""
    found = causes(entry.failures)
    for cause in found:
        yield from told_within(cause.verdict, width)
        if verbosity > 0:
            yield from (f"  {verdict_headline(verdict)}" for verdict in cause.following)
    number = sum(len(cause.following) for cause in found)
    if number and verbosity <= 0:
        yield f"{following(number)}; -v shows all"


def _with_points_aligned(rows: Sequence[tuple[str, ...]], names: int) -> list[tuple[str, ...]]:
    """The same rows with the decimal points of each column after the names below each other."""
    columns = [*zip(*rows, strict=True)]
    return [*zip(*columns[:names], *map(aligned, columns[names:]), strict=True)]


def _row(entry: Entry, against: summary.Against) -> tuple[str, ...]:
    return (
        summary.title(entry),
        summary.status(entry, against),
        summary.limit_used(entry) or "-",
        *summary.totals(entry),
    )


def _components(entry: Entry, width: int) -> list[Line]:
    found = entry.measurement
    if found is None:
        return []
    quantities = QUANTITIES if width >= _ROOM_FOR_PHASES else QUANTITIES[-1:]
    rows = [
        (path or "total", *(format_flops(found.of(q, path)) for q in quantities))
        for path in (*in_tree_order(found.components), None)
    ]
    rows = [("component", *quantities), *_with_points_aligned(rows, names=1)]
    lines = [f"  {row}" for row in in_columns(rows, width=width - 2)]
    for name, values in summary.by_phase(found)[1:]:
        named = zip(QUANTITIES, values, strict=True)
        lines.append(f"  {name}: {', '.join(' '.join(pair) for pair in named if pair[1] != '-')}")
    return [(line, _PLAIN) for line in lines]


def _changes(comparison: Comparison) -> list[Line]:
    changed = wording.changed_budgets(comparison)
    lines: list[Line] = [("against the base:", _PLAIN)] if changed else []
    if tools := wording.other_tools(comparison):
        lines.insert(0, (printable(tools), {"yellow": True}))
    for budget in changed[:_ROWS]:
        markup = _RED if budget.regressed else _PLAIN
        lines += [(text, markup) for text in text_lines(budget)]
    if len(changed) > _ROWS:
        lines.append((f"  and {len(changed) - _ROWS:,} more changed budgets", _PLAIN))
    return lines


def text_lines(budget: BudgetChange) -> Iterator[str]:
    """What changed in one budget, for a terminal."""
    yield f"  {printable(budget.budget)}: {wording.status(budget)}"
    for words, names in wording.details(budget):
        yield f"    {words}{printable(names)}"


def _run_errors(report: Report) -> list[Line]:
    missing = [f"{test} delivered nothing" for test in report.missing]
    found = [*map(str, report.errors), *missing]
    return [(f"error: {printable(text)}", _RED) for text in found]
