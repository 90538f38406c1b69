"""Geometry of the component pictures: strips of segments, the small ones magnified below.

One strip shows parts in proportion. Where a tail of parts is too thin for a label, the next strip
shows that tail alone at full width, and so on: a component of 0.1% beside one of 96% is found by
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
class Part:
    """A component among its siblings: its path, its name there, its cost, and its colour."""

    path: str
    name: str
    cost: FLOPsCount
    hue: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One part in one strip; `width` is in percent of the strip, `share` of the whole phase."""

    part: Part
    flops: int
    width: float
    share: str

    @property
    def labelled(self) -> bool:
        """Whether the part's name has room."""
        return self.width >= 100 * _LABELLED


@dataclass(frozen=True, slots=True)
class Strip:
    """Parts side by side. `begins` is where, in percent of the strip above, this one begins."""

    segments: tuple[Segment, ...]
    flops: int
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
        parts = [f"{s.part.name} {s.share}" for strip in self.strips[:1] for s in strip.segments]
        return f"{self.phase}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Branch:
    """A component one can step into, with siblings that cost the same in every detail."""

    path: str
    cost: FLOPsCount
    alike: tuple[str, ...]
    pictures: tuple[PhasePicture, ...]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """The components of one measurement, by parent."""

    components: Mapping[str, FLOPsCount]
    children: Mapping[str | None, Sequence[str]]

    @classmethod
    def of(cls, components: Mapping[str, FLOPsCount]) -> Tree:
        """Sort the paths under their nearest ancestor that has a cost of its own."""
        return cls(components, by_parent(components))

    def parts(self, parent: str | None, cost: FLOPsCount) -> list[Part]:
        """The children of a component, and what it costs beyond them."""
        names: dict[str, int] = {}
        found = []
        for path in self.children.get(parent, ()):
            name = relative_to(path, parent)
            hue = names.setdefault(_kind(name), len(names) % (HUES - 1))
            found.append(Part(path, name, self.components[path], hue))
        own = FLOPsCount(*(cost.of(p) - sum(part.cost.of(p) for part in found) for p in PHASES))
        if found and any(own.of(phase) > 0 for phase in PHASES):
            found.append(Part(OWN, OWN, own, HUES - 1))
        return found

    def walk(self, parent: str | None = None) -> Iterator[str]:
        """Every path, each after its parent and before its parent's next sibling."""
        for path in self.children.get(parent, ()):
            yield path
            yield from self.walk(path)

    def signature(self, path: str) -> tuple[object, ...]:
        """Equal for siblings whose names differ by numbers alone and which cost the same inside."""
        inside = tuple(self.signature(child) for child in self.children.get(path, ()))
        return _kind(last_name(path)), self.components[path], inside


def pictures(tree: Tree, parent: str | None, cost: FLOPsCount) -> tuple[PhasePicture, ...]:
    """The phases of one component, each as strips of its children."""
    parts = tree.parts(parent, cost)
    drawn = [
        (phase, cost.of(phase))
        for phase in PHASES
        if any(part.cost.of(phase) for part in parts if part.path != OWN)
    ]
    return tuple(
        PhasePicture(phase, flops, tuple(_strips(parts, phase, flops))) for phase, flops in drawn
    )


def branches(tree: Tree, parent: str | None, room: int) -> tuple[Branch, ...]:
    """The children one can step into, at most `room` of them on all levels together."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for path in tree.children.get(parent, ()):
        if tree.children.get(path):
            groups.setdefault(tree.signature(path), []).append(path)
    found = []
    for first, *others in list(groups.values())[:room]:
        cost = tree.components[first]
        inner = branches(tree, first, (room - len(groups)) // max(len(groups), 1))
        found.append(Branch(first, cost, tuple(others), pictures(tree, first, cost), inner))
    return tuple(found)


def trunk(tree: Tree, cost: FLOPsCount) -> str | None:
    """The deepest component that is all of the model, so that pictures begin where it divides."""
    parent = None
    while True:
        below = tree.children.get(parent, ())
        if len(below) != 1 or tree.components[below[0]] != cost or not tree.children.get(below[0]):
            return parent
        parent = below[0]


def _strips(parts: Sequence[Part], phase: Phase, whole: int) -> Iterable[Strip]:
    left = sorted((p for p in parts if p.cost.of(phase) > 0), key=lambda p: -p.cost.of(phase))
    begins = 0.0
    for _ in range(_MOST_STRIPS):
        flops = sum(part.cost.of(phase) for part in left)
        if not flops:
            return
        segments = tuple(_segment(part, phase, flops, whole) for part in left)
        drawn = tuple(segment for segment in segments if segment.width >= 100 * _DRAWN)
        yield Strip(drawn, flops, percent(flops, whole), whole / flops, begins)
        left = [s.part for s in segments if not s.labelled]
        tail = sum(part.cost.of(phase) for part in left) / flops
        if tail > _WORTH_MAGNIFYING:
            return
        begins = 100 * (1 - tail)


def _segment(part: Part, phase: Phase, flops: int, whole: int) -> Segment:
    cost = part.cost.of(phase)
    return Segment(part, cost, 100 * cost / flops, percent(cost, whole))


def _kind(name: str) -> str:
    return re.sub(r"[0-9]+", "#", name)
