"""What `flops.check(x)` makes of `x`: the workload it stands for, and its measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.workload import RESNET_BK, Workload
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.config import ResNetBKConfig

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK


def workload_of(
    counted: object,
    base: Workload | None,
    *,
    batch_size: int | None,
    seq_len: int | None,
    optimizer: str | None,
) -> Workload | None:
    """The workload of a ResNet-BK model or configuration; `None` of anything else.

    Args:
        counted: What the test gave.
        base: The budget's workload, which says what the call leaves open.
        batch_size: Sequences per step, if the call gave it.
        seq_len: Tokens per sequence, if the call gave it.
        optimizer: The optimizer's name, if the call gave it.

    Raises:
        BudgetError: Neither the call nor the budget gives the sizes.
    """
    model = _resnet_bk(counted)
    if model is None:
        return None
    config = model if isinstance(model, ResNetBKConfig) else model.config
    base = base or Workload(RESNET_BK)
    workload = Workload(
        model=RESNET_BK,
        config=config.to_dict(),
        batch_size=batch_size or base.batch_size,
        seq_len=seq_len or base.seq_len,
        optimizer=optimizer or base.optimizer,
        rules=base.rules,
    )
    if workload.batch_size is None or workload.seq_len is None:
        raise BudgetError(
            "flops.check() of a ResNet-BK model needs batch_size= and seq_len=, in the call or in "
            "the budget's workload"
        )
    return workload


def differences(counted: Workload, budgeted: Workload) -> list[str]:
    """In what a ResNet-BK of a test is not the budget's workload, e.g. `n_layers 3, not 4`."""
    ours, theirs = (
        ResNetBKConfig.from_dict(workload.config).to_dict()
        | {name: getattr(workload, name) for name in ("batch_size", "seq_len", "optimizer")}
        for workload in (counted, budgeted)
    )
    return [f"{key} {ours[key]}, not {theirs[key]}" for key in ours if ours[key] != theirs[key]]


def measurement_of(counted: object, workload: Workload | None) -> Measurement:
    """The measurement of what the test gave.

    Args:
        counted: A ResNet-BK model or configuration, a `FLOPsCounter`, a finished `FLOPsMeter`, a
            `Measurement` or a `FLOPsCount`.
        workload: The workload that the first two stand for.

    Raises:
        BudgetError: It is none of these, or the model is too short for the workload's sequence.
    """
    model = _resnet_bk(counted)
    if model is not None and workload is not None:
        return _counted_analytically(model, workload)
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
        "flops.check() takes a ResNet-BK model or configuration, a FLOPsCounter, a FLOPsMeter, a "
        f"Measurement or a FLOPsCount, not {type(counted).__name__}; to count another model, run "
        "its step inside `with flops.measure():`"
    )


def _counted_analytically(
    model: ConfigurableResNetBK | ResNetBKConfig, workload: Workload
) -> Measurement:
    assert workload.batch_size is not None
    assert workload.seq_len is not None
    try:
        counter = FLOPsCounter(model, workload.batch_size, workload.seq_len, workload.counted_by)
        return counter.measurement(workload.optimizer)
    except ValueError as error:
        raise BudgetError(str(error)) from error


def _resnet_bk(counted: Any) -> ConfigurableResNetBK | ResNetBKConfig | None:
    """A model is known by its configuration, so that torch need not be imported to see it."""
    if isinstance(counted, ResNetBKConfig):
        return counted
    has_config = isinstance(getattr(counted, "config", None), ResNetBKConfig)
    if has_config and hasattr(counted, "named_parameters"):
        model: ConfigurableResNetBK = counted
        return model
    return None
