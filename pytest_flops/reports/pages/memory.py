"""The curve of memory over a step: what is alive, stacked by kind, with the peak marked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.units import format_amount
from pytest_flops.counting.metric import BYTE
from pytest_flops.reports.pages.plots import Axis, Tick, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 24, 40

_HUES = 8  # of style.css
_NARROW = 42  # a phase below has no room for its name
_THIN = 12  # a band below has no room for its letter
_BESIDE = 3
_MOST_TICKS = 5
_NO_CURVE: dict[str, Any] = {"calls": (), "phases": (), "kinds": {}}


@dataclass(frozen=True, slots=True)
class Band:
    """What is alive of one kind. The area goes down to the axis: others are drawn over it."""

    kind: str
    letter: str
    hue: int
    area: str  # an SVG `points` list
    letter_at: tuple[float, float] | None  # where there is room for it
    at_peak: int  # in bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """A call worth telling, with the bytes by kind in the order of the bands, and together."""

    what: str
    phase: str
    call: int
    sizes: tuple[int, ...]
    level: int


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """The picture, its bands from the top of the stack down, and marks for a table."""

    bands: tuple[Band, ...]
    peak: Mark
    peak_at: tuple[float, float]
    phases: tuple[Tick, ...]  # names, each in the middle of its calls
    borders: tuple[float, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]


def memory_curve(details: Mapping[str, Any]) -> MemoryCurve | None:
    """The picture of the `curve` among the details of `peak_memory`; `None` if there is none."""
    told = details.get("curve", _NO_CURVE)
    # JSON has one kind of number: another tool may have written 512 as 512.0.
    sizes = {kind: [*map(int, values)] for kind, values in told["kinds"].items()}
    # What is always there lies at the bottom, so that what comes and goes does not lift it.
    kinds = [kind for kind in reversed(sizes) if any(sizes[kind])]
    kinds.sort(key=lambda kind: min(sizes[kind]))
    stacks = [*zip(*(sizes[kind] for kind in kinds), strict=False)]
    calls, phases = told["calls"][: len(stacks)], told["phases"][: len(stacks)]
    if not calls or len(calls) != len(phases):
        return None
    levels = [sum(stack) for stack in stacks]
    top = levels.index(max(levels))
    x = Axis(calls[0], calls[-1], LEFT, WIDTH - RIGHT)
    y = Axis(0, max(levels[top], 1), HEIGHT - BOTTOM, TOP)
    places = [x.at(call) for call in calls]
    begins = [i for i in range(len(calls)) if i == 0 or phases[i] != phases[i - 1]]

    def mark(what: str, i: int) -> Mark:
        return Mark(what, phases[i], calls[i], stacks[i], levels[i])

    peak = mark("peak", top)
    marks = {i: mark("begin", i) for i in begins}
    marks |= {len(calls) - 1: mark("end", -1)} | {top: peak}
    return MemoryCurve(
        bands=tuple(_bands(kinds, stacks, places, y, top)),
        peak=peak,
        peak_at=(places[top], y.at(levels[top])),
        phases=tuple(_names(phases, places, begins)),
        borders=tuple(places[i] for i in begins[1:]),
        y_ticks=tuple(Tick(y.at(size), format_amount(size, BYTE)) for size in _round(levels[top])),
        marks=tuple(marks[i] for i in sorted(marks)),
    )


def _bands(
    kinds: Sequence[str],
    stacks: Sequence[tuple[int, ...]],
    places: Sequence[float],
    y: Axis,
    top: int,
) -> Iterator[Band]:
    for i, kind in enumerate(kinds):
        heights = [y.at(sum(stack[i:])) for stack in stacks]
        edge = [*zip(places, heights, strict=True)]
        area = [(places[0], y.start), *_without_repeats(edge), (places[-1], y.start)]
        below = [y.at(sum(stack[i + 1 :])) for stack in stacks]
        yield Band(
            kind,
            ascii_uppercase[i % len(ascii_uppercase)],
            i % _HUES,
            path_of(area),
            _letter_at(places, heights, below),
            stacks[top][i],
        )


def _letter_at(
    places: Sequence[float], heights: Sequence[float], below: Sequence[float]
) -> tuple[float, float] | None:
    """The place nearest to the middle where a band is thick beside it too, and not in a spike."""
    thick = [low - high for low, high in zip(below, heights, strict=True)]
    middle = (places[0] + places[-1]) / 2
    found = [
        (abs(places[i] - middle), i)
        for i in range(len(places))
        if min(thick[max(i - _BESIDE, 0) : i + _BESIDE + 1]) >= _THIN
    ]
    if not found:
        return None
    _, i = min(found)
    return places[i], (heights[i] + below[i]) / 2


def _without_repeats(edge: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The points of a line without those inside a level stretch."""
    for _, stretch in groupby(edge, key=itemgetter(1)):
        first, *others = stretch
        yield first
        yield from others[-1:]


def _names(phases: Sequence[str], places: Sequence[float], begins: Sequence[int]) -> Iterator[Tick]:
    ends = [*(places[i] for i in begins[1:]), places[-1]]
    for i, end in zip(begins, ends, strict=True):
        if end - places[i] >= _NARROW:
            yield Tick((places[i] + end) / 2, phases[i])


def _round(most: int) -> range:
    """Round sizes from 0 to at most `most`, not more than six."""
    power = 10 ** (len(str(most)) - 1)
    steps = (power // 10 * 2, power // 2, power, 2 * power)
    step = next(step for step in steps if step and most // step <= _MOST_TICKS)
    return range(0, most + 1, step)
