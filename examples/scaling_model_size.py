"""The cost of ResNet-BK over its width and depth: d_model 64 to 256, 2 to 8 layers.

Run with `python examples/scaling_model_size.py`; needs no model and no GPU.
"""

from __future__ import annotations

from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import BASELINE_CONFIG
from pytest_flops.scaling.workloads import explain_workload, sweep_workload

WIDTHS = (64, 128, 256)
DEPTHS = (2, 4, 8)


def main() -> None:
    workload = Workload("resnet_bk", BASELINE_CONFIG.to_dict(), batch_size=32, seq_len=128)
    print("total GFLOP of a training step")
    print(f"{'d_model':>8}", *(f"{f'{depth} layers':>12}" for depth in DEPTHS))
    for width in WIDTHS:
        total = sweep_workload(workload.at("d_model", width), "n_layers", DEPTHS).of("total")
        print(f"{width:>8}", *(f"{count / 1e9:>12.3f}" for count in total.counts))
    print()
    over_width = sweep_workload(workload, "d_model", WIDTHS).of("total")
    print(f"over the width alone, the fitted slope is {over_width.fitted:.3f}: lm_head, which is")
    print(f"linear in d_model, is most of the cost. The exponent is {over_width.exponent:g}.")
    print()
    formula = explain_workload(workload, ["d_model", "n_layers"])
    print(f"total = {formula.of('total')}")


if __name__ == "__main__":
    main()
