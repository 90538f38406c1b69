"""What scaling limits cost: the whole item of the baseline, and how it depends on the largest size.

Run `python benchmarks/scaling.py`. Seconds are of this machine; the ratios are what is claimed:
a sweep up to 1,048,576 against one up to 8192, and the whole sweep through the meter against
PyTorch's FlopCounterMode (which counts products only) at the same sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pytest_flops.budgets.budget import ScalingLimit
from pytest_flops.budgets.judging.scaling import hold_scaling
from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, ResNetBKConfig
from pytest_flops.resnet_bk.model import ConfigurableResNetBK
from pytest_flops.scaling.sweep import Sweep
from pytest_flops.scaling.workloads import sweep_builder, sweep_workload

SIZES = (128, 256, 512, 1024, 2048)
NEAR, FAR = (64, 128, 256, 8192), (64, 128, 256, 1_048_576)
LIMIT = ScalingLimit(
    "seq_len", SIZES, 1.0, {"layer_*": 1.0, "layer_*.*": 1.0, "embedding": 1.0, "lm_head": 1.0}
)
BATCH_SIZE = 32


class Recurrence(nn.Module):
    """One step after the other in Python: what costs more to trace the longer it is."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(8, 8)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """`(B, N, 8)` to the last state `(B, 8)`."""
        state = signal[:, 0]
        for step in range(signal.shape[1]):
            state = torch.tanh(self.cell(signal[:, step]) + state)
        return state


def resnet_bk(seq_len: int) -> tuple[nn.Module, torch.Tensor]:
    config = ResNetBKConfig.from_dict({**BASELINE_CONFIG.to_dict(), "n_seq": seq_len})
    with torch.device("meta"):
        return ConfigurableResNetBK(config), torch.zeros(BATCH_SIZE, seq_len, dtype=torch.int64)


def recurrence(seq_len: int) -> tuple[nn.Module, torch.Tensor]:
    with torch.device("meta"):
        return Recurrence(), torch.zeros(2, seq_len, 8)


def analytic(sizes: tuple[int, ...] = SIZES) -> Sweep:
    workload = Workload("resnet_bk", BASELINE_CONFIG.to_dict(), BATCH_SIZE, 128)
    return sweep_workload(workload, "seq_len", sizes)


def metered(sizes: tuple[int, ...] = SIZES) -> Sweep:
    return sweep_builder(resnet_bk, "seq_len", sizes)


def flop_counter_mode() -> None:
    for size in SIZES:
        model, tokens = resnet_bk(size)
        with FlopCounterMode(display=False):
            model(tokens).sum().backward()


def seconds(work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def held(sweep: Sweep) -> None:
    verdicts = hold_scaling(LIMIT, sweep)
    if not all(verdict.passed for verdict in verdicts):
        raise SystemExit("\n".join(verdict.message for verdict in verdicts if not verdict.passed))


def main() -> None:
    metered((8, 16, 24))  # whatever is traced for the first time fills PyTorch's caches
    in_analysis = seconds(lambda: held(analytic()))
    in_meter = seconds(lambda: held(metered()))
    in_rival = seconds(flop_counter_mode)
    print("baseline, seq_len 128 to 2048, every component held")
    print(f"  analytic counter  {in_analysis:8.3f} s")
    print(f"  meter             {in_meter:8.3f} s")
    print(f"  FlopCounterMode   {in_rival:8.3f} s   meter takes {in_meter / in_rival:.2f} of it")
    print(f"largest size {FAR[-1]:,} against {NEAR[-1]:,}")
    print(f"  analytic counter  {_ratio(analytic):8.2f} times")
    print(f"  meter, ResNet-BK  {_ratio(metered):8.2f} times")
    loop = _ratio(lambda sizes: sweep_builder(recurrence, "seq_len", sizes))
    print(f"  meter, Python loop{loop:8.2f} times")


def _ratio(work: Callable[[tuple[int, ...]], Any]) -> float:
    work(NEAR)
    near = seconds(lambda: work(NEAR))
    return seconds(lambda: work(FAR)) / near


if __name__ == "__main__":
    main()
