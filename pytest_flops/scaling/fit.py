"""The lowest-degree polynomial through exact counts, verified on counts it was not fitted to.

What ranks share falls as 1 / ranks; so where there is no polynomial, one of the counts times the
size is looked for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pytest_flops.scaling.polynomial import Polynomial, interpolate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flops.scaling.measured import Measured, Part

MAX_DEGREE = 4
HELD_OUT = 2
ENOUGH = MAX_DEGREE + 1 + HELD_OUT
"""So many sizes determine a polynomial of the highest degree and verify it."""

Point = tuple[int, int]


class Fit(NamedTuple):
    """A verified polynomial in one dimension, and the smallest counted size that it holds at."""

    polynomial: Polynomial
    start: int


def fits(
    counts: Measured, parts: Iterable[Part], own: Iterable[int], sizes: Sequence[int]
) -> dict[Part, Fit]:
    """A polynomial for each part that has one, from what was counted at these sizes."""
    counted = tuple(size for size in own if size in counts.measured)
    tried = {
        part: _verified_fit(counts.dimension, counts.points(part, sizes), counted) for part in parts
    }
    return {part: found for part, found in tried.items() if found is not None}


@lru_cache(maxsize=4096)  # layers of a model cost the same, so most parts ask what another asked
def _verified_fit(dimension: str, points: tuple[Point, ...], own: tuple[int, ...]) -> Fit | None:
    """The lowest-degree polynomial that every point from some size on lies on, to the last FLOP.

    It is fitted to the smallest sizes and verified on all larger ones and on the largest of the
    caller's `own`, at least two in all. Small sizes may cost something else (a batch of one
    broadcasts, few tokens leave experts empty), so the smallest points are given up one by one
    as long as two of the caller's own sizes remain.
    """
    for first in range(len(points)):
        remaining = points[first:]
        inside = [size for size, _ in remaining if size in own]
        if first and len(inside) < 2:
            return None
        largest = max(inside, default=None)
        in_order = sorted(remaining, key=lambda point: point[0] == largest)  # it comes last
        polynomial = _through(dimension, in_order) or _shared(dimension, in_order)
        if polynomial is not None:
            return Fit(polynomial, remaining[0][0])
    return None


def _shared(dimension: str, points: Sequence[Point]) -> Polynomial | None:
    of_all = _through(dimension, [(size, count * size) for size, count in points])
    return of_all.times(dimension, -1) if of_all else None


def _through(dimension: str, points: Sequence[Point]) -> Polynomial | None:
    for degree in range(min(MAX_DEGREE, len(points) - HELD_OUT - 1) + 1):
        fitted, held_out = points[: degree + 1], points[degree + 1 :]
        sizes = [size for size, _ in fitted]
        polynomial = interpolate([dimension], [sizes], {(size,): count for size, count in fitted})
        if all(polynomial.value(**{dimension: size}) == count for size, count in held_out):
            return polynomial
    return None
