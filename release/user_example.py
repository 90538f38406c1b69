"""What a user writes, held to `mypy --strict` against the installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pytest_flops import (
    BASELINE_CONFIG,
    PRESETS,
    ConfigurableResNetBK,
    FLOPsCount,
    FLOPsCounter,
    FLOPsMeter,
    ResNetBKConfig,
    bk_core,
    compare_models,
    count_flops,
)


def metered(model: nn.Module, batch: Tensor) -> FLOPsCount:
    with FLOPsMeter() as meter:
        model(batch).sum().backward()
    dearest: str = max(meter.components, key=lambda path: meter.components[path].total)
    print(dearest, meter.table(), dict(meter.uncounted))
    count: FLOPsCount = meter.count
    return 2 * count + FLOPsCount(forward=1)


def counted(config: ResNetBKConfig, folder: Path) -> float:
    counter = FLOPsCounter(ConfigurableResNetBK(config), batch_size=2, seq_len=16)
    bare = FLOPsCounter.from_config(BASELINE_CONFIG, batch_size=2, seq_len=16, rules="executed")
    counter.print_summary()
    counter.save_to_json(folder / "counts.json")
    total: int = bare.count_total_flops("adamw").total
    comparison = compare_models(config, BASELINE_CONFIG, batch_size=2, seq_len=16)
    print(total, sorted(PRESETS))
    return float(comparison["speedup"]["total"])


def features(potential: Tensor) -> Tensor:
    ones = torch.ones(potential.shape[1] - 1)
    result: Tensor = bk_core(potential, ones, ones, 1j, gradient="exact")
    return result


@pytest.mark.flops_budget(forward="1 MFLOP")
def test_step() -> None:
    measurement = count_flops(nn.Linear(3, 4), torch.ones(2, 3), optimizer="sgd")
    forward: int = measurement.count.forward
    assert forward == 2 * 2 * 3 * 4 + 2 * 4 + 2 * 4  # the product, its bias, the sum as loss


def test_everything_else_runs(tmp_path: Path) -> None:
    assert metered(nn.Linear(3, 4), torch.ones(2, 3)).forward == 2 * 64 + 1
    assert counted(BASELINE_CONFIG, tmp_path) == 1.0
    assert features(torch.zeros(2, 5)).shape == (2, 5, 2)
