"""`fake_ranks`, and `count_flops(parallelize=)`: one rank of a step, without its weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flops import FLOPsMeter, count_flops, fake_ranks
from pytest_flops.counting.meter.data_dependence import DataDependentError

dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.distributed.tensor import Shard  # noqa: E402
from torch.distributed.tensor.parallel import (  # noqa: E402
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

TOKENS, WIDTH, HIDDEN = 32, 64, 256
PRODUCT = 2 * TOKENS * WIDTH * HIDDEN
LAYER = 4 * WIDTH * HIDDEN  # bytes of one of the two layers
OUTPUT = 4 * TOKENS * WIDTH
METRICS = ("communication", "collectives")


def two_layers(device: str = "meta") -> nn.Module:
    with torch.device(device):
        wide = nn.Linear(WIDTH, HIDDEN, bias=False)
        return nn.Sequential(wide, nn.ReLU(), nn.Linear(HIDDEN, WIDTH, bias=False))


def fully_sharded(model: Any, mesh: DeviceMesh) -> nn.Module:
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh["dp"])
    return model  # type: ignore[no-any-return]


def tensor_parallel(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    return parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})


def both(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    return fully_sharded(tensor_parallel(model, mesh), mesh)


def data_parallel(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    return DistributedDataParallel(model, device_mesh=mesh)


def counted(parallelize: Callable[..., Any], dimensions: dict[str, int], **how: Any) -> Any:
    model = how.pop("model", None) or two_layers()
    with fake_ranks(**dimensions) as mesh:
        return count_flops(
            model,
            torch.ones(TOKENS, WIDTH),
            metrics=METRICS,
            parallelize=lambda copy: parallelize(copy, mesh),
            **how,
        )


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_fully_sharded_layers_on_fakes(device: str) -> None:
    found = counted(fully_sharded, {"dp": 8}, model=two_layers(device))
    # Each layer is gathered in the forward and in the backward, and its gradient scattered.
    assert found.of("communication forward") == 2 * LAYER
    assert found.of("communication backward") == 4 * LAYER
    assert found.of("collectives total") == 6
    # Of an AdamW step, 14 for each element and 1 for the step counter of each layer.
    assert found.count.optimizer == 14 * 2 * WIDTH * HIDDEN // 8 + 2
    assert found.operations["aten.mm"].total == 5 * PRODUCT


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensor_parallel_layers_on_fakes(device: str) -> None:
    found = counted(tensor_parallel, {"tp": 8}, model=two_layers(device))
    assert found.metrics["communication"].whole == {"forward": OUTPUT}
    assert found.operations["aten.mm"].total == 5 * PRODUCT // 8


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
def test_a_mesh_of_two_dimensions_on_fakes() -> None:
    found = counted(both, {"dp": 2, "tp": 4})
    assert found.operations["aten.mm"].total == 5 * PRODUCT // 4
    assert found.of("communication total") == 6 * LAYER // 4 + OUTPUT
    assert found.of("collectives total") == 7


def test_a_mesh_of_ones_own_on_fakes() -> None:
    def of_own_mesh(model: Any, _: DeviceMesh) -> nn.Module:
        mesh = init_device_mesh("cpu", (2, 4), mesh_dim_names=("replicate", "dp"))
        return fully_sharded(model, mesh)

    assert counted(of_own_mesh, {"ranks": 8}).of("communication forward") == 2 * LAYER
    with pytest.raises(RuntimeError, match="not be bigger than default world size 4, but found 8"):
        counted(of_own_mesh, {"ranks": 4})


def test_sequence_parallel_layers_gather_and_scatter_what_tensor_parallel_ones_reduce() -> None:
    plan = {
        "0": SequenceParallel(sequence_dim=0),
        "1.0": ColwiseParallel(input_layouts=Shard(0)),
        "1.2": RowwiseParallel(output_layouts=Shard(0)),
    }
    with torch.device("meta"):
        model = nn.Sequential(nn.LayerNorm(WIDTH), two_layers())
    found = counted(lambda copy, mesh: parallelize_module(copy, mesh, plan), {"tp": 8}, model=model)
    # What the model is given is this rank's share; the products are of the tokens of all ranks.
    whole = 8 * OUTPUT
    for phase in ("forward", "backward"):
        operations = found.metrics["communication"].details["operations"]
        assert operations["all_gather float32"][phase] == whole
        assert operations["reduce_scatter float32"][phase] == whole
    assert found.operations["aten.mm"].total == 8 * 6 * PRODUCT // 8


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_ddp_reduces_its_gradients() -> None:
    found = counted(data_parallel, {"dp": 8}, model=two_layers("cpu"), values="real")
    assert found.metrics["communication"].details["operations"]["all_reduce float32"] == {
        "backward": 2 * LAYER
    }


def test_ddp_on_fakes_says_what_to_do() -> None:
    with pytest.raises(DataDependentError, match='values="real"'):
        counted(data_parallel, {"dp": 8})
    with fake_ranks(dp=8):
        model = DistributedDataParallel(two_layers("cpu"))
        with pytest.raises(ValueError, match="count it with values='real'"):
            count_flops(model, torch.ones(TOKENS, WIDTH))


def test_a_communication_hook_of_the_users_own_stays() -> None:
    def hook(state: list[int], bucket):  # type: ignore[no-untyped-def]
        state.append(1)
        done = torch.futures.Future()  # type: ignore[var-annotated]
        done.set_result(bucket.buffer())
        return done

    calls: list[int] = []
    with fake_ranks(dp=8), FLOPsMeter(metrics=METRICS) as meter:
        model = DistributedDataParallel(two_layers("cpu"))
        model.register_comm_hook(calls, hook)
        model(torch.ones(TOKENS, WIDTH)).sum().backward()
    assert len(calls) == 1
    assert meter.measurement().of("communication backward") == 0


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_model_stays_as_it_was_and_can_be_counted_again(device: str) -> None:
    model = two_layers(device)
    before, state = [*map(type, model.modules())], deepcopy(model.state_dict())
    first = counted(fully_sharded, {"dp": 8}, model=model)
    assert counted(fully_sharded, {"dp": 8}, model=model) == first
    assert [*map(type, model.modules())] == before
    if device == "cpu":
        torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_each_rank_has_its_own_share() -> None:
    """Of 257 rows, 8 ranks have 33 each, but the last one, which has 26."""

    def layer() -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, 257, bias=False, device="meta"))

    def updates(rank: int) -> int:
        with fake_ranks(rank=rank, dp=8) as mesh:
            found = count_flops(
                layer(),
                torch.ones(TOKENS, WIDTH),
                parallelize=lambda model: fully_shard(model, mesh=mesh),
            )
        return int(found.count.optimizer)

    assert updates(0) == 14 * 33 * WIDTH + 1
    assert updates(7) == 14 * 26 * WIDTH + 1


@pytest.mark.parametrize(
    ("rows", "ranks", "dim"), [(8, 2, 0), (8, 2, 1), (7, 3, 0), (5, 4, 0), (4, 8, 0), (1, 2, 0)]
)
def test_a_rank_holds_its_chunk_of_a_parameter(rows: int, ranks: int, dim: int) -> None:
    """The last chunks are shorter, or empty; 5 rows make 3 chunks of 2 for 4 ranks."""
    whole = torch.arange(rows * 24.0).reshape(rows, 24)
    chunks = list(whole.chunk(ranks, dim))
    for rank in range(ranks):
        model = nn.Linear(24, rows, bias=False)
        model.weight.data.copy_(whole)
        with fake_ranks(rank=rank, dp=ranks) as mesh:
            fully_shard(model, mesh=mesh, shard_placement_fn=lambda _: Shard(dim))
            held = model.weight.to_local()  # type: ignore[operator]
        expected = chunks[rank] if rank < len(chunks) else whole[:0]
        assert torch.equal(held, expected)


def test_a_model_that_is_parallel_already_is_refused() -> None:
    for parallelize, dimensions in (
        (fully_sharded, {"dp": 8}),
        (tensor_parallel, {"tp": 8}),
        (data_parallel, {"dp": 8}),
    ):
        with fake_ranks(**dimensions) as mesh:
            model = parallelize(two_layers("cpu"), mesh)
            with pytest.raises(ValueError, match="the model is parallel already"):
                count_flops(
                    model, torch.ones(TOKENS, WIDTH), parallelize=lambda m: m, values="real"
                )


@pytest.mark.parametrize(
    ("made", "told"), [(None, "nothing: is its return missing"), ([3], "list")]
)
def test_what_is_no_model_is_refused(made: object, told: str) -> None:
    with pytest.raises(TypeError, match=f"must return the parallel model, a Module, not {told}"):
        counted(lambda *_: made, {"dp": 8})


@pytest.mark.parametrize(
    ("mesh", "told"),
    [
        ({}, "at least one named dimension"),
        ({"dp": 0}, "dp must be an integer of at least 1, not 0"),
        ({"dp": -8}, "dp must be an integer of at least 1, not -8"),
        ({"dp": 8.0}, "dp must be an integer of at least 1, not 8.0"),
        ({"dp": True}, "dp must be an integer of at least 1, not True"),
        ({"dp": 2, "tp": 4, "rank": 8}, "rank must be from 0 to 7 in a mesh of 8, not 8"),
        ({"dp": 2, "rank": -1}, "rank must be from 0 to 1 in a mesh of 2, not -1"),
        ({"dp": 2, "rank": 1.0}, "rank must be from 0 to 1 in a mesh of 2, not 1.0"),
    ],
)
def test_a_mesh_that_makes_no_sense_is_refused(mesh: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told), fake_ranks(**mesh):
        pass
    assert not dist.is_initialized()


@pytest.fixture
def own_group() -> Iterator[None]:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("own_group")
def test_a_group_that_is_open_stays_open() -> None:
    with (
        pytest.raises(RuntimeError, match="has a process group already.*destroy it first"),
        fake_ranks(dp=8),
    ):
        pass
    assert dist.get_backend() == "gloo"


def test_the_group_ends_whatever_raises() -> None:
    def replaced() -> tuple[object, ...]:
        methods = vars(DeviceMesh)["__getitem__"], vars(DistributedDataParallel)["_pre_forward"]
        return (*methods, sys.excepthook)

    before = replaced()
    with pytest.raises(ZeroDivisionError), fake_ranks(dp=8):
        _ = 1 / 0
    assert not dist.is_initialized()
    assert replaced() == before


def test_a_group_may_be_ended_before_its_time() -> None:
    with fake_ranks(dp=8):
        dist.destroy_process_group()
    assert not dist.is_initialized()


def test_the_ranks_of_a_mesh_know_each_other() -> None:
    with fake_ranks(rank=5, pp=1, dp=2, tp=4) as mesh:
        assert (dist.get_rank(), dist.get_world_size()) == (5, 8)
        assert mesh.mesh_dim_names == ("pp", "dp", "tp")
        assert mesh.device_type == "cpu"
        assert [mesh.get_local_rank(name) for name in ("pp", "dp", "tp")] == [0, 1, 1]
        assert mesh["dp"].mesh.tolist() == [1, 5]


def test_an_equal_part_of_another_mesh_has_groups_of_its_own() -> None:
    """The ranks 0 to 3 make up `tp` in both; the groups of the second mesh have other names."""
    for mesh in ({"dp": 2, "tp": 4}, {"pp": 2, "dp": 2, "tp": 4}):
        found = counted(tensor_parallel, mesh, model=two_layers("cpu"), values="real")
        assert found.of("communication total") == OUTPUT


def test_a_second_mesh_of_a_test_ends_the_first(fake_ranks: Any) -> None:
    sizes = []
    for ranks in (8, 64):
        mesh = fake_ranks(dp=ranks)
        model = fully_shard(two_layers("cpu"), mesh=mesh)
        sizes.append(next(model.parameters()).to_local().numel())
    assert sizes == [WIDTH * HIDDEN // 8, WIDTH * HIDDEN // 64]


def test_a_wrong_call_is_told_by_the_name_of_the_fixture(fake_ranks: Any) -> None:
    with pytest.raises(TypeError, match=r"^fake_ranks\(\) takes 0 positional arguments"):
        fake_ranks(8)
