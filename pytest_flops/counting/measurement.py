"""`Measurement`: everything one count of one workload found, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_flops.counting.count import FLOPsCount

if TYPE_CHECKING:
    from collections.abc import Mapping

Rules = Literal["published", "executed"]
Source = Literal["analytic", "meter"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The cost of one training step and of its parts.

    Attributes:
        count: The whole step.
        components: Cost by dotted component path. A tree: what a component costs contains what its
            children cost, so `layer_0` contains `layer_0.moe`.
        source: The counter that produced it.
        rules: The counting rules it followed.
        uncounted: Arithmetic operators the meter has no cost for, with the number of their calls;
            in parentheses, modules and optimizers' steps that ran in a thread that it does not
            count. Anything in it makes the count a lower bound, and a gate must refuse it.
        child_processes: How many processes were started meanwhile, by `multiprocessing`,
            `subprocess` or `os`, which nobody counts; a remark, and no part of what makes two
            measurements equal.
        operations: Cost by operator name, of the meter only.
        recomputed: The part of the backward FLOPs that repeats forward work under activation
            checkpointing, of the meter only.
    """

    count: FLOPsCount
    components: Mapping[str, FLOPsCount]
    source: Source
    rules: Rules
    uncounted: Mapping[str, int] = field(default_factory=dict)
    child_processes: int = field(default=0, compare=False)
    operations: Mapping[str, FLOPsCount] = field(default_factory=dict)
    recomputed: int = 0

    def of(self, quantity: str, component: str | None = None) -> int:
        """What a component costs in a quantity, or the whole; 0 where it is not there."""
        cost = self.count if component is None else self.components.get(component)
        return 0 if cost is None else cost.of(quantity)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "count": self.count.to_dict(),
            "components": {path: cost.to_dict() for path, cost in self.components.items()},
            "source": self.source,
            "rules": self.rules,
            "uncounted": dict(self.uncounted),
            "child_processes": self.child_processes,
            "operations": {name: cost.to_dict() for name, cost in self.operations.items()},
            "recomputed": self.recomputed,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_dict`."""
        return cls(
            count=FLOPsCount.from_dict(record["count"]),
            components={
                path: FLOPsCount.from_dict(cost) for path, cost in record["components"].items()
            },
            source=record["source"],
            rules=record["rules"],
            uncounted=dict(record["uncounted"]),
            child_processes=record.get("child_processes", 0),
            operations={
                name: FLOPsCount.from_dict(cost) for name, cost in record["operations"].items()
            },
            recomputed=record["recomputed"],
        )


SPARSE_WITHOUT_VALUES = " (of a sparse tensor without values)"
"""Follows an operator's name in `Measurement.uncounted` whose cost only such values would tell."""


def is_thread(uncounted: str) -> bool:
    """Whether a name in `Measurement.uncounted` is of a call in a thread, not of an operator."""
    return uncounted.startswith("(")


def how_to_count(uncounted: str) -> str:
    """What to do about something uncounted, named as in `Measurement.uncounted`."""
    if is_thread(uncounted):
        return (
            "start the thread inside what is counted, or submit the work to a ThreadPoolExecutor "
            "there"
        )
    if uncounted.endswith(SPARSE_WITHOUT_VALUES):
        return (
            "how much it computes depends on how many values the tensor stores, which a fake one, "
            "or one on the meta device, does not know: count a real step, with FLOPsMeter()"
        )
    return (
        "give it a cost with the hook pytest_flops_register_costs, or with the decorator "
        f"@register_cost({uncounted.replace('.', '::', 1)!r}) of pytest_flops.counting.costs"
    )
