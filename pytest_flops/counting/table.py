"""`table`: a measurement as text, one line per component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.components import segments
from pytest_flops.counting.metric import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.counting.measurement import Measurement


def table(measurement: Measurement) -> str:
    """One line per component that cost something, indented as the model is nested, and remarks."""
    components = measurement.components.items()
    costs = [("  " * len(segments(path)) + path, cost) for path, cost in components if cost.total]
    rows = [["component", *QUANTITIES]]
    for name, cost in (("total", measurement.count), *costs):
        rows.append([_printable(name), *(f"{cost.of(quantity):,}" for quantity in QUANTITIES)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join((name.ljust(widths[0]), *map(str.rjust, figures, widths[1:])))
        for name, *figures in rows
    ]
    return "\n".join((*lines, *_remarks(measurement)))


def _remarks(measurement: Measurement) -> Iterator[str]:
    if measurement.recomputed:
        yield f"recomputed in backward (activation checkpointing): {measurement.recomputed:,}"
    for name, calls in measurement.uncounted.items():
        yield f"uncounted: {_printable(name)}, {calls} call{'s' if calls > 1 else ''}"
    if measurement.child_processes:
        yield f"child processes, counted by nobody: {measurement.child_processes}"
    yield from measurement.assumptions


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
