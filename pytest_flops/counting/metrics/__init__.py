"""How the metrics other than FLOPs are counted: one file each, loaded when somebody asks for it.

A counter lives as long as its meter. It is asked once for every operator, and returns what tells
the cost of each call in the metric's unit; the meter joins that per phase and module, as the metric
says. What is decided once for an operator costs nothing in its thousands of calls.
A counter that must see more than operators (Python calls, the ends of tensors) sees to that itself,
between `start` and `stop`.
"""

from __future__ import annotations

from importlib import import_module
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    runtime_checkable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_flops.counting.count import Phase
    from pytest_flops.counting.metric import Costs, Metric


MeteredPhase: TypeAlias = Literal["forward", "backward", "recomputed", "optimizer"]
"""Where an operator runs: a phase, or what a checkpoint runs again in a backward."""

PHASE: Mapping[MeteredPhase, Phase] = {
    "forward": "forward",
    "backward": "backward",
    "recomputed": "backward",
    "optimizer": "optimizer",
}


class Call(NamedTuple):
    """One call of an operator.

    Attributes:
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        out: What it returned.
        flops: What it computes; `None` where nobody knows.
        phase: Where it ran. What a checkpoint runs again is `"recomputed"`, and counts as backward.
        module: The number of the module that it belongs to, as `ModulePaths` has it.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    out: Any
    flops: int | None
    phase: MeteredPhase
    module: int


Price: TypeAlias = "Callable[[Call], int]"
"""What a call of one operator costs."""

Prices: TypeAlias = "Sequence[tuple[Metric, Price]]"
"""What metrics make of the calls of one operator, those left out that it costs nothing by."""


class Counter(Protocol):
    """Counts one metric for one meter: the class `Counter` of `counting.metrics.NAME`.

    A class that derives from this one need only say what an operator costs.
    """

    def start(self, note: Callable[[int], None]) -> None:
        """The meter begins; `note` joins a value at the place where the calling thread is."""

    def stop(self) -> None:
        """The meter ends; also after an error."""

    def of_operator(self, func: Any) -> Price | None:
        """What tells the cost of an operator's calls; `None` if each costs nothing.

        Args:
            func: The operator, e.g. `torch.ops.aten.mm.default`. Its price takes each `Call` of it
                and returns a whole number of the metric's unit.
        """


@runtime_checkable
class Finisher(Protocol):
    """A counter that knows something only at the end may be this as well."""

    def finished(self, costs: Costs, paths: Mapping[int, str]) -> Costs:
        """The costs as they are then; `paths` are those of the modules by number."""


def counters(metrics: Iterable[Metric]) -> dict[Metric, Counter]:
    """A new counter for each metric that needs one; parameters are there without counting."""
    return {
        metric: (metric.counter or import_module(f"{__name__}.{metric.name}").Counter)()
        for metric in metrics
        if metric.phases
    }
