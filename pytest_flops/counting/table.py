"""`table`: a measurement as text, one line per component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.components import depth, segments
from pytest_flops.counting.metric import FLOPS, METRICS, phase_of, quantities_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Metric


def table(measurement: Measurement, levels: int | None = None) -> str:
    """One line per component that cost something, indented as the model is nested, and remarks.

    Each metric has a table of its own. Where `levels` says so, there is no component below that
    depth.
    """
    metrics = [METRICS[name] for name in measurement.metrics if name in METRICS]
    tables = [aligned([*_rows(measurement, metric, levels)]) for metric in (FLOPS, *metrics)]
    return "\n".join(("\n\n".join(map("\n".join, tables)), *remarks(measurement)))


def _rows(measurement: Measurement, metric: Metric, levels: int | None) -> Iterator[list[str]]:
    quantities = quantities_of(metric)
    name = "component" if metric is FLOPS else f"{metric.name} ({metric.unit.symbol})"
    yield [name, *map(phase_of, quantities)]
    yield ["total", *(f"{measurement.of(quantity):,}" for quantity in quantities)]
    own = measurement if metric is FLOPS else measurement.metrics[metric.name]
    for path in own.components:
        costs = [measurement.of(quantity, path) for quantity in quantities]
        if any(costs) and (levels is None or depth(path) <= levels):
            yield ["  " * len(segments(path)) + path, *(f"{cost:,}" for cost in costs)]


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
    for name, lines in measurement.lines.items():
        if METRICS[name].of_compiler:
            yield from (f"{name}: {_printable(line)} ({times})" for line, times in lines.items())
    yield from measurement.assumptions


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
