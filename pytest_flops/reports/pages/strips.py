"""The pictures of components: strips of slices, the thin ones magnified in the strip below.

One strip shows slices in proportion. Where a tail of slices is too thin for labels, the next strip
shows that tail alone at full width, and so on: a component of 0.1 % beside one of 96 % is found by
going down the strips.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.counting.components import by_parent, last_name, relative_to
from pytest_flops.counting.count import PHASES, FLOPsCount
from pytest_flops.reports.text import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flops.counting.count import Phase

OWN = "(its own operations)"
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
    cost: FLOPsCount
    hue: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One slice in one strip; `width` is in percent of the strip, `share` of the whole phase."""

    slice: Slice
    flops: int
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

    phase: Phase
    flops: int
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
    cost: FLOPsCount
    alike: tuple[str, ...]
    pictures: tuple[PhasePicture, ...]
    branches: tuple[Branch, ...]


class Tree:
    """The components of one measurement, by parent; `None` in place of a path is the whole."""

    def __init__(self, components: Mapping[str, FLOPsCount], whole: FLOPsCount) -> None:
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

    def cost(self, path: str | None) -> FLOPsCount:
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
        own = FLOPsCount(*(cost.of(p) - sum(each.cost.of(p) for each in found) for p in PHASES))
        if found and any(own.of(phase) > 0 for phase in PHASES):
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


def pictures(tree: Tree, parent: str | None) -> tuple[PhasePicture, ...]:
    """The phases of one component, each as strips of its children."""
    slices, cost = tree.slices(parent), tree.cost(parent)
    return tuple(
        PhasePicture(phase, cost.of(phase), tuple(_strips(slices, phase, cost.of(phase))))
        for phase in PHASES
        if any(each.cost.of(phase) for each in slices if each.path != OWN)
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


def _strips(slices: Sequence[Slice], phase: Phase, whole: int) -> Iterable[Strip]:
    left = [(each, each.cost.of(phase)) for each in slices if each.cost.of(phase) > 0]
    left.sort(key=lambda pair: -pair[1])
    begins = 0.0
    for _ in range(_MOST_STRIPS):
        flops = sum(cost for _, cost in left)
        if not flops:
            return
        segments = [Segment(s, cost, 100 * cost / flops, percent(cost, whole)) for s, cost in left]
        drawn = tuple(segment for segment in segments if segment.width >= 100 * _DRAWN)
        yield Strip(drawn, percent(flops, whole), whole / flops, begins)
        left = [(segment.slice, segment.flops) for segment in segments if not segment.labelled]
        tail = sum(cost for _, cost in left) / flops
        if tail > _WORTH_MAGNIFYING:
            return
        begins = 100 * (1 - tail)


def _without_numbers(name: str) -> str:
    return re.sub(r"[0-9]+", "#", name)
