"""`table`: a measurement as text, one line per component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.components import segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.counting.count import FLOPsCount
    from pytest_flops.counting.measurement import Measurement

_COLUMNS = ("component", "forward", "backward", "optimizer", "total")


def table(measurement: Measurement) -> str:
    """One line per component that cost something, indented as the model is nested, and remarks."""
    rows = [_COLUMNS, _row("total", measurement.count)]
    for path, cost in measurement.components.items():
        if cost.total:
            rows.append(_row("  " * len(segments(path)) + path, cost))
    return "\n".join((*_aligned(rows), *_remarks(measurement)))


def _remarks(measurement: Measurement) -> Iterator[str]:
    if measurement.recomputed:
        yield f"recomputed in backward (activation checkpointing): {measurement.recomputed:,}"
    for name, calls in measurement.uncounted.items():
        yield f"uncounted: {_printable(name)}, {calls} call{'s' if calls > 1 else ''}"
    if measurement.child_processes:
        yield f"child processes, counted by nobody: {measurement.child_processes}"


def _row(name: str, cost: FLOPsCount) -> tuple[str, ...]:
    figures = (cost.forward, cost.backward, cost.optimizer, cost.total)
    return (_printable(name), *(f"{figure:,}" for figure in figures))


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for name, *figures in rows:
        cells = (figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True))
        yield "  ".join((name.ljust(widths[0]), *cells))
