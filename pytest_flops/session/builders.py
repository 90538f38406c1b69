"""What `flops.check(x)` makes of `x`: the workload it stands for, and its measurement."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.counting.builder import accepted
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import METRICS

if TYPE_CHECKING:
    from pytest_flops.counting.builder import Builder, Builders
    from pytest_flops.counting.workload import Workload


def measured(
    counted: object,
    base: Workload | None,
    builders: Builders,
    *,
    batch_size: int | None,
    seq_len: int | None,
    optimizer: str | None,
) -> tuple[Measurement, Workload | None]:
    """The measurement of what the test gave; and its workload, where a builder accepts it.

    The sizes and the optimizer are those of the call to `flops.check()`; what it leaves open is as
    in `base`, the budget's workload.

    Raises:
        BudgetError: It is none of these, or neither the call nor the budget gives the sizes.
        WorkloadError: The builder cannot count it.
    """
    found = accepted(counted, builders)
    if found is None:
        measurement = _measurement_of(counted)
        # A report knows none but the registered metrics: no roofline, and no MACs.
        kept = {name: costs for name, costs in measurement.metrics.items() if name in METRICS}
        return replace(measurement, metrics=kept), None
    like = base or replace(found.workload, batch_size=None, seq_len=None)
    workload = replace(
        found.workload,
        batch_size=batch_size or like.batch_size,
        seq_len=seq_len or like.seq_len,
        optimizer=optimizer or like.optimizer,
        rules=like.rules,
    )
    for size in ("batch_size", "seq_len"):
        if getattr(workload, size) is None and getattr(found.workload, size) is not None:
            raise BudgetError(
                f"flops.check() of a {type(counted).__name__} needs batch_size= and seq_len=, in "
                "the call or in the budget's workload"
            )
    return found.measure(workload), workload


def differences(counted: Workload, budgeted: Workload, builder: Builder) -> list[str]:
    """In what a test's workload is not the budget's, e.g. `n_layers 3, not 4`."""
    ours, theirs = (
        {**builder.defaults, **workload.config}
        | {name: getattr(workload, name) for name in ("batch_size", "seq_len", "optimizer")}
        for workload in (counted, budgeted)
    )
    return [
        f"{key} {ours.get(key)}, not {theirs.get(key)}"
        for key in {**ours, **theirs}
        if ours.get(key) != theirs.get(key)
    ]


def _measurement_of(counted: object) -> Measurement:
    if isinstance(counted, Measurement):
        return counted
    if isinstance(counted, FLOPsCount):
        return Measurement(counted, {}, source="meter", rules="executed")
    if getattr(counted, "active", False):
        raise BudgetError(
            "flops.check() takes a finished FLOPsMeter; call it after its `with` block"
        )
    measurement = getattr(counted, "measurement", None)
    found = measurement() if callable(measurement) else None
    if isinstance(found, Measurement):
        return found
    raise BudgetError(
        "flops.check() takes a model or configuration that a registered builder accepts, a "
        "FLOPsCounter, a FLOPsMeter, a Measurement or a FLOPsCount, not "
        f"{type(counted).__name__}; to count another model, run its step inside "
        "`with flops.measure():`"
    )
