"""Operators and kernels cost what their author says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from my_library.operators import mean_of_rows, running_mean

from pytest_flops import count_flops

ELEMENTS = 3 * 5
SUM_THAT_IS_THE_LOSS = ELEMENTS


@pytest.mark.flops_budget(forward=2 * ELEMENTS + SUM_THAT_IS_THE_LOSS, backward=2 * ELEMENTS)
def test_the_running_mean_costs_two_flops_per_element() -> None:
    running_mean(torch.ones(3, 5, requires_grad=True)).sum().backward()


def test_its_gradient_is_right() -> None:
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(running_mean, x)


def test_the_mean_of_two_rows_reads_these_and_not_the_table(flops: Any) -> None:
    table, rows = torch.ones(1000, 5), torch.tensor([3, 7])
    with flops.measure(forward=2 * 5, bytes=2 * 5 * 4 + 2 * 8 + 5 * 4):
        mean_of_rows(table, rows)


def test_the_kernel_computes_one_flop_per_element_and_moves_it_twice() -> None:
    pytest.importorskip("triton")
    from my_library.kernels import Half

    counted = count_flops(Half(), torch.ones(3, 5), training=False, metrics=["bytes"])  # no GPU
    assert counted.operations["triton.halve"].forward == ELEMENTS
    assert counted.of("bytes total") == 2 * 4 * ELEMENTS
