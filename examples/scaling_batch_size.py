"""The cost of ResNet-BK over the batch, 1 to 64 sequences, by the published rules.

Run with `python examples/scaling_batch_size.py`; needs no model and no GPU.
"""

from __future__ import annotations

from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import BASELINE_CONFIG
from pytest_flops.scaling.workloads import sweep_workload

SIZES = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    workload = Workload("resnet_bk", BASELINE_CONFIG.to_dict(), batch_size=32, seq_len=128)
    sweep = sweep_workload(workload, "batch_size", SIZES)
    total, optimizer = sweep.of("total"), sweep.of("optimizer")
    print(f"{'batch':>8} {'total GFLOP':>12} {'per sequence':>13} {'optimizer':>10}")
    for size, flops, step in zip(SIZES, total.counts, optimizer.counts, strict=True):
        print(f"{size:>8} {flops / 1e9:>12.3f} {flops / size / 1e9:>13.3f} {step / flops:>10.2%}")
    print()
    print(f"total = {total.polynomial}: exponent {total.exponent:g}")


if __name__ == "__main__":
    main()
