"""`table`: a measurement as text, one line per component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.components import depth, segments
from pytest_flops.counting.metric import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flops.counting.measurement import Measurement


def table(measurement: Measurement, levels: int | None = None) -> str:
    """One line per component that cost something, indented as the model is nested, and remarks.

    Where `levels` says so, none of the components below that depth.
    """
    components = measurement.components.items()
    costs = [
        ("  " * len(segments(path)) + path, cost)
        for path, cost in components
        if cost.total and (levels is None or depth(path) <= levels)
    ]
    rows = [["component", *QUANTITIES]]
    for name, cost in (("total", measurement.count), *costs):
        rows.append([name, *(f"{cost.of(quantity):,}" for quantity in QUANTITIES)])
    return "\n".join((*aligned(rows), *remarks(measurement)))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a name and figures as lines, the names from the left and the figures to the right."""
    rows = [[_printable(name), *figures] for name, *figures in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join((name.ljust(widths[0]), *map(str.rjust, figures, widths[1:])))
        for name, *figures in rows
    ]


def remarks(measurement: Measurement) -> Iterator[str]:
    """What a count says beside its figures, a line each."""
    if measurement.recomputed:
        yield f"recomputed in backward (activation checkpointing): {measurement.recomputed:,}"
    for name, calls in measurement.uncounted.items():
        yield f"uncounted: {_printable(name)}, {calls} call{'s' if calls > 1 else ''}"
    if measurement.child_processes:
        yield f"child processes, counted by nobody: {measurement.child_processes}"
    yield from measurement.assumptions


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
