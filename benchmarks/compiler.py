"""What the compiler's metrics of a training step take: CPU seconds beyond the FLOPs, after imports.

GPT-2 (12 layers, 124 million parameters) built on `meta` and compiled on fake tensors: forward and
backward, twice. The process runs no C++ compiler.

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

LIMIT = 15.0


def main() -> int:
    warnings.simplefilter("ignore")
    with torch.device("meta"):
        model = GPT2(vocab=50257, width=768, heads=12, layers=12, length=1024)
        tokens = torch.zeros(8, 1024, dtype=torch.int64)
    slow = 0
    for backend in ("eager", "aot_eager"):
        begin = time.process_time()
        count_flops(model, tokens)
        counted = time.process_time()
        found = count_flops(
            model, tokens, metrics=["graph_breaks", "graphs"], compile={"backend": backend}
        )
        taken = (time.process_time() - counted) - (counted - begin)
        figures = ", ".join(f"{n} {found.of(f'{n} total')}" for n in ("graph_breaks", "graphs"))
        print(f"{backend}: {taken:.1f} s beyond {counted - begin:.1f} s of FLOPs; {figures}")
        slow += taken > LIMIT
    print(f"at most {LIMIT:.0f} s: {'no' if slow else 'yes'}")
    return slow


if __name__ == "__main__":
    sys.exit(main())
