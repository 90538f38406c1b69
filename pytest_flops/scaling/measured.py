"""`Measured`: measurements at several sizes, each made once, and the sizes worth probing."""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING

from pytest_flops.counting.count import QUANTITIES, Quantity
from pytest_flops.counting.measure import WorkloadError
from pytest_flops.scaling.errors import ScalingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_flops.counting.measurement import Measurement

Part = tuple[str | None, Quantity]

COUNTED_UP_TO = 4096
"""Sizes up to here are always counted; a Python loop of so many steps takes seconds to trace."""

_STEPS_PER_LATTICE = 8


class Measured:
    """What a workload costs at the sizes of one dimension that were counted so far."""

    def __init__(self, count_at: Callable[[int], Measurement], dimension: str) -> None:
        self.dimension = dimension
        self.measured: dict[int, Measurement] = {}
        self._count_at = count_at
        self._rejected: set[int] = set()

    def require(self, sizes: Iterable[int]) -> None:
        """Count at every one of these sizes.

        Raises:
            ScalingError: The model rejects some; the message says which, and why.
        """
        rejected: dict[str, list[int]] = {}
        for size in sizes:
            error = None if size in self.measured else self._measure(size)
            if error is not None:
                rejected.setdefault(_reason(error), []).append(size)
        if rejected:
            raise ScalingError(
                "\n".join(
                    f"{self.dimension} = {listed(sizes)} is rejected: {reason}"
                    for reason, sizes in rejected.items()
                )
            )

    def probe(self, size: int) -> bool:
        """Count at a size nobody asked for; False where the model rejects it."""
        known = size in self.measured or size in self._rejected
        if not known and self._measure(size) is not None:
            self._rejected.add(size)
        return size in self.measured

    def _measure(self, size: int) -> Exception | None:
        """Count at one size; returns what the model raised, if it did."""
        try:
            measurement = self._count_at(size)
        except Exception as error:  # whatever a user's model may raise
            return error
        refuse_uncounted(measurement, f"{self.dimension} = {size:,}")
        self.measured[size] = measurement
        return None

    def points(self, part: Part, sizes: Iterable[int] | None = None) -> tuple[tuple[int, int], ...]:
        """(size, FLOPs) of one part, ascending, at those sizes where the part exists."""
        known = sorted(self.measured) if sizes is None else sorted(sizes)
        flops = ((size, flops_of(self.measured[size], part)) for size in known)
        return tuple((size, count) for size, count in flops if count is not None)


def parts_of(measurements: Iterable[Measurement]) -> list[Part]:
    """Every quantity of the whole and of every component that any of them has, in their order."""
    paths: dict[str | None, None] = {None: None}
    for measurement in measurements:
        paths.update(dict.fromkeys(measurement.components))
    return [(path, quantity) for path in paths for quantity in QUANTITIES]


def flops_of(measurement: Measurement, part: Part) -> int | None:
    """FLOPs of one part; `None` where there is no such component."""
    path, quantity = part
    count = measurement.count if path is None else measurement.components.get(path)
    return None if count is None else count.of(quantity)


def refuse_uncounted(measurement: Measurement, where: str) -> None:
    """Refuse a lower bound.

    Raises:
        ScalingError: An operator without a cost ran, so the count says nothing about growth.
    """
    if measurement.uncounted:
        calls = ", ".join(f"{name} ({times})" for name, times in measurement.uncounted.items())
        raise ScalingError(f"{where}: operators without a cost ran, with their calls: {calls}")


def lattice_step(sizes: Sequence[int]) -> int:
    """The largest step that leads from the first of ascending sizes to every other one.

    Sizes on this lattice share what the caller's sizes have in common: a width divisible by the
    heads, a length in the same residue class of a stride.
    """
    return gcd(*(larger - smaller for smaller, larger in pairwise(sizes)))


def probing_sizes(start: int, step: int) -> Iterator[int]:
    """Sizes above `start`, close to it whatever is swept: along the lattice, then ever finer."""
    while step:
        yield from (start + step * k for k in range(1, _STEPS_PER_LATTICE + 1))
        step = 0 if step == 1 else step // 2 if step % 2 == 0 else 1


def listed(sizes: Iterable[int]) -> str:
    """Sizes for people: `128, 1,048,576`."""
    return ", ".join(f"{size:,}" for size in sizes)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, WorkloadError) else f"{type(error).__name__}: {error}"
