"""The parity check: the analytic counter's executed rules against the meter, to the last FLOP.

The analytic counter is exact at any size but blind to the model's code; the meter sees every
operator. While both agree on every component and phase, either can be trusted for the other.
Imports torch only to meter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.counting.count import PHASES, FLOPsCount, Phase
from pytest_flops.counting.measure import WorkloadError
from pytest_flops.counting.measurement import how_to_count
from pytest_flops.counting.meter.module_paths import OUTSIDE_PATH
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter

if TYPE_CHECKING:
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.resnet_bk.config import ResNetBKConfig
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK


@dataclass(frozen=True, slots=True)
class Parity:
    """One phase of one component, counted both ways.

    Attributes:
        component: The component's path; `None` is the whole model.
        phase: `forward`, `backward` or `optimizer`.
        analytic: FLOPs by the executed rules.
        metered: FLOPs the meter saw.
    """

    component: str | None
    phase: Phase
    analytic: int
    metered: int

    @property
    def agrees(self) -> bool:
        """Whether both counts are the same."""
        return self.analytic == self.metered


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
    return compare(analytic, _metered(config, counter, optimizer, model))


def compare(analytic: Measurement, metered: Measurement) -> tuple[Parity, ...]:
    """Hold an analytic measurement against a metered one of the same step.

    A component that the meter does not know counts nothing there; what the analytic counter does
    not know shows in the component around it and in the whole.
    """
    # The loss runs outside; the analytic counter leaves it to the training script.
    whole = metered.count + metered.components.get(OUTSIDE_PATH, FLOPsCount()) * -1
    pairs: list[tuple[str | None, FLOPsCount, FLOPsCount]] = [(None, analytic.count, whole)]
    for component, cost in analytic.components.items():
        pairs.append((component, cost, metered.components.get(component, FLOPsCount())))
    return tuple(
        Parity(component, phase, ours.of(phase), theirs.of(phase))
        for component, ours, theirs in pairs
        for phase in PHASES
    )


def _metered(
    config: ResNetBKConfig,
    counter: FLOPsCounter,
    optimizer: str,
    model: ConfigurableResNetBK | None,
) -> Measurement:
    import torch

    from pytest_flops.counting.meter.meter import count_flops
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK

    if model is None:
        with torch.device("meta"):
            model = ConfigurableResNetBK(config)
    tokens = torch.zeros(counter.batch_size, counter.seq_len, dtype=torch.int64, device="meta")
    measurement = count_flops(model, tokens, optimizer=optimizer)
    if measurement.uncounted:
        advice = (f"{name} is not counted: {how_to_count(name)}" for name in measurement.uncounted)
        raise WorkloadError("; ".join(advice))
    return measurement
