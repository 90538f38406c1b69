"""Budgets and their records as plain frozen data, made by `files`, read by `judging`."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flops.counting.metric import FLOPS, Counted, metric_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.count import FLOPsCount
    from pytest_flops.counting.metric import Costs, Quantity
    from pytest_flops.counting.workload import Workload


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file; lines and columns from 1. Prints as `file:line:column`."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    @classmethod
    def parse(cls, text: str | None) -> Location | None:
        """The inverse of `str`, for readers of JSON; no place in JSON is `null`."""
        if text is None:
            return None
        file, line, column = text.rsplit(":", 2)
        return cls(file, int(line), int(column))


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper bound on one quantity.

    Attributes:
        quantity: What is bounded.
        allowed: The bound in the quantity's unit; a count equal to it passes.
        written: The bound as its author wrote it, e.g. `"16.3 GFLOP"`.
        pattern: Which components are held to it, each alone; `None` is the whole workload.
        location: Where it stands; `None` for a limit given in Python.
    """

    quantity: Quantity
    allowed: int
    written: str
    pattern: str | None = None
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class ScalingLimit:
    """How fast the cost may grow over one dimension.

    Attributes:
        dimension: The swept dimension, e.g. `"seq_len"`.
        sizes: The sizes the author named, ascending, at least three.
        max_exponent: Largest allowed exponent of the total and of every phase; `None` holds only
            the components and the metrics.
        components: Largest allowed exponent by component pattern.
        location: Where it stands.
        tolerance: How far above a largest exponent a measured one may be; 0 unless given.
        metrics: Largest allowed exponent of other metrics, by name.
    """

    dimension: str
    sizes: tuple[int, ...]
    max_exponent: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    location: Location | None = None
    tolerance: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded(Counted):
    """The exact counts that `--flops-update` wrote into a lock file: the base of regression.

    Attributes:
        count: The whole workload.
        components: By component path, those that cost something; empty where only a count is known.
        location: Its line in the lock file.
        operations: By operator name.
        metrics: By the name of another metric than FLOPs.
    """

    count: FLOPsCount
    components: Mapping[str, FLOPsCount] = field(default_factory=dict)
    location: Location | None = field(default=None, compare=False)
    operations: Mapping[str, FLOPsCount] = field(default_factory=dict)
    metrics: Mapping[str, Costs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Budget:
    """One named entry of a budget file, or one marker's keywords.

    Attributes:
        name: The entry's key; of an inline budget, the test's id.
        workload: What to count; `None` when a test brings its own model.
        limits: Upper bounds, in the order written.
        tolerance: How far above `recorded` a count may go, as a fraction (`1%` is 1/100).
        warn: The share of a limit above which a count that passes is close to it, as a fraction;
            `None` tells no count so.
        scaling: Scaling limits, in the order written.
        recorded: The base of regression, once recorded.
        location: Where the entry stands; `None` for a budget given in Python.
    """

    name: str
    workload: Workload | None = None
    limits: tuple[Limit, ...] = ()
    tolerance: Fraction = Fraction(0)
    warn: Fraction | None = None
    scaling: tuple[ScalingLimit, ...] = ()
    recorded: Recorded | None = None
    location: Location | None = None

    @property
    def limited_metrics(self) -> tuple[str, ...]:
        """The metrics besides FLOPs that its limits are of."""
        limited = dict.fromkeys(metric_of(limit.quantity).name for limit in self.limits)
        return tuple(name for name in limited if name != FLOPS.name)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics besides FLOPs that its limits and its record ask for."""
        recorded = self.recorded.metrics if self.recorded else ()
        return tuple(dict.fromkeys((*self.limited_metrics, *recorded)))
