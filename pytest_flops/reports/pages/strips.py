"""The pictures of components: strips of slices, the thin ones magnified in the strip below.

One strip shows slices in proportion. Where a tail of slices is too thin for labels, the next strip
shows that tail alone at full width, and so on: a component of 0.1 % beside one of 96 % is found by
going down the strips.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pytest_flops.counting.components import ITSELF, by_parent, last_name, natural, relative_to
from pytest_flops.counting.metric import TOTAL, quantity_of
from pytest_flops.reports.text import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Metric

Cost: TypeAlias = tuple[int, ...]
"""What a component costs by a metric, in each phase of its tree."""

OWN = ITSELF.strip()
HUES = 8

_WORTH_MAGNIFYING = 1 / 3
_MOST_STRIPS = 4
_LABELLED = 0.07
_DRAWN = 0.001


@dataclass(frozen=True, slots=True)
class Slice:
    """A component among its siblings: its path, its name there, its cost, and its colour."""

    path: str
    name: str
    cost: Cost
    hue: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One slice in one strip; `width` is in percent of the strip, `share` of the whole phase."""

    slice: Slice
    value: int
    width: float
    share: str

    @property
    def labelled(self) -> bool:
        """Whether the name has room."""
        return self.width >= 100 * _LABELLED


@dataclass(frozen=True, slots=True)
class Strip:
    """Slices side by side. `begins` is where, in percent of the strip above, this one begins."""

    segments: tuple[Segment, ...]
    share: str
    magnified: float
    begins: float


@dataclass(frozen=True, slots=True)
class PhasePicture:
    """The strips of one phase."""

    phase: str
    value: int
    strips: tuple[Strip, ...]

    @property
    def words(self) -> str:
        """The picture for those who cannot see it."""
        names = [f"{s.slice.name} {s.share}" for strip in self.strips[:1] for s in strip.segments]
        return f"{self.phase}: {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class Branch:
    """A component one can step into, with siblings that cost the same in every detail."""

    path: str
    cost: Cost
    alike: tuple[str, ...]
    pictures: tuple[PhasePicture, ...]
    branches: tuple[Branch, ...]


class Tree:
    """Components by parent, and what adds up in them; `None` in place of a path is the whole."""

    def __init__(self, phases: Sequence[str], components: Mapping[str, Cost], whole: Cost) -> None:
        self.phases = phases
        self.components = components
        self.whole = whole
        self.children: Mapping[str | None, Sequence[str]] = by_parent(components)

    @property
    def start(self) -> str | None:
        """The deepest component that is all of the model: there the pictures begin."""
        start = None
        while True:
            below = self.children.get(start, ())
            alone = len(below) == 1 and self.cost(below[0]) == self.whole
            if not alone or not self.children.get(below[0]):
                return start
            start = below[0]

    def cost(self, path: str | None) -> Cost:
        """What a component costs."""
        return self.whole if path is None else self.components[path]

    def slices(self, parent: str | None) -> list[Slice]:
        """The children of a component, and what it costs beyond them."""
        cost = self.cost(parent)
        names: dict[str, int] = {}
        found = []
        for path in self.children.get(parent, ()):
            name = relative_to(path, parent)
            hue = names.setdefault(_without_numbers(name), len(names) % (HUES - 1))
            found.append(Slice(path, name, self.components[path], hue))
        parts = zip(*(each.cost for each in found), strict=True)
        own = tuple(whole - sum(part) for whole, part in zip(cost, parts, strict=False))
        if any(value > 0 for value in own):
            found.append(Slice(OWN, OWN, own, HUES - 1))
        return found

    def walk(self, parent: str | None = None) -> Iterator[str]:
        """Every path, each after its parent and before its parent's next sibling."""
        for path in self.children.get(parent, ()):
            yield path
            yield from self.walk(path)

    def signature(self, path: str) -> tuple[object, ...]:
        """Equal for siblings whose names differ by numbers alone and which cost the same inside."""
        inside = tuple(self.signature(child) for child in self.children.get(path, ()))
        return _without_numbers(last_name(path)), self.components[path], inside


def tree_of(measurement: Measurement, metric: Metric) -> Tree:
    """What adds up of a metric: its phases, or what was alive at its peak by who made it."""
    if metric.join == "max":
        told = measurement.metrics[metric.name].details
        modules = told.get("modules", {})
        alive = {path: (int(modules[path]),) for path in sorted(modules, key=natural)}
        return Tree(("at the peak",), alive, (sum(map(int, told.get("kinds", {}).values())),))
    quantities = [quantity_of(metric, phase) for phase in metric.phases or (TOTAL,)]
    components: Iterable[str] = measurement.components
    if metric.name in measurement.metrics:
        components = measurement.metrics[metric.name].components
    return Tree(
        metric.phases or (TOTAL,),
        {path: tuple(measurement.of(each, path) for each in quantities) for path in components},
        tuple(measurement.of(each) for each in quantities),
    )


def pictures(tree: Tree, parent: str | None) -> tuple[PhasePicture, ...]:
    """The phases of one component, each as strips of its children."""
    slices, cost = tree.slices(parent), tree.cost(parent)
    return tuple(
        PhasePicture(phase, cost[i], tuple(_strips(slices, i, cost[i])))
        for i, phase in enumerate(tree.phases)
        if any(each.cost[i] for each in slices if each.path != OWN)
    )


def branches(tree: Tree, parent: str | None, room: int) -> tuple[Branch, ...]:
    """The children one can step into, at most `room` of them on all levels together."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for path in tree.children.get(parent, ()):
        if tree.children.get(path):
            groups.setdefault(tree.signature(path), []).append(path)
    found = []
    for first, *others in list(groups.values())[:room]:
        inner = branches(tree, first, max(room - len(groups), 0) // len(groups))
        found.append(Branch(first, tree.cost(first), tuple(others), pictures(tree, first), inner))
    return tuple(found)


def _strips(slices: Sequence[Slice], phase: int, whole: int) -> Iterable[Strip]:
    left = [(each, each.cost[phase]) for each in slices if each.cost[phase] > 0]
    left.sort(key=lambda pair: -pair[1])
    begins = 0.0
    for _ in range(_MOST_STRIPS):
        value = sum(cost for _, cost in left)
        if not value:
            return
        segments = [Segment(s, cost, 100 * cost / value, percent(cost, whole)) for s, cost in left]
        drawn = tuple(segment for segment in segments if segment.width >= 100 * _DRAWN)
        yield Strip(drawn, percent(value, whole), whole / value, begins)
        left = [(segment.slice, segment.value) for segment in segments if not segment.labelled]
        tail = sum(cost for _, cost in left) / value
        if tail > _WORTH_MAGNIFYING:
            return
        begins = 100 * (1 - tail)


def _without_numbers(name: str) -> str:
    return re.sub(r"[0-9]+", "#", name)
