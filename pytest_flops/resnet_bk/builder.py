"""`RESNET_BK`: all that pytest-flops has to know about ResNet-BK beside any other model.

It is registered as `resnet_bk` by the hook that every package can use. Reading a budget file
imports this module, so it imports no torch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.builder import Accepted, Builder
from pytest_flops.counting.measure import WorkloadError
from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, ResNetBKConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.parity import Parity
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK

NAME = "resnet_bk"


def _build(*, batch_size: int, seq_len: int, **config: Any) -> tuple[ConfigurableResNetBK, Tensor]:
    """The model and its tokens, on the meta device."""
    import torch

    from pytest_flops.resnet_bk.model import ConfigurableResNetBK

    with torch.device("meta"):
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.int64)
        return ConfigurableResNetBK(ResNetBKConfig.from_dict(config)), tokens


def _measure(
    workload: Workload, model: ConfigurableResNetBK | ResNetBKConfig | None = None
) -> Measurement:
    """The analytic count, which needs no model; but only a model tells what of it is frozen."""
    from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter

    if workload.batch_size is None or workload.seq_len is None:
        raise WorkloadError(f"a workload of {workload.model!r} needs batch_size and seq_len")
    rules = workload.rules or RESNET_BK.default_rules
    model = model or ResNetBKConfig.from_dict(workload.config)
    try:
        counter = FLOPsCounter(model, workload.batch_size, workload.seq_len, rules)
        return counter.measurement(str(workload.optimizer))
    except ValueError as error:
        raise WorkloadError(str(error)) from error


def _problems(workload: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Missing sizes, values that `ResNetBKConfig` refuses, a sequence that is too long."""
    for size in ("batch_size", "seq_len"):
        if size not in workload:
            yield (size,), f"a {NAME} workload needs a {size}"
    config = workload["config"]
    for key, value in config.items():
        if key in RESNET_BK.defaults and (message := _refused({key: value})):
            yield ("config", key), message
    longest, seq_len = config.get("n_seq", BASELINE_CONFIG.n_seq), workload.get("seq_len")
    if isinstance(longest, int) and isinstance(seq_len, int) and seq_len > longest:
        message = f"{seq_len} is longer than the model's position table, config.n_seq {longest}"
        yield ("seq_len",), message


def _refused(fields: dict[str, Any]) -> str | None:
    try:
        ResNetBKConfig(**fields)
    except ValueError as error:
        return str(error)
    return None


def _at(workload: Workload, dimension: str, size: int) -> Workload:
    """The position table is as long as the sequence, so that `seq_len` moves `n_seq` too."""
    changed = workload.at(dimension, size)
    return changed.at("n_seq", size) if dimension == "seq_len" else changed


def _parity(workload: Workload) -> tuple[Parity, ...]:
    """The executed count held against the meter's."""
    from pytest_flops.resnet_bk.analytic.parity import parity

    config = ResNetBKConfig.from_dict(workload.config)
    return parity(
        config, workload.batch_size or 1, workload.seq_len or config.n_seq, str(workload.optimizer)
    )


def _accepts(counted: Any) -> Accepted | None:
    """A configuration, or a model.

    A model is known by its configuration and not by its class, which would need torch.
    """
    config = counted if isinstance(counted, ResNetBKConfig) else getattr(counted, "config", None)
    is_model = hasattr(counted, "named_parameters")
    if not isinstance(config, ResNetBKConfig) or not (is_model or config is counted):
        return None
    step = Workload(NAME, config.to_dict(), batch_size=1, seq_len=config.n_seq)
    return Accepted(step, partial(_measure, model=counted))


RESNET_BK = Builder(
    _build,
    measure=_measure,
    problems=_problems,
    defaults=BASELINE_CONFIG.to_dict(),
    at=_at,
    parity=_parity,
    accepts=_accepts,
    default_rules="published",
)
