"""`Measurement`: everything one count of one workload found, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.metric import (
    FLOPS,
    MACS,
    METRICS,
    PARAMETERS,
    TOTAL,
    Costs,
    Counted,
    metric_of,
    phase_of,
    quantities_of,
)
from pytest_flops.counting.table import tree
from pytest_flops.counting.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pytest_flops.counting.metric import Metric

Rules = Literal["published", "executed"]
Source = Literal["analytic", "meter"]


@dataclass(frozen=True, slots=True)
class Measurement(Counted):
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
        assumptions: What `count_flops` took for granted, where code asked for values that fake
            tensors do not have, and that there was a second run: a sentence each, and likewise a
            remark.
        operations: Cost by operator name, of the meter only.
        own_operations: What each component costs by itself, without the components inside it, by
            path and operator name; the path of the whole is empty. Of the meter only; a component
            that costs nothing by itself is not there.
        not_called: Components that no call entered: submodules of a traced, scripted or exported
            module, and modules that are used without being called, or not at all. What they compute
            in forward and backward is in what their parents cost, so their own 0 says nothing.
        metrics: What it costs by other metrics than FLOPs, as far as somebody asked for them.
        found_at: What the other metrics found, by the metric's name, the line of somebody's own
            code, and phase and operator (`"forward aten.mm"`), as far as somebody asked for lines;
            no part of what makes two measurements equal.
        recomputed: The part of the backward FLOPs that repeats forward work under activation
            checkpointing, of the meter only.
    """

    count: FLOPsCount
    components: Mapping[str, FLOPsCount]
    source: Source
    rules: Rules
    uncounted: Mapping[str, int] = field(default_factory=dict)
    child_processes: int = field(default=0, compare=False)
    assumptions: tuple[str, ...] = field(default=(), compare=False)
    operations: Mapping[str, FLOPsCount] = field(default_factory=dict)
    own_operations: Mapping[str, Mapping[str, FLOPsCount]] = field(default_factory=dict)
    recomputed: int = 0
    not_called: tuple[str, ...] = ()
    metrics: Mapping[str, Costs] = field(default_factory=dict)
    found_at: Mapping[str, Mapping[str, Mapping[str, int]]] = field(
        default_factory=dict, compare=False
    )

    @property
    def lines(self) -> dict[str, dict[str, int]]:
        """What the other metrics found by the line of somebody's own code, the largest first."""
        return {name: self.lines_of(name) for name in self.found_at}

    def lines_of(
        self,
        metric: str,
        phases: Collection[str] = (),
        operators: Collection[str] = (),
    ) -> dict[str, int]:
        """The same of one metric, in these phases and of these operators; without any, in all."""
        found: dict[str, int] = {}
        for line, places in self.found_at.get(metric, {}).items():
            for place, value in places.items():
                phase, _, operator = place.partition(" ")
                if phase in (phases or (phase,)) and operator in (operators or (operator,)):
                    found[line] = found.get(line, 0) + value
        return dict(sorted(found.items(), key=lambda line: (-line[1], line[0])))

    def counts(self, quantity: str) -> bool:
        """Whether the metric of a quantity was counted; what was not has no 0 either."""
        metric = metric_of(quantity)
        return metric is FLOPS or metric.name in self.metrics

    def table(self, levels: int | None = None, over: float = 0) -> str:
        """One line per component that costs something, a tree, and remarks below it.

        Parameters and MACs, if they were counted, stand beside the FLOPs; any other metric has a
        table of its own. There is no component below so many `levels`, and none that is not `over`
        so many percent of the whole.
        """
        metrics = [METRICS[name] for name in self.metrics if name in METRICS]
        tables = [
            tree(*self._columns(metric), levels=levels, over=over, adds_up=metric.join == "sum")
            for metric in (FLOPS, *metrics)
            if metric is not PARAMETERS
        ]
        return "\n".join(("\n\n".join(map("\n".join, tables)), *self.remarks()))

    def _columns(self, metric: Metric) -> tuple[list[str], list[int], dict[str, list[int]]]:
        """What stands above the columns of a metric's table, and the figures in them."""
        beside = {PARAMETERS: "parameters", MACS: "forward MACs"} if metric is FLOPS else {}
        beside = {other: name for other, name in beside.items() if other.name in self.metrics}
        quantities = quantities_of(metric)

        def figures(path: str | None) -> list[int]:
            others = [self.metrics[other.name].of(other, TOTAL, path) for other in beside]
            return [*others, *(self.of(quantity, path) for quantity in quantities)]

        own = self if metric is FLOPS else self.metrics[metric.name]
        title = "component" if metric is FLOPS else f"{metric.name} ({metric.unit.symbol})"
        return (
            [title, *beside.values(), *map(phase_of, quantities)],
            figures(None),
            {path: figures(path) for path in own.components},
        )

    def remarks(self) -> Iterator[str]:
        """What a count says beside its figures, a line each."""
        if self.recomputed:
            yield f"recomputed in backward (activation checkpointing): {self.recomputed:,}"
        for name, calls in self.uncounted.items():
            yield f"uncounted: {printable(name)}, {calls} call{'s' if calls > 1 else ''}"
        if macs := self.metrics.get(MACS.name):
            for name in macs.details["left_out"]:
                yield f"in no MACs: {printable(name)}, which is a product and more in one operator"
        if self.child_processes:
            yield f"child processes, counted by nobody: {self.child_processes}"
        for name, lines in self.lines.items():
            if METRICS[name].of_compiler:
                yield from (f"{name}: {printable(line)} ({n})" for line, n in lines.items())
        yield from self.assumptions

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return f"<pre>{escape(self.table())}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "count": self.count.to_dict(),
            "components": {path: cost.to_dict() for path, cost in self.components.items()},
            "source": self.source,
            "rules": self.rules,
            "uncounted": dict(self.uncounted),
            "child_processes": self.child_processes,
            "assumptions": list(self.assumptions),
            "operations": {name: cost.to_dict() for name, cost in self.operations.items()},
            "own_operations": self._own_operations(),
            "recomputed": self.recomputed,
            "not_called": list(self.not_called),
            "metrics": {name: costs.to_dict() for name, costs in self.metrics.items()},
            "found_at": {
                name: {line: dict(places) for line, places in lines.items()}
                for name, lines in self.found_at.items()
            },
        }

    def _own_operations(self) -> list[dict[str, Any]]:
        """For JSON: a record for all components alike, which says the phases that cost something.

        Written one by one, a model's many layers would make most of its report.
        """
        alike: dict[tuple[tuple[str, FLOPsCount], ...], list[str]] = {}
        for path, costs in self.own_operations.items():
            alike.setdefault((*costs.items(),), []).append(path)
        return [
            {"components": paths, "operations": {name: cost.by_phase() for name, cost in costs}}
            for costs, paths in alike.items()
        ]

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
            assumptions=tuple(record.get("assumptions", ())),
            operations={
                name: FLOPsCount.from_dict(cost) for name, cost in record["operations"].items()
            },
            own_operations={
                path: {key: FLOPsCount.from_dict(cost) for key, cost in each["operations"].items()}
                for each in record.get("own_operations", ())
                for path in each["components"]
            },
            recomputed=record["recomputed"],
            not_called=tuple(record.get("not_called", ())),
            metrics={
                name: Costs.from_dict(costs) for name, costs in record.get("metrics", {}).items()
            },
            found_at=record.get("found_at", {}),
        )


SPARSE_WITHOUT_VALUES = " (of a sparse tensor without values)"
"""Follows an operator's name in `Measurement.uncounted` whose cost only such values would tell."""


KERNEL = "triton."
"""Begins the name in `Measurement.uncounted` of a Triton kernel that was launched directly."""


PACKAGE = "aotinductor.package"
"""The name in `Measurement.uncounted` of compiled code that `torch.export` was the way to."""


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
    if uncounted.startswith(KERNEL):
        return (
            f"give this Triton kernel a cost with @register_cost({uncounted[len(KERNEL) :]}) of "
            "pytest_flops.counting.costs: a function of the kernel's arguments, by their names"
        )
    if uncounted == PACKAGE:
        return (
            "a package of AOTInductor is compiled code, which has no graph to count: count the "
            "exported program that it was made from"
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
