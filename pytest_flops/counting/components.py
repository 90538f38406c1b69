"""Component paths: dotted names such as `layer_0.moe`, and the tree that they make.

Components of a count are a tree by path: what a component costs contains what its children cost.
`None` in place of a path is the whole workload, which contains every component. A path's parent
need not be a component itself: where only `h.0` and `h.0.attn.c_attn` cost something, the parent
of the second is the first.

Everything that takes a path apart is here.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from pytest_flops.counting.count import FLOPsCount

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

OUTSIDE_PATH = "(outside modules)"
"""The path of what the meter counts while no module is being called."""

ITSELF = " (itself)"
"""Follows a path where what the component costs beyond its children is told."""

_NUMBER = re.compile(r"[0-9]+")


def segments(path: str) -> list[str]:
    """The names of a path, the outermost first."""
    return path.split(".")


def last_name(path: str) -> str:
    """The last name of a path."""
    return path.rpartition(".")[2]


def relative_to(path: str, component: str | None) -> str:
    """A path as seen from a component that contains it."""
    return path if component is None else path.removeprefix(f"{component}.")


def depth(path: str) -> int:
    """How many names a path has; the indices of a module list are none.

    A record goes down to a depth, and must hold one layer of a list beside the other.
    """
    return sum(not segment.isdigit() for segment in segments(path))


def ancestors(path: str) -> list[str]:
    """Every path that contains this one, the outermost first; not the path itself."""
    names = segments(path)
    return [".".join(names[:length]) for length in range(1, len(names))]


def contains(component: str | None, path: str) -> bool:
    """Whether a path is a component or is inside it."""
    return component is None or path == component or path.startswith(f"{component}.")


def parent_of(path: str, known: Collection[str | None]) -> str | None:
    """The nearest ancestor among the known paths; `None` is the whole."""
    return next((above for above in reversed(ancestors(path)) if above in known), None)


def nearest(path: str, known: Collection[str | None]) -> str | None:
    """The path itself if it is known, else its nearest known ancestor; `None` is the whole."""
    return path if path in known else parent_of(path, known)


def by_parent(paths: Collection[str]) -> dict[str | None, list[str]]:
    """The paths by their parent among them, each list in the order given."""
    found: dict[str | None, list[str]] = {}
    for path in paths:
        found.setdefault(parent_of(path, paths), []).append(path)
    return found


def in_tree_order(paths: Collection[str]) -> list[str]:
    """The paths, each after its parent and before its parent's next sibling."""
    children = by_parent(paths)

    def below(parent: str | None) -> Iterator[str]:
        for path in children.get(parent, ()):
            yield path
            yield from below(path)

    return [*below(None)]


def outermost(paths: Collection[str]) -> list[str]:
    """The paths that no other one contains."""
    known = set(paths)
    return [path for path in paths if parent_of(path, known) is None]


def innermost(paths: Collection[str]) -> list[str]:
    """The paths that contain no other one."""
    containers = {above for path in paths for above in ancestors(path)}
    return [path for path in paths if path not in containers]


def common_ancestor(paths: Iterable[str]) -> str | None:
    """The deepest path that contains all of these, or is one of them; `None` is the whole."""
    levels = zip(*map(segments, paths), strict=False)
    shared = takewhile(lambda names: len(set(names)) == 1, levels)
    return ".".join(names[0] for names in shared) or None


def summed_up(own: Mapping[str, FLOPsCount]) -> dict[str, FLOPsCount]:
    """Add what each path costs by itself to all its ancestors; children follow their parents."""
    costs: dict[str, FLOPsCount] = {}
    for path, cost in own.items():
        for holder in (*ancestors(path), path):
            costs[holder] = costs.get(holder, FLOPsCount()) + cost
    place = {path: index for index, path in enumerate(costs)}
    in_order = sorted(costs, key=lambda path: [place[each] for each in (*ancestors(path), path)])
    return {path: costs[path] for path in in_order}


def family(path: str) -> str:
    """The path without its first number: `layer_*.moe` of `layer_7.moe`.

    A second number stays, so that `h.0.2` and `h.1.2` are a family and `h.0.2` and `h.0.3` none.
    """
    return _NUMBER.sub("*", path, count=1)


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that puts `layer_2` before `layer_10`."""
    pieces = re.split(r"([0-9]{1,18})", text)
    return [(int(piece), piece) if piece.isdecimal() else (-1, piece) for piece in pieces]
