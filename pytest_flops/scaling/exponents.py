"""Exponents read from counts in log-log coordinates: between neighbours, and fitted to all."""

from __future__ import annotations

from itertools import pairwise
from math import log, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def local_exponents(sizes: Sequence[int], counts: Sequence[int | None]) -> tuple[float, ...]:
    """The log-log slope between each two neighbours; one fewer than there are sizes.

    A count of 0 is taken for 1 FLOP, so that growth from nothing is steep but finite. Where a
    count is `None` (a component that does not exist at this size), there is no growth: 0.
    """
    points = zip(sizes, counts, strict=True)
    return tuple(
        0.0 if low is None or high is None else _rise(low, high) / log(larger / smaller)
        for (smaller, low), (larger, high) in pairwise(points)
    )


def _rise(low: int, high: int) -> float:
    return log(max(high, 1)) - log(max(low, 1))


def fitted_exponent(sizes: Sequence[int], counts: Sequence[int | None]) -> tuple[float, float]:
    """The least-squares slope of log count over log size, and its error.

    Returns:
        The slope, and the root mean square of what it leaves unexplained, in natural logarithms of
        FLOPs: 0.01 is 1 %. Both are 0 where fewer than two sizes have a count.
    """
    points = [
        (log(size), log(max(count, 1)))
        for size, count in zip(sizes, counts, strict=True)
        if count is not None
    ]
    if len(points) < 2:
        return 0.0, 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    squares = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, sqrt(squares / len(points))
