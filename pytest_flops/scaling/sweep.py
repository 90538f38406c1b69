"""`sweep`: how the cost of a workload and of its parts grows over one dimension."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import log, sqrt
from statistics import fmean, linear_regression
from typing import TYPE_CHECKING, Any

from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.formula import find_formulas
from pytest_flops.scaling.measured import COUNTED_UP_TO, Measured, cost_of, listed, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Quantity
    from pytest_flops.scaling.formula import Formula
    from pytest_flops.scaling.measured import Part


@dataclass(frozen=True, slots=True)
class Growth:
    """How one quantity of one component grows.

    Attributes:
        component: The component's path; `None` is the whole workload.
        quantity: `forward`, `backward`, `optimizer` or `total`, or one of another metric.
        counts: The cost at each size of the sweep; 0 where the component does not exist.
        fitted: The log-log slope fitted to the counts.
        fit_error: What the slope leaves unexplained: root mean square of the residuals in
            logarithms of FLOPs, so that 0.01 is 1 %.
        local: The log-log slope between each two neighbouring sizes.
        asymptotic: The degree of the exact polynomial through the counts; `None` without one.
        polynomial: That polynomial, readable; `None` without one.
        note: What else there is to know: where the polynomial holds, what was evaluated from it
            instead of counted, where its leading term overtakes the rest.
    """

    component: str | None
    quantity: Quantity
    counts: tuple[int, ...]
    fitted: float
    fit_error: float
    local: tuple[float, ...]
    asymptotic: int | None
    polynomial: str | None
    note: str = ""

    @property
    def exponent(self) -> float:
        """What limits are held against: the asymptotic exponent, else the largest local one."""
        return float(max(self.local) if self.asymptotic is None else self.asymptotic)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON; `exponent` comes along for readers."""
        lists = {"counts": list(self.counts), "local": list(self.local)}
        return {**asdict(self), **lists, "exponent": self.exponent}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Growth:
        """The inverse of `to_dict`."""
        fields = {name: value for name, value in record.items() if name != "exponent"}
        return cls(**{**fields, "counts": tuple(record["counts"]), "local": tuple(record["local"])})


@dataclass(frozen=True, slots=True)
class Sweep:
    """One dimension, the sizes asked for (ascending), and the growth of the whole and its parts."""

    dimension: str
    sizes: tuple[int, ...]
    growth: tuple[Growth, ...]

    def of(self, quantity: Quantity = "total", component: str | None = None) -> Growth:
        """The growth of one quantity of one component.

        Raises:
            KeyError: There is no such component.
        """
        for growth in self.growth:
            if (growth.component, growth.quantity) == (component, quantity):
                return growth
        raise KeyError(component)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "dimension": self.dimension,
            "sizes": list(self.sizes),
            "growth": [growth.to_dict() for growth in self.growth],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Sweep:
        """The inverse of `to_dict`."""
        growth = tuple(Growth.from_dict(entry) for entry in record["growth"])
        return cls(record["dimension"], tuple(record["sizes"]), growth)


def sweep(
    count_at: Callable[[int], Measurement],
    dimension: str,
    sizes: Iterable[int],
    *,
    of_ranks: bool = False,
) -> Sweep:
    """Count a workload at several sizes and say how each part of it grows.

    Every size is counted by the analytic counter. By the meter, sizes beyond `COUNTED_UP_TO` (but
    for the two smallest and the largest) are evaluated from polynomials verified on the others:
    on fake tensors a large size takes no longer than a small one, except in a Python loop over
    it. The largest is always counted, since a model may do something else there. A few more sizes
    close to the smallest are counted while polynomials are not verified.

    Args:
        count_at: Counts the workload at one size of the dimension.
        dimension: The dimension's name.
        sizes: At least three different positive integers.
        of_ranks: Whether they are numbers of ranks: others in between are probed by doubling, and
            that one rank's cost is the same for all of them is no mistake.

    Raises:
        ScalingError: The sizes are no such integers, the model rejects one of them, an operator
            without a cost ran, or every count is the same at every size.
    """
    own = _checked_sizes(dimension, sizes)
    counts = Measured(count_at, dimension)
    counts.require(size for size in own if size <= COUNTED_UP_TO or size in (*own[:2], own[-1]))
    if counts.measured[own[0]].source == "analytic":
        counts.require(own)
    if not of_ranks:
        _refuse_no_change(counts, own)
    formulas = find_formulas(counts, own, doubling=of_ranks)
    measured = [counts.measured[size] for size in own if size in counts.measured]
    growth = tuple(_growth(counts, own, part, formulas.get(part)) for part in parts_of(measured))
    return Sweep(dimension, own, growth)


def _checked_sizes(dimension: str, sizes: Iterable[int]) -> tuple[int, ...]:
    if not isinstance(sizes, Iterable):
        raise ScalingError(f"{dimension}: sizes are a list of integers, not {sizes!r}")
    sizes = list(sizes)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ScalingError(f"{dimension}: sizes are integers of at least 1, not {size!r}")
    repeated = sorted({size for size in sizes if sizes.count(size) > 1})
    if repeated:
        raise ScalingError(f"{dimension}: sizes are repeated: {listed(repeated)}")
    if len(sizes) < 3:
        raise ScalingError(
            f"{dimension}: a sweep needs at least three sizes, not {listed(sizes) or 'none'}"
        )
    return tuple(sorted(sizes))


def _refuse_no_change(counts: Measured, own: Sequence[int]) -> None:
    if not _all_alike(counts):
        return
    counts.require(own)
    if _all_alike(counts):
        total = counts.measured[own[0]].count.total
        raise ScalingError(
            f"{counts.dimension}: the sweep changed nothing: every count is the same at every size "
            f"(total {total:,}); does the model use {counts.dimension}?"
        )


def _all_alike(counts: Measured) -> bool:
    first, *others = (
        (found.count, found.components, found.metrics) for found in counts.measured.values()
    )
    return all(other == first for other in others)


def _growth(counts: Measured, own: Sequence[int], part: Part, formula: Formula | None) -> Growth:
    flops = [_cost_at(counts, size, part, formula) for size in own]
    fitted, fit_error = fitted_exponent(own, flops)
    return Growth(
        *part,
        counts=tuple(count or 0 for count in flops),
        fitted=fitted,
        fit_error=fit_error,
        local=local_exponents(own, flops),
        asymptotic=formula.degree if formula else None,
        polynomial=str(formula) if formula else None,
        note="; ".join(_remarks(counts, own, flops, formula)),
    )


def _cost_at(counts: Measured, size: int, part: Part, formula: Formula | None) -> int | None:
    if size in counts.measured:
        return cost_of(counts.measured[size], part)
    return formula.at(size) if formula else None


def _remarks(
    counts: Measured, own: Sequence[int], flops: Sequence[int | None], formula: Formula | None
) -> Iterator[str]:
    name = counts.dimension
    present = [size for size, count in zip(own, flops, strict=True) if count is not None]
    if len(present) < len(own):
        yield f"exists only at {name} = {listed(present)}"
    if formula is None:
        if len({count for count in flops if count is not None}) > 1:
            yield f"no polynomial in {name}: the largest local exponent counts"
        return
    if formula.period > 1:
        yield f"exact within residue classes of {name} modulo {formula.period}"
    too_small = [size for size in present if not formula.holds_at(size)]
    if too_small:
        yield f"costs something else at {name} = {listed(too_small)}"
    evaluated = [size for size in own if size not in counts.measured]
    if evaluated:
        yield f"evaluated, not counted, at {name} = {listed(evaluated)}"
    if formula.degree > 0 and formula.crossover is not None and formula.crossover > 1:
        yield f"degree {formula.degree} overtakes the rest at {name} = {formula.crossover:,}"


def local_exponents(sizes: Sequence[int], counts: Sequence[int | None]) -> tuple[float, ...]:
    """The log-log slope between each two neighbours; 0 where there is no such component.

    A count of 0 is taken for 1 FLOP, so that growth from nothing is steep but finite.
    """
    points = zip(sizes, counts, strict=True)
    return tuple(
        0.0
        if low is None or high is None
        else (log(max(high, 1)) - log(max(low, 1))) / log(larger / smaller)
        for (smaller, low), (larger, high) in pairwise(points)
    )


def fitted_exponent(sizes: Sequence[int], counts: Sequence[int | None]) -> tuple[float, float]:
    """The least-squares slope of log count over log size, and the root mean square of the rest.

    Both are 0 where fewer than two sizes have a count.
    """
    present = [(size, max(n, 1)) for size, n in zip(sizes, counts, strict=True) if n is not None]
    if len(present) < 2:
        return 0.0, 0.0
    x, y = [log(size) for size, _ in present], [log(count) for _, count in present]
    slope, intercept = linear_regression(x, y)
    rest = (high - intercept - slope * at for at, high in zip(x, y, strict=True))
    return slope, sqrt(fmean(each**2 for each in rest))
