"""The operator costs what its author says, forward and backward."""

from __future__ import annotations

import pytest
import torch
from my_library.operators import running_mean

ELEMENTS = 3 * 5
SUM_THAT_IS_THE_LOSS = ELEMENTS


@pytest.mark.flops_budget(forward=2 * ELEMENTS + SUM_THAT_IS_THE_LOSS, backward=2 * ELEMENTS)
def test_the_running_mean_costs_two_flops_per_element() -> None:
    running_mean(torch.ones(3, 5, requires_grad=True)).sum().backward()


def test_its_gradient_is_right() -> None:
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(running_mean, x)
