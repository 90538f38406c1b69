"""What one rank computes, moves and keeps of a step, on PyTorch's own fake process group."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pytest_flops import FLOPsMeter, count_flops

dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: E402
from torch.distributed.tensor.parallel import (  # noqa: E402
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

TOKENS, WIDTH, HIDDEN = 32, 64, 256
PRODUCT = 2 * TOKENS * WIDTH * HIDDEN
"""One of the five of a step: two forward; two for the weights, one for the hidden layer's input."""
WEIGHTS = 2 * WIDTH * HIDDEN


def two_layers() -> nn.Sequential:
    wide = nn.Linear(WIDTH, HIDDEN, bias=False)
    return nn.Sequential(wide, nn.ReLU(), nn.Linear(HIDDEN, WIDTH, bias=False))


def tensor_parallel(mesh: Any) -> Any:
    return parallelize_module(two_layers(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def sharded(model: nn.Sequential, mesh: Any, **how: Any) -> nn.Sequential:
    """Fully, each layer by itself."""
    for part in (*model, model):
        fully_shard(part, mesh=mesh, **how)
    return model


def step_of(model: nn.Module, *metrics: str, **how: bool) -> FLOPsMeter:
    optimizer = torch.optim.AdamW(model.parameters(), **how)
    with FLOPsMeter(metrics=metrics) as meter:
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


def test_a_sharded_model_is_counted_on_fakes_and_left_as_it_was(fake_ranks: Any) -> None:
    mesh, x, counts = fake_ranks(dp=8), torch.ones(TOKENS, WIDTH), []
    for ran_before in (False, True):
        model = sharded(two_layers(), mesh)
        if ran_before:  # FSDP has made what it keeps
            model(x).sum().backward()
            model.zero_grad()
        counts += [count_flops(model, x, metrics=["peak_memory", "bytes"]) for _ in range(2)]
        assert step_of(model).count == counts[0].count
    assert counts == counts[:1] * 4
    assert counts[0].count.optimizer == updates(8)


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


# --- what it moves ---

F32, BF16 = 4, 2


def moved(meter: FLOPsMeter, operator: str) -> dict[str, int]:
    operations = meter.measurement().metrics["bytes"].details["operations"]
    found: dict[str, int] = operations[operator]
    return found


def test_a_rank_of_tensor_parallel_moves_its_shards(fake_ranks: Any) -> None:
    meter = step_of(tensor_parallel(fake_ranks(tp=8)), "bytes", fused=True)
    # The layers' input, their shards of the weights, of the hidden layer and the partial output.
    outside, hidden, weight = TOKENS * WIDTH, TOKENS * HIDDEN // 8, WIDTH * HIDDEN // 8
    assert moved(meter, "aten.mm")["forward"] == F32 * 2 * (outside + weight + hidden)
    assert moved(meter, "aten.relu")["forward"] == F32 * 2 * hidden
    # Fused AdamW moves 7 numbers for each parameter, and reads a step counter of each tensor.
    assert moved(meter, "aten._fused_adamw_")["optimizer"] == F32 * (7 * 2 * weight + 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fully_sharded_parameters_move_on_the_rank_and_between_ranks(
    fake_ranks: Any, dtype: torch.dtype
) -> None:
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    model = sharded(two_layers(), fake_ranks(dp=8), mp_policy=policy)
    meter = step_of(model, "bytes", fused=True)
    whole, shard = WEIGHTS * dtype.itemsize, WEIGHTS * dtype.itemsize // 8
    for phase in ("forward", "backward"):
        # The shard goes into its place among those of all ranks, which come; then each parameter
        # is copied to where it is used.
        assert moved(meter, "fsdp.all_gather_copy_in")[phase] == 2 * shard
        assert moved(meter, "c10d._allgather_base_")[phase] == shard + whole
        assert moved(meter, "fsdp.split_with_sizes_copy")[phase] == 2 * whole
    # Gradients come in the parameters' dtype and are reduced in float32.
    assert moved(meter, "fsdp.chunk_cat") == {"backward": whole + F32 * WEIGHTS}
    assert moved(meter, "c10d._reduce_scatter_base_") == {
        "backward": F32 * (WEIGHTS + WEIGHTS // 8)
    }
    assert moved(meter, "aten._fused_adamw_")["optimizer"] == F32 * (7 * WEIGHTS // 8 + 2)


def test_a_tensor_that_is_gathered_whole_moves_once(ranks: Any) -> None:
    weight = tensor_parallel(ranks(tp=8))[0].weight
    with FLOPsMeter(metrics=["bytes"]) as meter, torch.no_grad():
        weight.full_tensor()
    whole = weight.numel() * F32
    assert meter.measurement().of("bytes total") == whole // 8 + whole


# --- what it keeps ---


@pytest.mark.parametrize("count", [8, 64])
@pytest.mark.parametrize("reshard", [True, False])
def test_the_peak_of_equal_layers_that_are_fully_sharded(
    fake_ranks: Any, count: int, reshard: bool
) -> None:
    depth, width, tokens, scalar = 6, 256, 32, 512
    layers = (nn.Linear(width, width, bias=False) for _ in range(depth))
    model = sharded(nn.Sequential(*layers), fake_ranks(dp=count), reshard_after_forward=reshard)
    optimizer, x = torch.optim.AdamW(model.parameters(), fused=True), torch.ones(tokens, width)

    def step() -> None:
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with FLOPsMeter(metrics=["peak_memory"]) as meter:
        step()
    layer, activation = F32 * width * width, F32 * tokens * width
    shard = layer // count
    # Throughout: shards, both averages of each and its step counter, and the batch.
    kept = depth * (3 * shard + scalar) + activation
    # In the forward, at the last layer: the results of those before it, gathered parameters (its
    # own; all that were not resharded), what they were copied from, and the same of the layer
    # before, which FSDP frees after the next gather.
    gathered = layer if reshard else depth * layer
    forward = kept + (depth - 1) * activation + gathered + 2 * layer
    # In the backward, the two scalars of the loss, the gradients of a layer's result, argument and
    # parameters; and, if parameters were kept, at the last layer: all of those, and the results of
    # the layers before it. Else at the layer before the last: its parameters, and those of the
    # next, which are being gathered; the gradient of the last one, which is being reduced, and the
    # shard that comes of it; the results of the layers before it.
    backward = kept + 2 * scalar + 2 * activation + layer
    if reshard:
        backward += 2 * layer + layer + shard + (depth - 2) * activation
    else:
        backward += depth * layer + (depth - 1) * activation
    found = meter.measurement()
    assert found.of("peak_memory forward") == forward
    assert found.of("peak_memory backward") == backward


@pytest.mark.parametrize("parallel", [tensor_parallel, lambda mesh: sharded(two_layers(), mesh)])
def test_a_shard_is_a_parameter_of_the_module_that_uses_it(fake_ranks: Any, parallel: Any) -> None:
    """Also if no step of an optimizer names the parameters."""
    model, x = parallel(fake_ranks(tp=8)), torch.ones(TOKENS, WIDTH)
    with FLOPsMeter(metrics=["peak_memory"]) as meter, torch.no_grad():
        model(x)
    details = meter.measurement().metrics["peak_memory"].details
    assert details["kinds"]["inputs"] == x.nbytes
    assert details["kinds"]["parameters"] >= F32 * WEIGHTS // 8
    assert details["modules"]["0"] >= F32 * WEIGHTS // 2 // 8
    assert details["modules"]["2"] >= F32 * WEIGHTS // 2 // 8
