"""`explain`: the exact cost of a workload and of its parts as polynomials in several dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Protocol

from pytest_flops.scaling.crossover import crossover
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.explanation import ExactCost, Explanation
from pytest_flops.scaling.fit import HELD_OUT, MAX_DEGREE, Fit, verified_fit
from pytest_flops.scaling.measured import Measured, flops_of, parts_of, refuse_uncounted
from pytest_flops.scaling.polynomial import Polynomial, interpolate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.scaling.measured import Part

_MOST_SIZES = MAX_DEGREE + 1 + HELD_OUT


class CountAtSizes(Protocol):
    """Counts a workload at named sizes: `count_at(batch_size=32, seq_len=128)`."""

    def __call__(self, **sizes: int) -> Measurement:
        """One training step at these sizes."""


def explain(count_at: CountAtSizes, sizes: Mapping[str, int]) -> Explanation:
    """Find the exact polynomials in several dimensions, from counts at a few small sizes.

    Degrees are found along each dimension alone, all others at the workload's sizes; the counts on
    the grid that these degrees span determine every coefficient; two more counts off that grid, in
    all dimensions at once, must come out as the polynomial says.

    Args:
        count_at: Counts the workload at named sizes.
        sizes: The dimensions, each with a size that the workload takes.

    Raises:
        ScalingError: No dimension is named, the model rejects the workload's own sizes, or an
            operator without a cost ran.
    """
    if not sizes:
        raise ScalingError("no dimension to explain the cost in")
    grid = _Grid(count_at, dict(sizes))
    lines = {name: _along(grid, name) for name in sizes}
    parts = parts_of([grid.measure(grid.base)])
    costs = tuple(_cost(grid, part, lines) for part in parts)
    return Explanation(dict(sizes), costs)


@dataclass(frozen=True, slots=True)
class _Line:
    """What one dimension alone tells: a fit per part, and the sizes the grid takes from it."""

    dimension: str
    fits: Mapping[Part, Fit]
    axis: tuple[int, ...]
    held_out: tuple[int, ...]


class _Grid:
    """Measurements by coordinates, each made once."""

    def __init__(self, count_at: CountAtSizes, sizes: Mapping[str, int]) -> None:
        self.names = tuple(sizes)
        self.base = tuple(sizes.values())
        self._count_at = count_at
        self._measured: dict[tuple[int, ...], Measurement] = {}

    def measure(self, at: tuple[int, ...]) -> Measurement:
        if at not in self._measured:
            self._measured[at] = self._count_at(**dict(zip(self.names, at, strict=True)))
        return self._measured[at]

    def line(self, dimension: str) -> Measured:
        axis = self.names.index(dimension)

        def count_at(size: int) -> Measurement:
            return self.measure((*self.base[:axis], size, *self.base[axis + 1 :]))

        return Measured(count_at, dimension)

    def flops(self, at: tuple[int, ...], part: Part) -> int | None:
        where = ", ".join(f"{name} = {size:,}" for name, size in zip(self.names, at, strict=True))
        try:
            measurement = self.measure(at)
        except Exception as error:
            raise ScalingError(f"{where} is rejected: {error}") from error
        refuse_uncounted(measurement, where)
        return flops_of(measurement, part)


def _along(grid: _Grid, dimension: str) -> _Line:
    base = grid.base[grid.names.index(dimension)]
    counts = grid.line(dimension)
    counts.require([base])
    parts = parts_of(counts.measured.values())
    line = _line(counts, parts)
    for size in _sizes_near(base):
        if len(line.fits) == len(parts) and line.held_out:
            break
        if len(counts.measured) == _MOST_SIZES:
            break
        counts.probe(size)
        line = _line(counts, parts)
    return line


def _line(counts: Measured, parts: Sequence[Part]) -> _Line:
    anchors = tuple(islice(counts.measured, 3))
    tried = {part: verified_fit(counts.dimension, counts.points(part), anchors) for part in parts}
    fits = {part: found for part, found in tried.items() if found is not None}
    start = max((found.start for found in fits.values()), default=0)
    degree = max((found.polynomial.degree(counts.dimension) for found in fits.values()), default=0)
    sizes = sorted(size for size in counts.measured if size >= start)
    axis, others = sizes[: degree + 1], sizes[degree + 1 :]
    return _Line(counts.dimension, fits, tuple(axis), tuple(others[-HELD_OUT:]))


def _sizes_near(base: int) -> Iterator[int]:
    """Sizes that share the divisors of `base`: multiples first, one of them far; then fractions."""
    yield from (base * factor for factor in (2, 3, 8, 4, 5, 6, 7))
    for pieces in (2, 4, 8):
        if base % pieces == 0:
            yield from (base * k // pieces for k in range(1, 2 * pieces) if k != pieces)


def _cost(grid: _Grid, part: Part, lines: Mapping[str, _Line]) -> ExactCost:
    component, quantity = part
    stubborn = [name for name, line in lines.items() if part not in line.fits]
    if stubborn:
        return ExactCost(component, quantity, None, {}, f"no polynomial in {', '.join(stubborn)}")
    polynomial = _through_grid(grid, part, list(lines.values()))
    if polynomial is None:
        return ExactCost(
            component, quantity, None, {}, f"no polynomial in {', '.join(lines)} together"
        )
    starts = {name: line.fits[part].start for name, line in lines.items()}
    note = "; ".join(
        f"exact from {name} = {start:,} on"
        for (name, start), size in zip(starts.items(), grid.base, strict=True)
        if start > size
    )
    return ExactCost(component, quantity, polynomial, _crossovers(grid, polynomial), note)


def _through_grid(grid: _Grid, part: Part, lines: Sequence[_Line]) -> Polynomial | None:
    axes = [line.axis for line in lines]
    values = {at: grid.flops(at, part) for at in product(*axes)}
    known = {at: flops for at, flops in values.items() if flops is not None}
    if len(known) < len(values):
        return None
    polynomial = interpolate(grid.names, axes, known)
    for at in zip(*(line.held_out for line in lines), strict=False):
        if polynomial.value(**dict(zip(grid.names, at, strict=True))) != grid.flops(at, part):
            return None
    return polynomial


def _crossovers(grid: _Grid, polynomial: Polynomial) -> dict[str, int]:
    base = dict(zip(grid.names, grid.base, strict=True))
    found = {
        name: crossover(
            polynomial.at(**{other: size for other, size in base.items() if other != name})
        )
        for name in grid.names
    }
    return {name: size for name, size in found.items() if size is not None}
