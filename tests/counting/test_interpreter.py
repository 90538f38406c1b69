"""What Triton's interpreter executes, against hand arithmetic and against formulas."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.long

pytest.importorskip("triton", reason="Triton is made for Linux alone")

KERNELS = """\
import os
os.environ["TRITON_INTERPRET"] = "1"
import pytest, torch, triton
import triton.language as tl
from pytest_flops import FLOPsMeter
from pytest_flops.counting.costs import register_cost
from pytest_flops.counting.meter.interpreter import Executed, executed

@triton.jit
def matmul(a, b, c, M, N, K: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, K, BLOCK):
        row = start + tl.arange(0, BLOCK)[None, :]
        column = start + tl.arange(0, BLOCK)[:, None]
        x = tl.load(a + i * K + row, mask=(i < M) & (row < K), other=0.0)
        y = tl.load(b + column * N + j, mask=(column < K) & (j < N), other=0.0)
        total = tl.dot(x, y, total)
    tl.store(c + i * N + j, total, mask=(i < M) & (j < N))

@triton.jit
def softmax(x, y, n, BLOCK: tl.constexpr):
    row = tl.program_id(0) * n
    at = tl.arange(0, BLOCK)
    shifted = tl.load(x + row + at, mask=at < n, other=-float("inf"))
    powers = tl.exp(shifted - tl.max(shifted, axis=0))
    tl.store(y + row + at, powers / tl.sum(powers, axis=0), mask=at < n)

@triton.jit
def fused_add(x, y, sums, total, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    added = tl.load(x + at, mask=at < n, other=0.0) + tl.load(y + at, mask=at < n, other=0.0)
    added = tl.where(added > 0, added, 0.1 * added)
    tl.atomic_add(total + at * 0, added, mask=at < n)
    tl.store(sums + at, added.to(tl.bfloat16), mask=at < n)
"""


def passes(project: Any, tests: str, number: int) -> None:
    project.test(KERNELS + tests)
    project.run_apart().assert_outcomes(passed=number)


def test_a_matmul_executes_its_multiply_adds(project: Any) -> None:
    """64 x 96 by 96 x 128 in blocks of 32: a grid of 2 x 4, 3 dots of 2 * 32^3 in each."""
    passes(
        project,
        """
def test_whole_blocks():
    a, b, c = torch.randn(64, 96), torch.randn(96, 128), torch.empty(64, 128)
    with executed() as work:
        matmul[2, 4](a, b, c, 64, 128, 96, BLOCK=32)
    torch.testing.assert_close(c, a @ b)
    # The 4 columns of the grid each load a, the 2 rows each load b.
    assert work == Executed(
        flops=2 * 64 * 96 * 128, loaded=4 * (4 * 64 * 96 + 2 * 96 * 128), stored=4 * 64 * 128
    )

def test_the_formula_is_what_runs_in_whole_blocks():
    @register_cost(matmul)
    def cost(M, N, K): return 2 * M * N * K

    @register_cost(matmul, metric="full_precision")
    def in_full(c, M, N, K): return 2 * M * N * K if c.dtype == torch.float32 else 0

    # Of a mask, the block's other elements are executed too: 2 * 1 blocks of 32 x 32, K = 64.
    for rows, columns, executes in ((64, 32, 2 * 64 * 32 * 64), (40, 30, 2 * 64 * 32 * 64)):
        a, b, c = torch.randn(rows, 64), torch.randn(64, columns), torch.empty(rows, columns)
        with executed() as work, FLOPsMeter(metrics=["full_precision"]) as meter:
            matmul[2, 1](a, b, c, rows, columns, 64, BLOCK=32)
        torch.testing.assert_close(c, a @ b)
        assert work.flops == executes
        assert meter.count.forward == 2 * rows * columns * 64
        assert meter.measurement().metrics["full_precision"].whole["forward"] == meter.count.forward
""",
        number=2,
    )


def test_a_softmax_executes_five_flops_per_element(project: Any) -> None:
    """Maximum, subtraction, exponential, sum, division; of 50 columns in a block of 64."""
    passes(
        project,
        """
@pytest.mark.parametrize("columns", [64, 50])
def test_softmax(columns):
    x = torch.randn(8, columns)
    y = torch.empty_like(x)
    with executed() as work:
        softmax[8,](x, y, columns, BLOCK=64)
    torch.testing.assert_close(y, x.softmax(-1))
    assert work == Executed(flops=5 * 8 * 64, loaded=4 * 8 * columns, stored=4 * 8 * columns)

def test_pytorchs_own_costs_as_much():
    register_cost(softmax)(lambda x: 5 * x.numel())
    x = torch.randn(8, 64)
    with FLOPsMeter() as meter:
        softmax[8,](x, torch.empty_like(x), 64, BLOCK=64)
    with FLOPsMeter() as plain:
        x.softmax(-1)
    assert meter.count == plain.count
""",
        number=3,
    )


def test_a_fused_add_executes_what_it_says(project: Any) -> None:
    """100 elements in 2 blocks of 64: an addition and a product each; and an atomic addition of
    100, which loads and stores. Comparisons, `where` and casts are 0; bfloat16 has 2 bytes."""
    passes(
        project,
        """
def test_add():
    x, y, total = torch.ones(100), torch.ones(100), torch.zeros(1)
    sums = torch.empty(100, dtype=torch.bfloat16)
    with executed() as work:
        fused_add[2,](x, y, sums, total, 100, BLOCK=64)
    assert total.item() == 200
    assert work == Executed(flops=2 * 128 + 100, loaded=3 * 400, stored=200 + 400)

@triton.jit
def product(x, y): return x * y

@triton.jit
def folded(x, y, BLOCK: tl.constexpr):
    value = tl.load(x + tl.arange(0, BLOCK))
    value = tl.fma(value, value, -value)
    tl.store(y, tl.reduce(value, 0, product))
    tl.store(y + 1 + tl.arange(0, BLOCK), tl.cumsum(value, 0))

def test_reductions():
    # 8 negations, 8 multiply-adds, 7 products of two, a sum of 8
    with executed() as work:
        folded[1,](torch.ones(8), torch.empty(9), BLOCK=8)
    assert work.flops == 8 + 16 + 7 + 8

def test_the_interpreter_is_as_it_was():
    from triton.runtime import interpreter

    places = (interpreter.interpreter_builder, interpreter.ReduceOps, interpreter.ScanOps)
    before = [{**vars(each)} for each in places]
    with pytest.raises(ZeroDivisionError), executed() as outer, executed() as inner:
        folded[1,](torch.ones(8), torch.empty(9), BLOCK=8)
        1 / 0
    assert inner == outer and inner.flops == 39
    after = [{**vars(each)} for each in places]
    for names in (*before, *after):
        names.pop("grid_idx", None), names.pop("grid_dim", None)
    assert after == before
""",
        number=3,
    )
