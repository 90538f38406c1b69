"""The lowest-degree polynomial through exact counts, verified on counts it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_flops.scaling.polynomial import interpolate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flops.scaling.polynomial import Polynomial

MAX_DEGREE = 4
HELD_OUT = 2

Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fit:
    """A verified polynomial.

    Attributes:
        polynomial: In one dimension.
        start: The smallest size it holds at; smaller sizes that were counted cost something else.
    """

    polynomial: Polynomial
    start: int


@lru_cache(maxsize=4096)
def verified_fit(dimension: str, points: tuple[Point, ...], own: tuple[int, ...]) -> Fit | None:
    """The lowest-degree polynomial that every point from some size on lies on, to the last FLOP.

    It is fitted to the smallest sizes and verified on all larger ones and on the largest of the
    caller's own, at least two in all. Small sizes may cost something else (a batch of one
    broadcasts, few tokens leave experts empty), so the smallest points are given up one by one
    as long as two of the caller's own sizes remain.

    Args:
        dimension: The variable's name.
        points: (size, count) pairs, ascending.
        own: The sizes that the caller asked about, as far as they are among the points.

    Returns:
        `None` when there are too few points, or when no polynomial up to degree 4 verifies.
    """
    for first in range(len(points)):
        remaining = points[first:]
        inside = [size for size, _ in remaining if size in own]
        if first and len(inside) < 2:
            return None
        polynomial = _through(dimension, _hold_out(remaining, inside))
        if polynomial is not None:
            return Fit(polynomial, remaining[0][0])
    return None


def _hold_out(points: Sequence[Point], own: Sequence[int]) -> list[Point]:
    """The points in their order, save that the largest of the caller's own comes last."""
    return sorted(points, key=lambda point: (point[0] == max(own, default=None), point[0]))


def _through(dimension: str, points: Sequence[Point]) -> Polynomial | None:
    for degree in range(min(MAX_DEGREE, len(points) - HELD_OUT - 1) + 1):
        fitted, held_out = points[: degree + 1], points[degree + 1 :]
        sizes = [size for size, _ in fitted]
        polynomial = interpolate([dimension], [sizes], {(size,): count for size, count in fitted})
        if all(polynomial.value(**{dimension: size}) == count for size, count in held_out):
            return polynomial
    return None
