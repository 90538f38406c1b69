"""The cost of ResNet-BK over the sequence length, 128 to 2048, by the published rules.

Run with `python examples/scaling_sequence_length.py`; needs no model and no GPU.
"""

from __future__ import annotations

from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import BASELINE_CONFIG
from pytest_flops.scaling.workloads import sweep_workload

SIZES = (128, 256, 512, 1024, 2048)
NOTE = """\
The table once published for this model grows 16.90 times from N = 128 to 2048. It cannot have come
from the rules published next to it: by these, forward and backward are exactly linear in N, only
the position table adds to the optimizer, and the total grows {growth:.2f} times. Its rows for
N = 256 and 512 are, to the digit, what d_model = 128 and 256 with 2 layers cost at N = 128."""


def main() -> None:
    workload = Workload("resnet_bk", BASELINE_CONFIG.to_dict(), batch_size=32, seq_len=128)
    sweep = sweep_workload(workload, "seq_len", SIZES)
    forward, backward, total = (sweep.of(name) for name in ("forward", "backward", "total"))
    print(f"{'seq_len':>8} {'forward':>12} {'backward':>12} {'total':>12}  GFLOP")
    for row in zip(SIZES, forward.counts, backward.counts, total.counts, strict=True):
        size, *flops = row
        print(f"{size:>8}", *(f"{count / 1e9:>12.3f}" for count in flops))
    print()
    for growth in (forward, backward, total):
        print(f"{growth.quantity} = {growth.polynomial}: exponent {growth.exponent:g}")
    print()
    print(NOTE.format(growth=total.counts[-1] / total.counts[0]))


if __name__ == "__main__":
    main()
