"""A report as trace events: the JSON that Perfetto, speedscope and `chrome://tracing` open.

Each budget is a process, each of its metrics a thread that runs through the phases and in each
through the components, down to their operators. A call takes as many microseconds as it costs, in
units of the metric; of a step beyond `_LONGEST`, in thousands or millions of them, as the thread's
name says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.components import relative_to
from pytest_flops.reports.pages.flames import flames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.reports.pages.flames import Flames
    from pytest_flops.reports.report import Report

Event = dict[str, Any]

_LONGEST = 10**15  # microseconds: in nanoseconds, which Perfetto counts, 64 bits hold nine times it


def render_trace(report: Report) -> str:
    """The events of everything that was measured, as JSON."""
    return json.dumps({"traceEvents": [*_events(report)]}, separators=(",", ":")) + "\n"


def _events(report: Report) -> Iterator[Event]:
    for process, entry in enumerate(report.entries, start=1):
        if entry.measurement is None:
            continue
        yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": entry.title}}
        for thread, view in enumerate(flames(entry.measurement), start=1):
            # Perfetto names threads by their number alone, so that it is another in each process.
            of = {"pid": process, "tid": 100 * process + thread}
            size = 1
            while sum(view.whole) > _LONGEST * size:
                size *= 1000
            name = f"{view.name} ({view.metric.unit.symbol}, {size:,} per µs)"
            yield {"ph": "M", "name": "thread_name", **of, "args": {"name": name}}
            for call, start, cost in _calls(view):
                # Ends are rounded and not lengths, so that calls stay inside each other.
                begin, end = start // size, (start + cost) // size
                yield {"ph": "X", "name": call, **of, "ts": begin, "dur": end - begin}


def _calls(view: Flames) -> Iterator[tuple[str, int, int]]:
    """Name, start and cost of each phase, and in it of each component and operator, nested."""

    def inside(parent: str | None, place: int, start: int) -> Iterator[tuple[str, int, int]]:
        for path in view.inside.get(parent, ()):
            cost = view.cost(path)[place]
            if cost:
                yield relative_to(path, parent), start, cost
                yield from inside(path, place, start)
                start += cost

    start = 0
    for place, (phase, cost) in enumerate(zip(view.phases, view.whole, strict=True)):
        yield phase, start, cost
        yield from inside(None, place, start)
        start += cost
