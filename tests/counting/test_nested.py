"""Nested tensors cost what their components cost, without padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter.meter import FLOPsMeter

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

LAYOUTS = [torch.strided, torch.jagged]
LENGTHS = (3, 5)
WIDTH, HEADS = 8, 2


def nested(layout: torch.layout, requires_grad: bool = False) -> torch.Tensor:
    """Two sequences, of 3 and 5 tokens."""
    sequences = [torch.ones(length, WIDTH) for length in LENGTHS]
    return torch.nested.nested_tensor(sequences, layout=layout, requires_grad=requires_grad)


def values(x: torch.Tensor) -> torch.Tensor:
    """All tokens, as one tensor; free."""
    return x.values() if x.layout == torch.jagged else torch.cat(x.unbind())


def metered(run) -> FLOPsMeter:
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    return meter


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_linear_layer_costs_its_tokens(layout):
    layer, x = nn.Linear(WIDTH, 2), nested(layout, requires_grad=True)
    meter = metered(lambda: values(layer(x)).backward(torch.ones(8, 2)))
    product, bias = 2 * 8 * WIDTH * 2, 8 * 2
    assert meter.count.forward == product + bias
    # unbinding the strided layout sums the two gradients of its components
    gradients = sum(
        meter.operations[name].backward
        for name in ("aten.mm", "aten.sum", "aten.linear_backward")
        if name in meter.operations
    )
    assert gradients == 2 * product + bias


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pointwise_operators_and_norms_cost_their_elements(layout):
    x = nested(layout)
    meter = metered(lambda: [torch.relu(x) + x, torch.softmax(x, -1), nn.LayerNorm(WIDTH)(x)])
    assert meter.count.forward == (2 + 5 + 6) * 8 * WIDTH


def test_attention_costs_the_scores_of_each_sequence():
    layer = nn.Linear(WIDTH, WIDTH, bias=False)

    def attend() -> None:
        x = layer(nested(torch.jagged)).unflatten(-1, [HEADS, WIDTH // HEADS]).transpose(1, 2)
        attended = nn.functional.scaled_dot_product_attention(x, x, x).transpose(1, 2).flatten(-2)
        attended.values().backward(torch.ones(8, WIDTH))

    operations = metered(attend).operations
    scores = HEADS * (3 * 3 + 5 * 5)
    product = 2 * scores * (WIDTH // HEADS)
    assert operations["aten.matmul"] == FLOPsCount(forward=2 * product)
    assert operations["aten.matmul_backward"] == FLOPsCount(backward=2 * 2 * product)
    assert operations["aten._safe_softmax"] == FLOPsCount(forward=5 * scores)
    assert operations["aten._softmax_backward_data"] == FLOPsCount(backward=4 * scores)


def test_a_batch_of_matrices_times_components_costs_their_rows():
    meter = metered(lambda: torch.bmm(nested(torch.jagged), torch.ones(2, WIDTH, 4)))
    assert meter.count.forward == 2 * 8 * WIDTH * 4


def test_views_are_free():
    x = nested(torch.strided)
    meter = metered(
        lambda: [x.reshape(2, -1, HEADS, 4).transpose(1, 2), x.chunk(2, -1), x.double()]
    )
    assert meter.count.total == 0


def test_inside_inference_mode_they_cost_the_same():
    layer, x = nn.Linear(WIDTH, 2), nested(torch.jagged)
    with torch.inference_mode():
        meter = metered(lambda: layer(x))
    assert meter.count.forward == 2 * 8 * WIDTH * 2 + 8 * 2
