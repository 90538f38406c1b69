"""How much of a ResNet-BK training step on the CPU is spent in BK-Core, forward and backward.

One thread, in the process's own CPU time.

python benchmarks/train_step.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flops import ConfigurableResNetBK, ResNetBKConfig

BATCH = 4
CONFIG = ResNetBKConfig(d_model=64, n_layers=4, n_seq=2048, vocab_size=1000)
STEPS = 7


class Stopwatch(TorchDispatchMode):
    """Seconds spent inside BK-Core's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace != "pytest_flops":
            return func(*args, **(kwargs or {}))
        start = time.process_time()
        result = func(*args, **(kwargs or {}))
        self.seconds += time.process_time() - start
        return result


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ConfigurableResNetBK(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(0, CONFIG.vocab_size, (BATCH, CONFIG.n_seq))

    def step() -> None:
        optimizer.zero_grad()
        logits = model(tokens)
        nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()

    step()
    steps, shares = [], []
    for _ in range(STEPS):
        with Stopwatch() as stopwatch:
            start = time.process_time()
            step()
            steps.append(time.process_time() - start)
        shares.append(stopwatch.seconds / steps[-1])
    print(
        f"d={CONFIG.d_model}, L={CONFIG.n_layers}, N={CONFIG.n_seq}, B={BATCH}, "
        f"vocab {CONFIG.vocab_size}, one thread: step {1e3 * statistics.median(steps):.0f} ms, "
        f"of which BK-Core {statistics.median(shares):.1%} (median of {STEPS})"
    )


if __name__ == "__main__":
    main()
