"""`Measured`: measurements at several sizes of one dimension, each made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.measure import WorkloadError
from pytest_flops.counting.metric import METRICS, QUANTITIES, Quantity, quantities_of
from pytest_flops.scaling.errors import ScalingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_flops.counting.measurement import Measurement

Part = tuple[str | None, Quantity]

COUNTED_UP_TO = 4096
"""Sizes up to here are always counted; a Python loop of so many steps takes seconds to trace."""


class Measured:
    """What a workload costs at the sizes of one dimension that were counted so far."""

    def __init__(self, count_at: Callable[[int], Measurement], dimension: str) -> None:
        self.dimension = dimension
        self.measured: dict[int, Measurement] = {}
        self._count_at = count_at
        self._rejected: dict[int, str] = {}

    def require(self, sizes: Iterable[int]) -> None:
        """Count at every one of these sizes.

        Raises:
            ScalingError: The model rejects some; the message says which, and why.
        """
        rejected: dict[str, list[int]] = {}
        for size in sizes:
            if not self.probe(size):
                rejected.setdefault(self._rejected[size], []).append(size)
        if rejected:
            raise ScalingError(
                "\n".join(
                    f"{self.dimension} = {listed(sizes)} is rejected: {reason}"
                    for reason, sizes in rejected.items()
                )
            )

    def probe(self, size: int) -> bool:
        """Count at a size that the model may reject; False where it does."""
        if size in self.measured or size in self._rejected:
            return size in self.measured
        try:
            measurement = self._count_at(size)
        except Exception as error:  # whatever a user's model may raise
            ours = isinstance(error, WorkloadError)
            self._rejected[size] = str(error) if ours else f"{type(error).__name__}: {error}"
            return False
        refuse_uncounted(measurement, f"{self.dimension} = {size:,}")
        self.measured[size] = measurement
        return True

    def points(self, part: Part, sizes: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """(size, cost) of one part, ascending, at those sizes where it was counted and exists."""
        known = sorted(size for size in sizes if size in self.measured)
        costs = ((size, cost_of(self.measured[size], part)) for size in known)
        return tuple((size, cost) for size, cost in costs if cost is not None)


def parts_of(measurements: Iterable[Measurement]) -> list[Part]:
    """FLOPs of the whole and of every component that any of them has; other metrics of the whole.

    Another metric has no parts by component: a peak is not the sum of its parts.
    """
    paths: dict[str | None, None] = {None: None}
    others: dict[str, None] = {}
    for measurement in measurements:
        paths.update(dict.fromkeys(measurement.components))
        others.update(dict.fromkeys(measurement.metrics))
    flops: list[Part] = [(path, quantity) for path in paths for quantity in QUANTITIES]
    return flops + [(None, each) for name in others for each in quantities_of(METRICS[name])]


def cost_of(measurement: Measurement, part: Part) -> int | None:
    """What one part costs; `None` where there is no such component."""
    component, quantity = part
    return measurement.if_there(quantity, component)


def refuse_uncounted(measurement: Measurement, where: str) -> None:
    """Refuse a lower bound.

    Raises:
        ScalingError: An operator without a cost ran, so the count says nothing about growth.
    """
    if measurement.uncounted:
        calls = ", ".join(f"{name} ({times})" for name, times in measurement.uncounted.items())
        raise ScalingError(f"{where}: operators without a cost ran, with their calls: {calls}")


def listed(sizes: Iterable[int]) -> str:
    """Sizes for people: `128, 1,048,576`."""
    return ", ".join(f"{size:,}" for size in sizes)
