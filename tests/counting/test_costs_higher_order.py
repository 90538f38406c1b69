"""Higher-order operators cost the branches and iterations that really run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from pytest_flops.counting.meter.meter import FLOPsMeter

X = torch.ones(4, 4)
OUTSIDE = "(outside modules)"
PRODUCT = 2 * 4 * 4 * 4


def forward_of(run) -> int:
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    return meter.count.forward


@pytest.mark.parametrize(("taken", "expected"), [(True, PRODUCT), (False, 16)])
def test_cond_costs_the_branch_taken(taken, expected):
    branches = (lambda x: x @ x, lambda x: x + 1)
    assert forward_of(lambda: torch.cond(torch.tensor(taken), *branches, (X,))) == expected


@pytest.mark.parametrize("iterations", [1, 3])
def test_while_loop_costs_its_iterations(iterations):
    def loop():
        return while_loop(
            lambda i, _x: i < iterations, lambda i, x: (i + 1, x @ x), (torch.tensor(0), X)
        )

    assert forward_of(loop) == iterations * PRODUCT


def test_scan_costs_every_step():
    steps = []

    def step(carry, x):
        steps.append(x)
        return carry + x, carry * x

    cost = forward_of(lambda: scan(step, torch.zeros(4), torch.ones(5, 4)))
    # rows of 4: one sum and one product each; PyTorch 2.11 runs the first step once more
    assert cost == len(steps) * (4 + 4)
    assert len(steps) in (5, 6)


def branch_by_cond(layer, x):
    return torch.cond(torch.tensor(True), lambda x: layer(x).sin(), lambda x: x, (x,))


def branch_by_map(layer, x):
    return torch_map(lambda row: layer(row).sin(), x)


def branch_by_scan(layer, x):
    return scan(lambda carry, row: (carry + row, layer(row).sin()), torch.zeros(4), x)[1]


@pytest.mark.parametrize("run", [branch_by_cond, branch_by_map, branch_by_scan])
@pytest.mark.parametrize("operand_needs_gradient", [False, True])
def test_gradients_reach_what_the_functions_close_over(run, operand_needs_gradient):
    layer = nn.Linear(4, 4)
    x = torch.ones(5, 4, requires_grad=operand_needs_gradient)
    layer(x).sin().sum().backward()
    expected = [leaf.grad for leaf in (*layer.parameters(), x)]
    for leaf in (*layer.parameters(), x):
        leaf.grad = None
    with FLOPsMeter() as meter:
        run(layer, x).sum().backward()
    for leaf, gradient in zip((*layer.parameters(), x), expected, strict=True):
        assert (leaf.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(leaf.grad, gradient)
    assert not meter.uncounted
    # a product and a bias; sin; the weight's gradient, the operand's
    product = 2 * 5 * 4 * 4
    assert meter.components[OUTSIDE].forward >= 5 * 4
    assert meter.count.forward >= product + 5 * 4 + 5 * 4
    assert meter.count.backward >= (1 + operand_needs_gradient) * product
