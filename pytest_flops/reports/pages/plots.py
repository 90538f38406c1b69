"""The line plots: cost over a swept dimension, and cost over past reports."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from pytest_flops.budgets.units import format_flops
from pytest_flops.counting.metric import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flops.scaling.sweep import Sweep

PLOT_WIDTH, PLOT_HEIGHT = 360, 240
LINE_WIDTH, LINE_HEIGHT = 480, 96

_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 26, 12, 28
_MOST_TICKS = 6
_MOST_STEPS = 12
_MARGIN = 6
_STEEPEST = 100  # a budget may allow any exponent, but 10**5000 cannot be written on an axis


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the picture, with the size and the count it stands for."""

    x: float
    y: float
    size: int
    flops: int


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity over the sizes."""

    quantity: str
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """The points as an SVG `points` list."""
        return path_of((point.x, point.y) for point in self.points)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Cost over a dimension, both axes logarithmic: a power of the size is a straight line.

    `limit` is the line of the largest allowed slope, if any.
    """

    series: tuple[Series, ...]
    limit: str | None
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """One past report in a line: its place, when it was, and the total."""

    x: float
    y: float
    when: str
    value: int


@dataclass(frozen=True, slots=True)
class Line:
    """Totals of past reports, oldest first, and the height of the limit, if any."""

    dots: tuple[Dot, ...]
    limit: float | None

    @property
    def path(self) -> str:
        """The dots as an SVG `points` list."""
        return path_of((dot.x, dot.y) for dot in self.dots)

    @property
    def changed(self) -> list[tuple[Dot, int]]:
        """The first, each that is not as the one before it, and the last; by how much."""
        first, last = self.dots[0], self.dots[-1]
        steps = [(new, new.value - old.value) for old, new in pairwise(self.dots)]
        return [(first, 0), *[(dot, step) for dot, step in steps if step or dot is last]]

    @property
    def told(self) -> list[tuple[Dot, int]]:
        """Of what changed, the largest steps, with the first and the last."""
        by_size = sorted(self.changed[1:-1], key=lambda step: -abs(step[1]))
        kept = [self.changed[0], *by_size[:_MOST_STEPS], self.changed[-1]]
        return sorted(kept, key=lambda step: step[0].x)

    @property
    def marked(self) -> dict[str, Dot]:
        """The first, the least, the most and the last, as far as they are not one."""
        least, most = (end(self.dots, key=lambda dot: dot.value) for end in (min, max))
        ends = {"first": self.dots[0], "last": self.dots[-1]}
        extremes = {"least": least, "most": most}
        told = {dot.value for dot in ends.values()}
        return ends | {name: dot for name, dot in extremes.items() if dot.value not in told}


@dataclass(frozen=True, slots=True)
class Axis:
    """Where a value stands between the ends of an axis."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value; in the middle where all values are the same."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def scaling_plot(sweep: Sweep, exponent: float | None) -> Plot | None:
    """The whole workload's total and phases over the swept sizes; `None` without two points.

    `exponent` is the largest allowed; its line begins where the total does.
    """
    lines: dict[str, list[tuple[int, int]]] = {}
    for growth in sweep.growth:
        line = [(s, c) for s, c in zip(sweep.sizes, growth.counts, strict=False) if c]
        flops = growth.component is None and growth.quantity in QUANTITIES
        if flops and len(line) >= 2:  # nothing has no logarithm
            lines[growth.quantity] = line
    if not lines:
        return None
    sizes = sorted({size for line in lines.values() for size, _ in line})
    guide = _guide(lines.get("total") or next(iter(lines.values())), exponent)
    heights = [log10(count) for line in lines.values() for _, count in line]
    heights += [height for _, height in guide]
    x = Axis(log10(sizes[0]), log10(sizes[-1]), _LEFT + 8, PLOT_WIDTH - _RIGHT)
    y = Axis(min(heights), max(heights), PLOT_HEIGHT - _BOTTOM - 8, _TOP)

    return Plot(
        series=tuple(
            Series(name, tuple(Point(x.at(log10(s)), y.at(log10(c)), s, c) for s, c in lines[name]))
            for name in QUANTITIES[::-1]
            if name in lines
        ),
        limit=path_of((x.at(place), y.at(height)) for place, height in guide) or None,
        x_ticks=tuple(Tick(x.at(log10(size)), f"{size:,}") for size in _spread(sizes)),
        y_ticks=tuple(_decades(y)),
    )


def path_of(points: Iterable[tuple[float, float]]) -> str:
    """Points as an SVG `points` list."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _guide(line: Sequence[tuple[int, int]], exponent: float | None) -> list[tuple[float, float]]:
    """The ends of the steepest line allowed from the first point on, as logarithms."""
    if exponent is None or exponent > _STEEPEST:
        return []
    (first, count), (last, _) = line[0], line[-1]
    start, end, height = log10(first), log10(last), log10(count)
    return [(start, height), (end, height + exponent * (end - start))]


def _spread(values: Sequence[int]) -> Sequence[int]:
    """At most six of the values: the first, the last and some between, evenly."""
    if len(values) <= _MOST_TICKS:
        return values
    step = (len(values) - 1) / (_MOST_TICKS - 1)
    return [values[round(i * step)] for i in range(_MOST_TICKS)]


def _decades(axis: Axis) -> list[Tick]:
    first, last = ceil(axis.low - 1e-9), floor(axis.high + 1e-9)
    if last <= first:
        ends = sorted({axis.low, axis.high})
        return [Tick(axis.at(end), format_flops(round(10**end))) for end in ends]
    powers = range(first, last + 1, max((last - first) // 4, 1))
    return [Tick(axis.at(power), format_flops(10**power)) for power in powers]


def line_of(past: Sequence[tuple[str, int]], limit: float | None) -> Line | None:
    """Totals as a line, its vertical axis from the least to the most of all, with the limit."""
    if len(past) < 2:
        return None
    totals = [total for _, total in past]
    heights = totals if limit is None else [*totals, limit]
    x = Axis(0, len(past) - 1, _MARGIN, LINE_WIDTH - _MARGIN)
    y = Axis(min(heights), max(heights), LINE_HEIGHT - _MARGIN, _MARGIN)
    dots = (Dot(x.at(i), y.at(total), when, total) for i, (when, total) in enumerate(past))
    return Line(tuple(dots), None if limit is None else y.at(limit))
