"""The parity check: the analytic counter's executed rules against the meter, to the last FLOP.

The analytic counter works at any size but does not see the model's code; the meter sees every
operator but has to run the code. While both agree, the analytic count may be trusted at sizes that
nobody can run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.measure import WorkloadError
from pytest_flops.counting.measurement import how_to_count
from pytest_flops.counting.parity import Parity, compare
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import ResNetBKConfig
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK


def parity(
    config: ResNetBKConfig,
    batch_size: int,
    seq_len: int,
    optimizer: str = "adamw",
    *,
    model: ConfigurableResNetBK | None = None,
) -> tuple[Parity, ...]:
    """Count a training step analytically and by the meter, without running it.

    Args:
        config: The configuration the analytic counter reads.
        batch_size: Sequences B.
        seq_len: Tokens N of a sequence.
        optimizer: `"sgd"`, `"adam"`, `"adamw"` or `"none"`.
        model: The model to meter; one built from `config` when left out.

    Returns:
        One record per component and phase, the whole model first.

    Raises:
        WorkloadError: A size or the optimizer is not accepted, or the model runs an operator that
            the meter has no cost for.
    """
    try:
        counter = FLOPsCounter.from_config(config, batch_size, seq_len, rules="executed")
        analytic = counter.measurement(optimizer)
    except ValueError as error:
        raise WorkloadError(str(error)) from error

    import torch

    from pytest_flops.counting.meter.meter import count_flops
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK

    with torch.device("meta"):
        model = model or ConfigurableResNetBK(config)
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.int64)
    metered = count_flops(model, tokens, optimizer=optimizer)
    if metered.uncounted:
        advice = (f"{name} is not counted: {how_to_count(name)}" for name in metered.uncounted)
        raise WorkloadError("; ".join(advice))
    return compare(analytic, metered)
