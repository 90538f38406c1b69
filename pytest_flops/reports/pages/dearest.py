"""The tests that cost most, as lines of a terminal: what `pytest --flops` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.budgets.units import format_flops
from pytest_flops.counting.components import by_parent
from pytest_flops.counting.text import in_columns, percent, printable, shorten, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.reports.entry import Entry

_ROWS = 10
_HEADER = ("test", "FLOPs", "share", "more than half in")
_COMPONENT = 24


def dearest_lines(entries: Iterable[Entry], *, width: int = 80) -> Iterator[str]:
    """A table of the dearest, no line of it wider than `width`; how many more; how to hold one."""
    counted = {entry.key: entry for entry in entries if entry.measurement}
    found = [(entry, entry.measurement) for entry in counted.values() if entry.measurement]
    if not found:
        yield "no test ran an operator of PyTorch that computes anything"
        return
    found.sort(key=lambda pair: (-pair[1].count.total, pair[0].key))
    whole = sum(measurement.count.total for _, measurement in found)
    rows = [
        (entry.subject, format_flops(total), percent(total, whole), mostly_in(each))
        for entry, each in found[:_ROWS]
        for total in [each.count.total]
    ]
    yield from in_columns([_HEADER, *rows], text=(0, 3), width=width)
    if rest := found[_ROWS:]:
        total = sum(measurement.count.total for _, measurement in rest)
        more = f"{len(rest):,} more test{'s' if len(rest) > 1 else ''}"
        yield f"and {more}: {format_flops(total)}, {percent(total, whole)}"
    if low := [printable(entry.subject) for entry, measurement in found if measurement.uncounted]:
        yield f"cost more than counted, by operators without a known cost: {some(low)}"
    dearest, measurement = found[0]
    if dearest.metered:
        limit = f"total={measurement.count.total:_}"
        yield f"to hold the first to its cost, mark it: @pytest.mark.flops_budget({limit})"


def mostly_in(measurement: Measurement) -> str:
    """The deepest component that is more than half of the whole; empty where there is none."""
    children, path = by_parent(measurement.components), None
    while True:
        below = max(children.get(path, ()), key=lambda p: measurement.of("total", p), default=None)
        if below is None or 2 * measurement.of("total", below) <= measurement.count.total:
            return shorten(printable(path or ""), _COMPONENT)
        path = below
