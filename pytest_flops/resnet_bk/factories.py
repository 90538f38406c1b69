"""What the fixtures `flops_counter` and `resnet_bk` give: factories that follow a workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.builder import NAME
from pytest_flops.resnet_bk.config import PRESETS, ResNetBKConfig, config_of
from pytest_flops.resnet_bk.model import ConfigurableResNetBK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flops.counting.measurement import Rules
    from pytest_flops.counting.workload import Workload


def counter_factory(base: Workload | None) -> Callable[..., FLOPsCounter]:
    """Makes a counter; what it is not given comes from the workload."""

    def make(
        model: ConfigurableResNetBK | ResNetBKConfig | None = None,
        *,
        batch_size: int | None = None,
        seq_len: int | None = None,
        rules: Rules | None = None,
    ) -> FLOPsCounter:
        counted = model or _config_of(base)
        config = config_of(counted)
        return FLOPsCounter(
            counted,
            batch_size or (base and base.batch_size) or 1,
            seq_len or (base and base.seq_len) or config.n_seq,
            rules or (base and base.rules) or "published",
        )

    return make


def model_factory(base: Workload | None) -> Callable[..., ConfigurableResNetBK]:
    """Makes a model on a device: of the workload, a preset or a configuration."""

    def make(
        config: ResNetBKConfig | str | None = None, *, device: str = "meta", **fields: Any
    ) -> ConfigurableResNetBK:
        with torch.device(device):
            return ConfigurableResNetBK(_config_of(base, config, **fields))

    return make


def _config_of(
    base: Workload | None, config: ResNetBKConfig | str | None = None, **fields: Any
) -> ResNetBKConfig:
    if isinstance(config, str):
        if config not in PRESETS:
            raise BudgetError(f"no preset {config!r}; presets: {', '.join(PRESETS)}")
        config = PRESETS[config]
    given: Mapping[str, Any] = {}
    if config is not None:
        given = config_of(config).to_dict()
    elif base and base.model == NAME:
        given = base.config
    return ResNetBKConfig.from_dict({**given, **fields})
