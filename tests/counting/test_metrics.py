"""What the metrics have in common, and the two that need no file: by hand, on a small step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from pytest_flops import FLOPsMeter, count_flops

ROWS, INSIDE, MIDDLE, OUT = 4, 8, 16, 2
FIRST, SECOND = 2 * ROWS * INSIDE * MIDDLE, 2 * ROWS * MIDDLE * OUT


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(INSIDE, MIDDLE), nn.ReLU(), nn.Linear(MIDDLE, OUT))


def test_products_in_float32_are_in_full_precision_and_nothing_else_is() -> None:
    found = count_flops(model(), torch.ones(ROWS, INSIDE), metrics=["full_precision"])
    # Forward both products; backward the gradients of both weights and of the second's input.
    assert found.of("full_precision forward") == FIRST + SECOND
    assert found.of("full_precision backward") == FIRST + 2 * SECOND
    assert found.of("full_precision optimizer") == 0
    assert found.of("full_precision total") == 2 * FIRST + 3 * SECOND
    assert found.of("full_precision forward", "2") == SECOND


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_no_product_in_full_precision_but_an_island(dtype: torch.dtype) -> None:
    first, relu, last = model()
    with FLOPsMeter(metrics=["full_precision"]) as meter, torch.autocast("cpu", dtype=dtype):
        hidden = relu(first(torch.ones(ROWS, INSIDE)))
        last(hidden)
        with torch.autocast("cpu", enabled=False):
            last(hidden.float())
    assert meter.measurement().of("full_precision total") == SECOND


def test_parameters_are_counted_once_and_apart_from_frozen_ones() -> None:
    network = model()
    network.append(nn.Linear(OUT, OUT))
    network[3].weight = nn.Parameter(torch.ones(OUT, OUT), requires_grad=False)
    network.append(network[3])  # shared
    names = ["parameters", "trainable_parameters"]
    found = count_flops(network, torch.ones(ROWS, INSIDE), metrics=names)
    weights, biases = INSIDE * MIDDLE + MIDDLE * OUT, MIDDLE + OUT + OUT
    assert found.of("parameters total") == weights + biases + OUT * OUT
    assert found.of("trainable_parameters total") == weights + biases
    assert found.of("parameters total", "3") == OUT * OUT + OUT


def test_only_what_is_asked_for_is_counted() -> None:
    found = count_flops(model(), torch.ones(ROWS, INSIDE))
    assert not found.metrics
    assert found.counts("total")
    assert not found.counts("bytes total")


def test_meters_in_each_other_count_what_each_was_asked_for() -> None:
    with FLOPsMeter(metrics=["parameters"]) as outer, FLOPsMeter() as inner:
        model()(torch.ones(ROWS, INSIDE))
    assert list(outer.measurement().metrics) == ["parameters"]
    assert not inner.measurement().metrics


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="there is no metric 'byte'; did you mean 'bytes'"):
        FLOPsMeter(metrics=["byte"])


def test_products_are_those_that_somebody_gives_a_formula_later() -> None:
    @torch.library.custom_op("later::mm", mutates_args=())
    def multiply(a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    @register_flop_formula(torch.ops.later.mm)
    def flops(a: Any, b: Any, *_: Any, **__: Any) -> int:
        return int(2 * a[0] * a[1] * b[1])

    with FLOPsMeter(metrics=["full_precision"]) as meter:
        multiply(torch.ones(2, 4), torch.ones(4, 8))
    assert meter.measurement().of("full_precision total") == meter.count.total == 2 * 2 * 4 * 8
