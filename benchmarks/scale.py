"""Counting what no laptop could run: CPU seconds and memory of `count_flops` at scale.

Each case runs in a process of its own: forward, backward and AdamW of a model that was built on the
meta device. Then the parity check of the baseline.

Run `python benchmarks/scale.py`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

CASES = {
    "GPT, 48 layers, d=1600, N=8192, B=64": {"seconds": 4.0, "mebibytes": 400},
    "Llama, 70 billion parameters, N=8192, B=1": {"seconds": 30.0, "mebibytes": 1024},
    "GPT, 48 layers, with every metric": {"seconds": 8.0, "mebibytes": 450},
    "Llama, 70 billion parameters, with every metric": {"seconds": 12.0, "mebibytes": 500},
    "parity of the ResNet-BK baseline, B=2, N=16": {"seconds": 2.0, "mebibytes": 1024},
}


def count_model(name: str) -> str:
    import torch
    from language_models import GPT, Llama

    from pytest_flops.counting.meter.meter import count_flops
    from pytest_flops.counting.registration import names_in

    metrics = names_in("all") if name.endswith("every metric") else ()
    with torch.device("meta"):
        if name.startswith("GPT"):
            model, batch = GPT(50257, 1600, 25, 48, 8192), 64
        else:
            model, batch = Llama(128256, 8192, (64, 8), 28672, 80), 1
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tokens = torch.zeros(batch, 8192, dtype=torch.int64, device="meta")
    begin = time.process_time()
    measurement = count_flops(model, tokens, metrics=metrics)
    spent = time.process_time() - begin
    assert not measurement.uncounted
    total = measurement.count.total
    return f"{spent} {parameters / 1e9:.2f} billion parameters, {total / 1e15:,.2f} PFLOP a step"


def check_parity() -> str:
    import torch  # noqa: F401 - its import is not what is measured

    from pytest_flops.resnet_bk.analytic.parity import parity
    from pytest_flops.resnet_bk.config import BASELINE_CONFIG

    begin = time.process_time()
    records = parity(BASELINE_CONFIG, batch_size=2, seq_len=16)
    spent = time.process_time() - begin
    assert all(record.agrees for record in records)
    return f"{spent} {len(records)} counts agree"


def run_case(name: str) -> None:
    result = check_parity() if name.startswith("parity") else count_model(name)
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{mebibytes} {result}")


def main() -> int:
    failed = False
    for name, limits in CASES.items():
        command = [sys.executable, __file__, name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        mebibytes, seconds, remark = output.strip().split(" ", 2)
        print(f"{name}: {remark}")
        print(
            f"  {float(seconds):.2f} s of CPU (at most {limits['seconds']:g}), "
            f"{float(mebibytes):.0f} MiB at most (limit {limits['mebibytes']})"
        )
        failed |= float(seconds) > limits["seconds"] or float(mebibytes) > limits["mebibytes"]
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_case(sys.argv[1])
    else:
        sys.exit(main())
