"""What the compiler's metrics of a training step take: CPU seconds beyond the FLOPs, after imports.

GPT-2 (12 layers, 124 million parameters) built on `meta` and compiled on fake tensors: forward and
backward, twice. The process runs no C++ compiler. Kernels and fused bytes need Inductor's own work
on top, and have a limit of their own.

Run `python benchmarks/compiler.py`.
"""

from __future__ import annotations

import sys
import time
import warnings

import torch
from language_models import GPT2

from pytest_flops.counting import compiler  # noqa: F401 - imports PyTorch's, which takes a second
from pytest_flops.counting.meter.meter import count_flops

NAMES = ("graph_breaks", "recompiles", "graphs")
OF_INDUCTOR = ("kernels", "fused_bytes")


def main() -> int:
    warnings.simplefilter("ignore")
    with torch.device("meta"):
        model = GPT2(vocab=50257, width=768, heads=12, layers=12, length=1024)
        tokens = torch.zeros(8, 1024, dtype=torch.int64)
    slow = 0
    for backend, metrics, limit in (
        ("eager", NAMES, 15.0),
        ("aot_eager", NAMES, 15.0),
        ("inductor", (*NAMES, *OF_INDUCTOR), 30.0),
    ):
        begin = time.process_time()
        count_flops(model, tokens)
        counted = time.process_time()
        found = count_flops(model, tokens, metrics=metrics, compile={"backend": backend})
        taken = (time.process_time() - counted) - (counted - begin)
        figures = ", ".join(f"{name} {found.of(f'{name} total'):,}" for name in metrics)
        within = "within" if taken <= limit else "beyond"
        print(f"{backend}: {taken:.1f} s, {within} {limit:.0f} s, for {figures}")
        slow += taken > limit
    return slow


if __name__ == "__main__":
    sys.exit(main())
