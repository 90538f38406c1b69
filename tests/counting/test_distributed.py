"""What one rank computes of a distributed step, on PyTorch's own fake process group."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pytest_flops import FLOPsMeter

dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.distributed.tensor.parallel import (  # noqa: E402
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

TOKENS, WIDTH, HIDDEN = 32, 64, 256
PRODUCT = 2 * TOKENS * WIDTH * HIDDEN
"""One of the five of a step: two forward; two for the weights, one for the hidden layer's input."""
WEIGHTS = 2 * WIDTH * HIDDEN


def two_layers() -> nn.Module:
    wide = nn.Linear(WIDTH, HIDDEN, bias=False)
    return nn.Sequential(wide, nn.ReLU(), nn.Linear(HIDDEN, WIDTH, bias=False))


def tensor_parallel(mesh: Any) -> nn.Module:
    return parallelize_module(two_layers(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def step_of(model: nn.Module, **how: bool) -> FLOPsMeter:
    optimizer = torch.optim.AdamW(model.parameters(), **how)
    with FLOPsMeter() as meter:
        model(torch.ones(TOKENS, WIDTH)).sum().backward()
        optimizer.step()
    return meter


def products(meter: FLOPsMeter) -> int:
    return sum(cost.total for name, cost in meter.operations.items() if name.endswith("mm"))


# 14 for each element of the weights and 1 for the step counter of each of the two (counting.md).
def updates(ranks: int) -> int:
    return 14 * WEIGHTS // ranks + 2


@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_a_rank_of_tensor_parallel_counts_its_shards(fake_ranks: Any, how: dict[str, bool]) -> None:
    meter = step_of(tensor_parallel(fake_ranks(tp=8)), **how)
    assert products(meter) == 5 * PRODUCT // 8
    assert meter.count.optimizer == updates(8)
    # The output is whole on every rank, and so is its sum; the hidden layer is an eighth.
    assert meter.operations["aten.sum"].total == TOKENS * WIDTH
    assert meter.operations["aten.relu"].forward == TOKENS * HIDDEN // 8
    assert not meter.uncounted


def test_shards_belong_to_the_module_that_holds_the_parameter(fake_ranks: Any) -> None:
    components = step_of(tensor_parallel(fake_ranks(tp=8))).components
    assert components["0"].to_dict() == {
        "forward": PRODUCT // 8,
        "backward": PRODUCT // 8,
        "optimizer": updates(8) // 2,
        "total": PRODUCT // 4 + updates(8) // 2,
    }
    assert components["2"].backward == 2 * PRODUCT // 8


def test_the_second_step_costs_what_the_first_does(fake_ranks: Any) -> None:
    """The first asks for the shapes of results, on tensors of the whole model."""
    model = tensor_parallel(fake_ranks(tp=4))
    first = step_of(model).count
    model.zero_grad()
    assert step_of(model).count == first


def test_fully_sharded_parameters_compute_whole_products_and_update_shards(fake_ranks: Any) -> None:
    mesh, model = fake_ranks(dp=8), two_layers()
    fully_shard(model, mesh=mesh)
    meter = step_of(model)
    assert products(meter) == 5 * PRODUCT
    assert meter.count.optimizer == updates(8)
    assert meter.components["0"].optimizer == updates(8) // 2


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
def test_shards_of_a_mesh_of_two_dimensions(fake_ranks: Any) -> None:
    mesh = fake_ranks(dp=2, tp=4)
    model = tensor_parallel(mesh["tp"])
    fully_shard(model, mesh=mesh["dp"])
    meter = step_of(model)
    assert products(meter) == 5 * PRODUCT // 4
    assert meter.count.optimizer == updates(8)


def test_a_meter_inside_a_meter_counts_shards_too(fake_ranks: Any) -> None:
    model = tensor_parallel(fake_ranks(tp=8))
    with FLOPsMeter() as outer:
        inner = step_of(model)
    assert outer.count == inner.count
