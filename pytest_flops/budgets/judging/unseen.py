"""What no gate may rest on: a count of nothing, or of less than ran, and what was never seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_flops.budgets.judging.reasons import lines_told
from pytest_flops.budgets.units import format_amount
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.measurement import how_to_count, is_thread
from pytest_flops.counting.metric import (
    CALL,
    FLOPS,
    METRICS,
    OF_INDUCTOR,
    QUANTITIES,
    is_total,
    quantity_of,
    unit_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.budgets.verdict import Kind
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.metric import Quantity

_OPTIMIZER: Final = quantity_of(FLOPS, "optimizer")


def uncounted_messages(measurement: Measurement) -> list[str]:
    """What was not counted, and what to do about it."""
    messages = []
    for name, calls in measurement.uncounted.items():
        times = "once" if calls == 1 else f"{calls:,} times"
        what = f"the operator {name} ran {times} and has no known cost, so the count is too low"
        if is_thread(name):
            what = f"not counted: {name[1:-1]}, so the count may be too low"
        about = [remark for remark in measurement.assumptions if f" {name} " in remark]
        messages.append("; ".join((what, how_to_count(name), *about)))
    return messages


def errors_of_count(measurement: Measurement, rules: Rules | None) -> Iterator[Verdict]:
    """Why no gate may rest on a count: negative, void, incomplete, or by rules of another kind."""
    counts = {phase: measurement.of(quantity_of(FLOPS, phase)) for phase in PHASES}
    for phase, count in counts.items():
        if count < 0:
            yield Verdict.error(f"{phase} is {count:,} FLOP; no work costs less than 0")
    if not any(counts.values()) and not measurement.uncounted:
        yield Verdict.error("nothing was counted: 0 FLOP in every phase; a budget of it is void")
    for message in uncounted_messages(measurement):
        yield Verdict.error(message)
    if rules not in (None, measurement.rules):
        yield Verdict.error(
            f"the budget is of {rules} FLOPs and the test counted {measurement.rules} ones; the "
            "two are not comparable: set the workload's rules, or check a model that the "
            "workload's builder accepts with the `flops` fixture"
        )


def vanished_phases(
    budget: Budget, measurement: Measurement, kinds: tuple[Kind, ...]
) -> Iterator[Verdict]:
    """A phase that is limited or recorded above 0 and counts exactly 0 now did not run.

    A forgotten `optimizer.step()` and a mistaken `no_grad` look like this, and no bound sees them.
    """
    if not measurement.count.total:  # of nothing at all there is an error already
        return
    phases = [quantity for quantity in QUANTITIES if not is_total(quantity)]
    bounds = {}
    if "recorded" in kinds and (recorded := budget.recorded) is not None:
        bounds = {q: (recorded.of(q), "recorded count", recorded.location) for q in phases}
    if "limit" in kinds:
        for limit in budget.limits:
            if limit.pattern is None and limit.quantity in phases:
                bounds[limit.quantity] = limit.allowed, "limit", limit.location
    for quantity, (bound, what, location) in bounds.items():
        if bound and not measurement.of(quantity):
            amount = format_amount(bound, unit_of(quantity))
            message = (
                f"{quantity} is 0 FLOP, so its {what} of {amount} is held against nothing: was the "
                "phase run, and outside no_grad? If it is gone for good, drop its limit and run "
                "pytest --flops-update"
            )
            yield Verdict.error(message, location=location)


def not_counted(
    budget: Budget, measurement: Measurement, kinds: tuple[Kind, ...]
) -> Iterator[Verdict]:
    """Metrics that the budget limits, or its record has, and that nobody counted."""
    asked = [*budget.limited_metrics] if "limit" in kinds else []
    asked += [*budget.recorded.metrics] if "recorded" in kinds and budget.recorded else []
    missing = [name for name in dict.fromkeys(asked) if name not in measurement.metrics]
    of_compiler = [name for name in missing if METRICS[name].of_compiler]
    for name in missing:
        if name not in of_compiler:
            message = (
                f"{name} was not counted, so what the budget says of it is held against nothing: a "
                "FLOPsMeter counts what it is asked for (metrics=[...]), and a FLOPsCount, or an "
                "object that a builder counts by itself, has FLOPs alone"
            )
            yield Verdict.error(message)
    if of_compiler:
        gave_up = lines_told(measurement.lines_of("graph_breaks"), CALL)
        by = "" if {*of_compiler} - {*OF_INDUCTOR} else " by Inductor (the default backend)"
        message = (
            f"nothing was compiled{by}, so what the budget says of {', '.join(of_compiler)} is "
            "held against nothing: call what torch.compile returns in the test's body, or in the "
            "step, or give the workload `compile: true`"
            f"{f'; the compiler gave up {gave_up}' if gave_up else ''}"
        )
        yield Verdict.error(message)


def is_seen(measurement: Measurement, quantity: Quantity, component: str | None) -> bool:
    """Whether a count of a component says something; an optimizer's step shows every parameter."""
    return component not in measurement.not_called or quantity == _OPTIMIZER


def not_seen(quantity: Quantity, component: str) -> str:
    """Why a count of a component says nothing."""
    return (
        f"{component} was not called, so its {quantity} is held against nothing: what it computes "
        "is counted where its weights are used, or inside the traced, scripted or exported module "
        "around it; limit that one"
    )
