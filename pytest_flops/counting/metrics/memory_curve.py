"""The curve of `peak_memory`: what was alive after some calls, few enough for a report."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PARTS, _BORDERS = 96, 32

Life: TypeAlias = tuple[int, int, int]
"""The number of the call that made a storage, of the first that did not find it, and its bytes."""


def curve(
    lives: Mapping[str, Sequence[Life]], begins: Sequence[tuple[int, str]], end: int
) -> dict[str, Any]:
    """The bytes alive by kind after each of at most 160 calls.

    The calls are cut into 96 parts, and once more where another phase begins, up to 32 times. The
    highest call of each part is told, so the peak of the step and of each phase is among them; and
    the calls that begin those phases, of which the first call is one, and the last call.

    Args:
        lives: The storages by kind. Calls have numbers from 1; what was there before has 0.
        begins: The calls that begin a phase, and the phase; a phase may follow itself.
        end: The number after the last call.
    """
    levels = _alive([life for each in lives.values() for life in each], range(end))
    changes = pairwise([(0, ""), *begins])
    borders = [call for (_, before), (call, phase) in changes if phase != before][:_BORDERS]
    length = -(-(end - 1) // _PARTS)
    parts = starmap(range, pairwise(sorted({*range(1, end, length), *borders, end})))
    calls = sorted({*borders, end - 1, *(max(part, key=levels.__getitem__) for part in parts)})
    return {
        "calls": calls,
        "phases": [begins[bisect_right(begins, call, key=itemgetter(0)) - 1][1] for call in calls],
        "kinds": {kind: _alive(each, calls) for kind, each in lives.items()},
    }


def _alive(lives: Iterable[Life], calls: Sequence[int]) -> list[int]:
    """The bytes of the storages that are alive after each of these calls."""
    changes = [0] * (len(calls) + 1)
    for born, died, size in lives:
        changes[bisect_left(calls, born)] += size
        changes[bisect_left(calls, died)] -= size
    return [*accumulate(changes[:-1])]
