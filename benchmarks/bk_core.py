"""BK-Core against the textbook recursion and plain pivots: time, error, memory.

    python benchmarks/bk_core.py

Everything on the CPU runs in one thread and is timed in the process's own CPU time, round by
round, so that a busy machine disturbs all contenders alike; figures are medians. A second section
measures the Triton kernels against the copy bandwidth of the same run, where there is a CUDA
device.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pytest_flops import bk_core

Z = 1j
BATCH, LENGTH = 32, 2048


def theta_phi(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The textbook form, for one row: `G_i = theta_i phi_{i+1} / theta_N`, complex128."""
    alpha, count = a - Z, a.shape[0]
    theta = [torch.ones_like(alpha[0]), alpha[0]]
    for i in range(1, count):
        theta.append(alpha[i] * theta[-1] - b[i - 1] * c[i - 1] * theta[-2])
    phi = [torch.ones_like(alpha[0]), alpha[-1]]
    for i in range(count - 2, -1, -1):
        phi.append(alpha[i] * phi[-1] - b[i] * c[i] * phi[-2])
    return torch.stack(theta[:-1]) * torch.stack(phi[-2::-1]) / theta[-1]


def pivots(a: Tensor, b: Tensor, c: Tensor, dtype: torch.dtype) -> Tensor:
    """Pivots, one element after the other, all rows at once, without a temporary."""
    alpha, k = (a - Z).to(dtype).t().contiguous(), (b * c).to(dtype).unbind(0)
    left, right = torch.zeros_like(alpha), torch.zeros_like(alpha)
    elements, into_left, into_right = alpha.unbind(0), left.unbind(0), right.unbind(0)
    pivot = torch.empty_like(alpha[0])
    for i in range(len(k)):
        torch.sub(elements[i], into_left[i], out=pivot)
        torch.div(k[i], pivot, out=into_left[i + 1])
    for i in range(len(k), 0, -1):
        torch.sub(elements[i], into_right[i], out=pivot)
        torch.div(k[i - 1], pivot, out=into_right[i - 1])
    return (alpha - left - right).reciprocal().t()


def matrix(batch: int, length: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(length - 1, device=device)
    return torch.randn(batch, length, generator=generator).to(device), ones, ones


def median_ms(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median CPU time of each function, four calls a round, the last one timed."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, mine in zip(functions, times, strict=True):
            for _ in range(3):  # memory and cache as repeated calls find them
                function()
            start = time.process_time()
            function()
            mine.append(1e3 * (time.process_time() - start))
    return [statistics.median(mine) for mine in times]


def error(found: Tensor, truth: Tensor) -> float:
    found = found.to(torch.complex128) if found.is_complex() else torch.view_as_complex(found)
    return float(((found.to(torch.complex128) - truth).abs() / truth.abs()).max())


def peak_bytes(function: Callable[[], object]) -> int:
    """The most that lived at once of what `function` allocated, by the allocator's own events."""
    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    results: Any = profiler.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def rivals() -> None:
    a, b, c = matrix(BATCH, LENGTH)
    wide = [x.double() for x in (a, b, c)]
    mapped = torch.vmap(theta_phi, in_dims=(0, None, None))
    truth = pivots(*wide, torch.complex128)
    contenders: dict[str, Callable[[], Tensor]] = {
        "bk_core, float32 in": lambda: bk_core(a, b, c, Z),
        "bk_core, float64 in": lambda: bk_core(*wide, Z),
        "theta/phi, complex128, vmap, loop over N": lambda: mapped(*wide),
        "pivots, complex64, loop over N": lambda: pivots(a, b, c, torch.complex64),
        "pivots, complex128, loop over N": lambda: pivots(*wide, torch.complex128),
    }
    times = median_ms(list(contenders.values()), rounds=11)
    print(f"Forward, CPU, one thread, B={BATCH}, N={LENGTH}, z=i")
    print(f"  {'':42} {'ms':>9} {'over bk_core':>13} {'largest error':>14}")
    for (name, function), ms in zip(contenders.items(), times, strict=True):
        wrong = error(function(), truth)
        shown = f"{wrong:.1e}" if wrong < float("inf") else "overflows"
        print(f"  {name:42} {ms:9.2f} {ms / times[0]:12.1f}x {shown:>14}")


def lengths() -> None:
    print("\nForward and exact backward, float32 in")
    print(f"  {'':16} {'forward ms':>11} {'ns/element':>11} {'both ms':>9} {'both':>8} {'peak':>8}")
    for batch, length in ((32, 128), (32, 2048), (8, 16384), (1, 131072), (1, 1_000_000)):
        a, b, c = matrix(batch, length)
        leaf, incoming = a.clone().requires_grad_(), torch.randn(batch, length, 2)

        def forward(a: Tensor = a, b: Tensor = b, c: Tensor = c) -> Tensor:
            return bk_core(a, b, c, Z)

        def both(
            leaf: Tensor = leaf, b: Tensor = b, c: Tensor = c, incoming: Tensor = incoming
        ) -> object:
            return torch.autograd.grad(bk_core(leaf, b, c, Z), leaf, incoming)

        ms, two = median_ms([forward, both], rounds=25 if a.numel() < 1 << 17 else 9)
        output = 8 * batch * length
        extra = max(0, peak_bytes(forward) - output) / output
        shape = f"({batch}, {length})"
        per_element = 1e6 * ms / (batch * length)
        print(
            f"  {shape:16} {ms:11.2f} {per_element:11.1f} {two:9.2f} {two / ms:7.2f}x {extra:7.1f}x"
        )
    print(
        "  both: forward + backward over forward; peak: beyond inputs and output, over the output"
    )


def cuda_ms(function: Callable[[], object], repeats: int = 50) -> float:
    function()
    times = []
    for _ in range(repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def cuda() -> None:
    a, b, c = matrix(4096, 2048, "cuda")
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copy = 8 * source.numel() / cuda_ms(lambda: target.copy_(source)) / 1e6
    print(f"\nCUDA, {torch.cuda.get_device_name()}, copy {copy:.0f} GB/s, float32, z=i")

    def forward(z: complex = Z) -> Tensor:
        return bk_core(a, b, c, z, check_finite=False)

    leaf, incoming = a.clone().requires_grad_(), torch.randn(4096, 2048, 2, device="cuda")
    features = bk_core(leaf, b, c, Z, check_finite=False)

    def backward() -> object:
        return torch.autograd.grad(features, leaf, incoming, retain_graph=True)

    for name, function, each in (("forward", forward, 12), ("backward", backward, 16)):
        ms = cuda_ms(function)
        share = each * a.numel() / ms / 1e6 / copy
        print(f"  B=4096, N=2048, {name:9} {1e3 * ms:8.0f} us, {share:4.0%} of the copy bandwidth")
    slower = cuda_ms(lambda: forward(0.01j)) / cuda_ms(forward)
    print(f"  Im z = 0.01 takes {slower:.1f}x as long as Im z = 1")
    row = matrix(1, 1_000_000, "cuda")
    ms = cuda_ms(lambda: bk_core(*row, Z, check_finite=False))
    print(f"  B=1, N=10^6, forward {1e3 * ms:8.0f} us")
    torch.cuda.reset_peak_memory_stats()
    held, output = torch.cuda.memory_allocated(), 8 * a.numel()
    forward()
    extra = (torch.cuda.max_memory_allocated() - held - output) / output
    print(f"  peak memory beyond inputs and output: {extra:.2f}x the output")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    rivals()
    lengths()
    if torch.cuda.is_available():
        cuda()
    else:
        print("\nNo CUDA device: the Triton kernels were not measured.")


if __name__ == "__main__":
    main()
