"""The cost of one training step of ResNet-BK, from its configuration, and of any model, metered.

Run with `python examples/basic_count.py`.
"""

from __future__ import annotations

import torch

from pytest_flops import BASELINE_CONFIG, FLOPsCounter, FLOPsMeter


def main() -> None:
    FLOPsCounter.from_config(BASELINE_CONFIG, batch_size=32, seq_len=128).print_summary("adamw")

    print()
    print("Any model, metered while it runs:")
    model = torch.nn.Sequential(
        torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 256)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    with FLOPsMeter() as meter:
        model(torch.randn(32, 256)).square().mean().backward()
        optimizer.step()
    print(meter)


if __name__ == "__main__":
    main()
