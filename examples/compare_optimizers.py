"""What each optimizer adds to a training step of ResNet-BK, by the published rules.

Run with `python examples/compare_optimizers.py`; needs no model and no GPU.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_flops.counting.measure import measure_workload
from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import BASELINE_CONFIG


def main() -> None:
    workload = Workload("resnet_bk", BASELINE_CONFIG.to_dict(), batch_size=32, seq_len=128)
    print(f"{'optimizer':>10} {'optimizer FLOP':>15} {'total FLOP':>16} {'share':>8}")
    for name in ("sgd", "adam", "adamw"):
        count = measure_workload(replace(workload, optimizer=name)).count
        share = count.optimizer / count.total
        print(f"{name:>10} {count.optimizer:>15,} {count.total:>16,} {share:>8.3%}")


if __name__ == "__main__":
    main()
