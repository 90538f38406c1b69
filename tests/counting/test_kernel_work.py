"""What the code of a Triton kernel says of a launch, against hand arithmetic."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytestmark = pytest.mark.long

pytest.importorskip("triton", reason="Triton is made for Linux alone")

KERNELS = """\
import math, pytest, torch, triton
import triton.language as tl
from pytest_flops import count_flops
from pytest_flops.counting.costs import register_cost

@triton.jit
def matmul(a, b, c, M, N, K, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, tl.cdiv(K, BLOCK)):
        row = start * BLOCK + tl.arange(0, BLOCK)[None, :]
        column = start * BLOCK + tl.arange(0, BLOCK)[:, None]
        x = tl.load(a + i * K + row, mask=(i < M) & (row < K), other=0.0)
        y = tl.load(b + column * N + j, mask=(column < K) & (j < N), other=0.0)
        total = tl.dot(x, y, total)
    tl.store(c + i * N + j, total, mask=(i < M) & (j < N))

@triton.jit
def _less_the_largest(values):
    return values - tl.max(values, axis=0)

@triton.jit
def softmax(x, y, n, BLOCK: tl.constexpr):
    row = tl.program_id(0) * n
    at = tl.arange(0, BLOCK)
    powers = tl.exp(_less_the_largest(tl.load(x + row + at, mask=at < n, other=-float("inf"))))
    tl.store(y + row + at, powers / tl.sum(powers, axis=0), mask=at < n)

@triton.jit
def fused_add(x, y, sums, total, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    added = tl.load(x + at, mask=at < n, other=0.0) + tl.load(y + at, mask=at < n, other=0.0)
    added = tl.where(added > 0, added, 0.1 * added)
    tl.atomic_add(total + at * 0, added, mask=at < n)
    tl.store(sums + at, added.to(tl.bfloat16), mask=at < n)

@triton.jit
def up_to_the_diagonal(x, y, rows, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    row = tl.program_id(1)
    if row >= rows:
        return
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for column in range(row + 1):
        for _ in tl.static_range(2):
            total += tl.load(x + column * BLOCK + at)
        if column == row:
            total *= 0.5
    tl.store(y + row * BLOCK + at, total)

@triton.jit
def as_long_as_positive(x, y):
    value = tl.load(x)
    while value > 0:
        value -= 1.0
    tl.store(y, value)

@triton.jit
def twice_so_often(x, y, times, others, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    value = tl.load(x + at)
    for _ in range(others):
        value *= 2
    if tl.program_id(0) * 2_000_000_000 < 0:  # beyond 2^31 a number of 32 bits is below 0
        value += 1
    tl.store(y + at, value)

@triton.jit
def of_a_descriptor(x, BLOCK: tl.constexpr):
    x.store([0], 2 * x.load([0]))

class Launch(torch.nn.Module):
    def __init__(self, kernel, grid, *sizes, **constants):
        super().__init__()
        self.launch = lambda *tensors: kernel[grid](*tensors, *sizes, **constants)
        self.tensors = 4 if kernel is fused_add else 3 if kernel is matmul else 2

    def forward(self, x):
        tensors = [torch.empty(4096) for _ in range(self.tensors)]
        if self.tensors == 4:
            tensors[2] = tensors[2].bfloat16()
        self.launch(*tensors)
        return x

def counted(*launch, **constants):
    model = Launch(*launch, **constants)
    return count_flops(model, torch.ones(1), training=False)

def proposal(*launch, **constants):
    found = counted(*launch, **constants)
    assert [*found.uncounted] == [f"triton.{launch[0].__name__}"]
    [told] = found.assumptions
    return told
"""


def test_a_launch_comes_to_what_hand_arithmetic_says(project: Any) -> None:
    project.test(
        KERNELS
        + """
def test_matmul():
    # 40 x 48 x 20 in blocks of 16: 3 x 3 programs with 2 steps, each a product of 16 x 16 x 16 of
    # two loads of 16 x 16 floats; one store of as much in each program.
    told = proposal(matmul, (3, 3), 40, 48, 20, BLOCK=16)
    assert f"{9 * 2 * 2 * 16**3:,} FLOP, {9 * 2 * 2 * 1024:,} B loaded and {9 * 1024:,} B" in told
    assert told.endswith("register_cost(matmul)(lambda grid: 16384 * math.prod(grid))")

def test_softmax():
    # Of each of 64 in 5 rows: the largest, a difference, a power, the sum, a quotient.
    told = proposal(softmax, (5,), 50, BLOCK=64)
    assert f"{5 * 5 * 64:,} FLOP, {5 * 64 * 4:,} B loaded and {5 * 64 * 4:,} B stored" in told
    assert told.endswith("register_cost(softmax)(lambda grid: 320 * math.prod(grid))")

def test_fused_add():
    # Of each of 64: a sum, a product, an atomic sum. The atomic sum loads and stores 4 bytes, the
    # other store writes 2.
    told = proposal(fused_add, (1,), 60, BLOCK=64)
    assert f"{3 * 64} FLOP, {64 * 12} B loaded and {64 * 6} B stored" in told
    assert told.endswith("register_cost(fused_add)(lambda grid: 192 * math.prod(grid))")

def test_programs_that_differ():
    # Of 5 rows the last returns at once. Row r adds 2 (r + 1) times, and multiplies once; the
    # first axis of the grid does not matter.
    told = proposal(up_to_the_diagonal, (3, 5), 4, BLOCK=8)
    sums = 2 * (1 + 2 + 3 + 4)
    assert f" {3 * 8 * (sums + 4)} FLOP, {3 * 8 * 4 * sums:,} B loaded and " in told
    assert told.endswith(f" {3 * 4 * 8 * 4} B stored")

def test_what_the_code_does_not_tell():
    told = proposal(as_long_as_positive, (1,))
    assert told == "what triton.as_long_as_positive executes, its code alone does not tell"
    # Of which there are too many to go through.
    told = proposal(up_to_the_diagonal, (1, 1_000_000), 1_000_000, BLOCK=8)
    assert told == "what triton.up_to_the_diagonal executes, its code alone does not tell"

def test_an_empty_grid():
    assert " comes to 0 FLOP, 0 B loaded and 0 B stored" in proposal(softmax, (0,), 50, BLOCK=64)

def test_integers_have_32_bits():
    told = proposal(twice_so_often, (4,), 0, 3, BLOCK=8)  # 4e9 alone is a negative number
    assert f" {4 * 3 * 8 + 8} FLOP, " in told

def test_a_tuple_is_not_read():
    told = proposal(twice_so_often, (1,), (2, 3), 5, BLOCK=8)
    assert told == "what triton.twice_so_often executes, its code alone does not tell"

def test_a_descriptor_on_fakes_launches_nothing():
    from triton.tools.tensor_descriptor import TensorDescriptor
    class Model(torch.nn.Module):
        def forward(self, x):
            of_a_descriptor[1,](TensorDescriptor.from_tensor(x, [16]), BLOCK=16)
            return x
    found = count_flops(Model(), torch.ones(64), training=False)
    assert found.uncounted == {"triton.of_a_descriptor": 1}

def test_the_proposal_is_a_cost():
    told = proposal(softmax, (5,), 50, BLOCK=64)
    exec(told[told.index("register_cost"):])
    found = counted(softmax, (5,), 50, BLOCK=64)
    assert found.count.forward == 5 * 5 * 64
    assert not found.uncounted and not found.assumptions
"""
    )
    project.run_apart().assert_outcomes(passed=10)


def test_the_count_command_proposes_a_cost(project: Any) -> None:
    layers = "torch.nn.Linear(1, 1), Launch(softmax, (5,), 50, BLOCK=64)"
    build = f"def build(): return torch.nn.Sequential({layers}), torch.ones(1)"
    project.write("my_model.py", f"{KERNELS}\n{build}\n")
    result = project.pytester.run(sys.executable, "-m", "pytest_flops", "count", "my_model:build")
    result.stdout.fnmatch_lines(["*: triton.softmax, 1 call", "*register_cost(softmax)(lambda *"])
