"""`explain`: the exact cost of a workload and of its parts as polynomials in several dimensions."""

from __future__ import annotations

from functools import cache
from itertools import chain, islice, product
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.explanation import ExactCost, Explanation
from pytest_flops.scaling.fit import ENOUGH, HELD_OUT, Fit, fits
from pytest_flops.scaling.formula import doublings
from pytest_flops.scaling.measured import Measured, cost_of, parts_of, refuse_uncounted
from pytest_flops.scaling.polynomial import Polynomial, crossover, interpolate

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.scaling.measured import Part

Point = tuple[int, ...]
"""A size in each dimension."""


class CountAtSizes(Protocol):
    """Counts a workload at named sizes: `count_at(batch_size=32, seq_len=128)`."""

    def __call__(self, **sizes: int) -> Measurement:
        """One training step at these sizes."""


def explain(
    count_at: CountAtSizes, sizes: Mapping[str, int], ranks: Container[str] = ()
) -> Explanation:
    """Find the exact polynomials in several dimensions, from counts at a few small sizes.

    Degrees are found along each dimension alone, all others at the workload's sizes; the counts on
    the grid that these degrees span determine every coefficient; two more counts off that grid, in
    all dimensions at once, must come out as the polynomial says.

    Args:
        count_at: Counts the workload at named sizes.
        sizes: The dimensions, each with a size that the workload takes.
        ranks: Those of them that are numbers of ranks, which are doubled to learn more.

    Raises:
        ScalingError: No dimension is named, the model rejects the workload's own sizes, or an
            operator without a cost ran.
    """
    if not sizes:
        raise ScalingError("no dimension to explain the cost in")

    @cache
    def measure(*point: int) -> Measurement:
        return count_at(**dict(zip(sizes, point, strict=True)))

    def counted(points: Iterable[Point]) -> dict[Point, Measurement]:
        return {point: _checked(measure, dict(zip(sizes, point, strict=True))) for point in points}

    near = {name: doublings if name in ranks else _sizes_near for name in sizes}
    lines = {name: _along(measure, sizes, name, near[name]) for name in sizes}
    parts = parts_of([measure(*sizes.values())])
    grid = counted(product(*(line.axis for line in lines.values())))
    off_grid = counted(zip(*(line.held_out for line in lines.values()), strict=False))
    costs = tuple(_cost(part, sizes, lines, grid, off_grid) for part in parts)
    return Explanation(dict(sizes), costs)


class _Line(NamedTuple):
    """What one dimension alone tells: a fit per part, and the sizes to take from it."""

    fits: Mapping[Part, Fit]
    axis: Sequence[int]
    held_out: Sequence[int]


def _along(
    measure: Callable[..., Measurement],
    sizes: Mapping[str, int],
    dimension: str,
    near: Callable[[int], Iterator[int]],
) -> _Line:
    base = sizes[dimension]
    counts = Measured(lambda size: measure(*{**sizes, dimension: size}.values()), dimension)
    counts.require([base])
    parts = parts_of(counts.measured.values())
    for size in chain([base], near(base)):
        counts.probe(size)
        line = _line(counts, parts)
        if (len(line.fits) == len(parts) and line.held_out) or len(counts.measured) == ENOUGH:
            break
    return line


def _line(counts: Measured, parts: Sequence[Part]) -> _Line:
    anchors = islice(counts.measured, 3)
    found = fits(counts, parts, anchors, [*counts.measured])
    start = max((fit.start for fit in found.values()), default=0)
    spans = (
        fit.polynomial.degree(counts.dimension) - fit.polynomial.lowest(counts.dimension)
        for fit in found.values()
    )
    degree = max(spans, default=0)
    sizes = sorted(size for size in counts.measured if size >= start)
    return _Line(found, sizes[: degree + 1], sizes[degree + 1 :][-HELD_OUT:])


def _sizes_near(base: int) -> Iterator[int]:
    """Sizes that share the divisors of `base`: multiples first, one of them far; then fractions."""
    yield from (base * factor for factor in (2, 3, 8, 4, 5, 6, 7))
    for pieces in (2, 4, 8):
        if base % pieces == 0:
            yield from (base * k // pieces for k in range(1, 2 * pieces) if k != pieces)


def _checked(measure: Callable[..., Measurement], sizes: Mapping[str, int]) -> Measurement:
    where = ", ".join(f"{name} = {size:,}" for name, size in sizes.items())
    try:
        measurement = measure(*sizes.values())
    except Exception as error:
        raise ScalingError(f"{where} is rejected: {error}") from error
    refuse_uncounted(measurement, where)
    return measurement


def _cost(
    part: Part,
    sizes: Mapping[str, int],
    lines: Mapping[str, _Line],
    grid: Mapping[Point, Measurement],
    off_grid: Mapping[Point, Measurement],
) -> ExactCost:
    stubborn = [name for name, line in lines.items() if part not in line.fits]
    if stubborn:
        return ExactCost(*part, None, {}, f"no polynomial in {', '.join(stubborn)}")
    axes = {name: line.axis for name, line in lines.items()}
    shared = [name for name, line in lines.items() if line.fits[part].polynomial.lowest(name)]
    polynomial = _through_grid(part, axes, shared, grid, off_grid)
    if polynomial is None:
        return ExactCost(*part, None, {}, f"no polynomial in {', '.join(lines)} together")
    starts = {name: line.fits[part].start for name, line in lines.items()}
    note = "; ".join(
        f"exact from {name} = {start:,} on" for name, start in starts.items() if start > sizes[name]
    )
    crossovers = {
        name: crossover(polynomial.at(**{other: sizes[other] for other in sizes if other != name}))
        for name in sizes
    }
    found = {name: size for name, size in crossovers.items() if size is not None}
    return ExactCost(*part, polynomial, found, note)


def _through_grid(
    part: Part,
    axes: Mapping[str, Sequence[int]],
    shared: Sequence[str],
    grid: Mapping[Point, Measurement],
    off_grid: Mapping[Point, Measurement],
) -> Polynomial | None:
    values = {point: cost_of(measurement, part) for point, measurement in grid.items()}
    known = {
        point: flops * prod(size for name, size in zip(axes, point, strict=True) if name in shared)
        for point, flops in values.items()
        if flops is not None
    }
    if len(known) < len(values):
        return None
    polynomial = interpolate([*axes], [*axes.values()], known)
    for name in shared:
        polynomial = polynomial.times(name, -1)
    verified = all(
        polynomial.value(**dict(zip(axes, point, strict=True))) == cost_of(measurement, part)
        for point, measurement in off_grid.items()
    )
    return polynomial if verified else None
