"""`communication` and `collectives` of one rank, by hand, on PyTorch's fake process group."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_flops import FLOPsMeter, fake_ranks
from pytest_flops.counting.measurement import Measurement

dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed import _functional_collectives as functional  # noqa: E402
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh  # noqa: E402
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: E402
from torch.distributed.pipelining import PipelineStage, Schedule1F1B  # noqa: E402
from torch.distributed.tensor import DTensor, Shard  # noqa: E402
from torch.distributed.tensor.debug import CommDebugMode  # noqa: E402
from torch.distributed.tensor.parallel import (  # noqa: E402
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

RANKS = 8
F32, BF16, I64 = 4, 2, 8

Kinds = dict[str, tuple[int, int]]
"""Bytes and calls by kind of collective and dtype."""


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    with fake_ranks(ranks=RANKS) as mesh:
        yield mesh


def measured(run: Callable[[], object]) -> Measurement:
    with FLOPsMeter(metrics=["communication", "collectives"]) as meter:
        run()
    return meter.measurement()


def kinds(found: Measurement, phase: str | None = None) -> Kinds:
    """What each kind of collective costs in a phase, or in all; no bytes are not told."""
    told = [found.metrics[name].details for name in ("communication", "collectives")]
    payload, calls = (
        {
            kind: sum(value for each, value in by_phase.items() if phase in (None, each))
            for kind, by_phase in details.get("operations", {}).items()
        }
        for details in told
    )
    return {kind: (payload.get(kind, 0), calls[kind]) for kind in calls if calls[kind]}


# --- one call ---


def pieces(*shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """What goes to, or comes from, each rank."""
    return [torch.ones(shape, dtype=dtype) for _ in range(RANKS)]


def whole() -> Tensor:
    return torch.ones(RANKS * 3)


def part() -> Tensor:
    return torch.ones(3)


PART, WHOLE = F32 * 3, F32 * 3 * RANKS
GROUP = "0"  # the name of the default one


def coalesced(run: Callable[[], object]) -> None:
    with dist._coalescing_manager():
        run()
        run()


CALLS: dict[str, tuple[Callable[[], object], Kinds]] = {
    "all_reduce": (lambda: dist.all_reduce(part()), {"all_reduce float32": (PART, 1)}),
    "all_reduce of integers": (
        lambda: dist.all_reduce(torch.ones(3, dtype=torch.int64)),
        {"all_reduce int64": (I64 * 3, 1)},
    ),
    # An index of one dimension and a value of 3 elements, each for 2 rows.
    "all_reduce of a sparse tensor": (
        lambda: dist.all_reduce(
            torch.sparse_coo_tensor(
                torch.tensor([[0, 2]]), torch.ones(2, 3), (9, 3), check_invariants=True
            )
        ),
        {"all_reduce float32": (2 * I64 + 2 * PART, 1)},
    ),
    "all_reduces, coalesced": (
        lambda: coalesced(lambda: dist.all_reduce(part())),
        {"all_reduce float32": (2 * PART, 1)},
    ),
    "reduce": (lambda: dist.reduce(part(), 0), {"reduce float32": (PART, 1)}),
    "broadcast": (lambda: dist.broadcast(part(), 0), {"broadcast float32": (PART, 1)}),
    "all_gather": (
        lambda: dist.all_gather(pieces(3), part()),
        {"all_gather float32": (WHOLE, 1)},
    ),
    "all_gather into the same tensor": (
        lambda: dist.all_gather([part()] * RANKS, part()),
        {"all_gather float32": (WHOLE, 1)},
    ),
    "all_gather_into_tensor": (
        lambda: dist.all_gather_into_tensor(whole(), part()),
        {"all_gather float32": (WHOLE, 1)},
    ),
    "all_gathers, coalesced": (
        lambda: coalesced(lambda: dist.all_gather_into_tensor(whole(), part())),
        {"all_gather float32": (2 * WHOLE, 1)},
    ),
    "gather": (lambda: dist.gather(part(), pieces(3), 0), {"gather float32": (WHOLE, 1)}),
    "gather to another rank": (lambda: dist.gather(part(), dst=1), {"gather float32": (PART, 1)}),
    "scatter": (lambda: dist.scatter(part(), pieces(3), 0), {"scatter float32": (WHOLE, 1)}),
    "scatter from another rank": (
        lambda: dist.scatter(part(), src=1),
        {"scatter float32": (PART, 1)},
    ),
    "reduce_scatter": (
        lambda: dist.reduce_scatter(part(), pieces(3)),
        {"reduce_scatter float32": (WHOLE, 1)},
    ),
    "reduce_scatter_tensor": (
        lambda: dist.reduce_scatter_tensor(part(), whole()),
        {"reduce_scatter float32": (WHOLE, 1)},
    ),
    "reduce_scatters, coalesced": (
        lambda: coalesced(lambda: dist.reduce_scatter_tensor(part(), whole())),
        {"reduce_scatter float32": (2 * WHOLE, 1)},
    ),
    "all_to_all": (
        lambda: dist.all_to_all(pieces(3), pieces(3)),
        {"all_to_all float32": (WHOLE, 1)},
    ),
    "all_to_all_single": (
        lambda: dist.all_to_all_single(whole(), whole()),
        {"all_to_all float32": (WHOLE, 1)},
    ),
    # It gets 5 rows from each rank, and gives 1.
    "all_to_all of unequal parts": (
        lambda: dist.all_to_all_single(
            torch.ones(5 * RANKS), torch.ones(RANKS), [5] * RANKS, [1] * RANKS
        ),
        {"all_to_all float32": (F32 * 5 * RANKS, 1)},
    ),
    "send": (lambda: dist.send(part(), 1), {"send float32": (PART, 1)}),
    "isend": (lambda: dist.isend(part(), 1), {"send float32": (PART, 1)}),
    "recv": (lambda: dist.recv(part(), 1), {"recv float32": (PART, 1)}),
    "irecv from any rank": (lambda: dist.irecv(part()), {"recv float32": (PART, 1)}),
    "batch_isend_irecv": (
        lambda: dist.batch_isend_irecv(
            [dist.P2POp(dist.isend, part(), 1), dist.P2POp(dist.irecv, part(), 1)]
        ),
        {"send float32": (PART, 1), "recv float32": (PART, 1)},
    ),
    "barrier": (dist.barrier, {"barrier": (0, 1)}),
    "functional all_reduce": (
        lambda: functional.all_reduce(part(), "sum", GROUP).clone(),
        {"all_reduce float32": (PART, 1)},
    ),
    "functional all_gather": (
        lambda: functional.all_gather_tensor(part(), 0, GROUP).clone(),
        {"all_gather float32": (WHOLE, 1)},
    ),
    "functional all_gather, coalesced, of two dtypes": (
        lambda: [
            gathered.clone()
            for gathered in functional.all_gather_into_tensor_coalesced(
                [part(), part().bfloat16()], GROUP
            )
        ],
        {"all_gather bfloat16 float32": ((F32 + BF16) * 3 * RANKS, 1)},
    ),
    "functional reduce_scatter": (
        lambda: functional.reduce_scatter_tensor(whole(), "sum", 0, GROUP).clone(),
        {"reduce_scatter float32": (WHOLE, 1)},
    ),
    "functional all_to_all": (
        lambda: functional.all_to_all_single(whole(), None, None, GROUP).clone(),
        {"all_to_all float32": (WHOLE, 1)},
    ),
    "DTensor's all_to_all": (  # on a mesh of GPUs
        lambda: torch.ops._dtensor.shard_dim_alltoall(torch.ones(3, RANKS), 0, 1, GROUP),
        {"all_to_all float32": (WHOLE, 1)},
    ),
    "functional broadcast": (
        lambda: functional.broadcast(part(), 0, GROUP).clone(),
        {"broadcast float32": (PART, 1)},
    ),
}


@pytest.mark.filterwarnings("ignore:.*is deprecated. Please use:FutureWarning")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize(("run", "expected"), CALLS.values(), ids=CALLS)
def test_the_payload_is_the_larger_of_what_a_rank_gives_and_gets(
    run: Callable[[], object], expected: Kinds
) -> None:
    found = measured(run)
    assert kinds(found) == kinds(found, "forward") == expected
    assert found.of("communication total") == sum(payload for payload, _ in expected.values())
    assert found.of("collectives total") == sum(calls for _, calls in expected.values())
    assert not found.uncounted


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_a_collective_that_no_rule_knows_is_uncounted_by_name(dtype: torch.dtype) -> None:
    """As one that a later PyTorch brings; of integers too, which cost no FLOPs."""
    with torch.library._scoped_library("c10d", "FRAGMENT") as library:
        library.define("rotate_(Tensor[] tensors, Tensor[] from_next) -> ()")
        library.impl("rotate_", lambda *_: None, "CPU")
        both = [torch.ones(3, dtype=dtype)], [torch.ones(2, dtype=dtype)]
        found = measured(lambda: torch.ops.c10d.rotate_(*both))
    assert found.uncounted == {"c10d.rotate_": 1}
    # By the definition, whatever it does.
    name = f"rotate_ {str(dtype).removeprefix('torch.')}"
    assert kinds(found) == {name: (3 * dtype.itemsize, 1)}


# --- fully sharded ---

LAYERS, WIDTH, TOKENS = 3, 64, 16
LAYER = WIDTH * WIDTH + WIDTH  # elements, with the bias


def fully_sharded(mesh: DeviceMesh, **how: Any) -> nn.Module:
    """Equal layers, each a group of its own, in a root without parameters of its own."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    for part in (*model, model):
        fully_shard(part, mesh=mesh, **how)
    return model


def stepping(model: nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        model(torch.ones(TOKENS, WIDTH)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def calls_of_comm_debug_mode(run: Callable[[], object]) -> int:
    with warnings.catch_warnings(), CommDebugMode() as mode:
        warnings.simplefilter("ignore")  # its hooks on modules warn of those of FSDP
        run()
    return mode.get_total_counts()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
@pytest.mark.parametrize("reshard", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fully_sharded_layers_are_gathered_and_their_gradients_scattered(
    mesh: DeviceMesh, reshard: bool, dtype: torch.dtype
) -> None:
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    model = fully_sharded(mesh, reshard_after_forward=reshard, mp_policy=policy)
    step = stepping(model)
    found = measured(step)
    # Every layer is gathered in the forward, and again in the backward if it was resharded. Its
    # gradient is reduced in float32, whatever it was gathered in.
    gathers = LAYERS * LAYER * dtype.itemsize, LAYERS
    gather = f"all_gather {str(dtype).removeprefix('torch.')}"
    scatters = {"reduce_scatter float32": (LAYERS * LAYER * F32, LAYERS)}
    assert kinds(found, "forward") == {gather: gathers}
    assert kinds(found, "backward") == scatters | ({gather: gathers} if reshard else {})
    assert kinds(found, "optimizer") == {}
    assert found.of("collectives total") == calls_of_comm_debug_mode(step)
    assert not found.uncounted
    # A layer's first gather is its own.
    assert found.of("communication forward", "0") == LAYER * dtype.itemsize


@pytest.mark.usefixtures("mesh")
def test_shards_that_are_replicated_are_reduced_once_more() -> None:
    replicas, shards = 2, RANKS // 2
    model = fully_sharded(init_device_mesh("cpu", (replicas, shards), mesh_dim_names=("r", "s")))
    found = measured(stepping(model))
    assert kinds(found, "backward") == {
        "all_gather float32": (LAYERS * LAYER * F32, LAYERS),
        "reduce_scatter float32": (LAYERS * LAYER * F32, LAYERS),
        "all_reduce float32": (LAYERS * LAYER * F32 // shards, LAYERS),
    }


def test_more_ranks_than_rows_gather_what_fills_them_up() -> None:
    """Of each parameter a rank holds one row: of 64 each, ranks 64 to 1023 send nothing useful."""
    ranks = 1024
    with fake_ranks(ranks=ranks) as mesh:
        found = measured(stepping(fully_sharded(mesh)))
    gathered = LAYERS * F32 * (ranks * WIDTH + ranks)
    assert kinds(found, "forward") == {"all_gather float32": (gathered, LAYERS)}


# --- tensor and sequence parallel ---

HIDDEN = 4 * WIDTH
ACTIVATION = F32 * TOKENS * WIDTH


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Any:
        return x + self.down(self.up(self.norm(x)).relu())


def test_tensor_parallel_blocks_reduce_once_each_way(mesh: DeviceMesh) -> None:
    model = nn.Sequential(*(Block() for _ in range(LAYERS)))
    for block in model:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    step = partial(forward_and_backward, model, torch.ones(1, TOKENS, WIDTH))
    found = measured(step)
    # Forward, the sum of the parts of `down`; backward, that of the gradients of the input of `up`.
    both_ways = {"all_reduce float32": (LAYERS * ACTIVATION, LAYERS)}
    assert kinds(found, "forward") == kinds(found, "backward") == both_ways
    assert found.of("collectives total") == calls_of_comm_debug_mode(step)


@pytest.mark.parametrize(("fused", "reads"), [(True, 1), (False, 3)])
def test_sequence_parallel_blocks_gather_and_scatter(
    mesh: DeviceMesh, fused: bool, reads: int
) -> None:
    plan = {
        "norm": SequenceParallel(),
        "up": ColwiseParallel(input_layouts=Shard(1)),
        "down": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
    }
    model = nn.Sequential(*(parallelize_module(Block(), mesh, plan) for _ in range(LAYERS)))
    x = DTensor.from_local(torch.ones(1, TOKENS // RANKS, WIDTH), mesh, [Shard(1)])
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)

    def step() -> None:
        forward_and_backward(model, x)
        optimizer.step()

    step()
    found = measured(step)
    both_ways = {
        "all_gather float32": (LAYERS * ACTIVATION, LAYERS),
        "reduce_scatter float32": (LAYERS * ACTIVATION, LAYERS),
    }
    assert kinds(found, "forward") == kinds(found, "backward") == both_ways
    # The gradients of a norm's weight and bias are those of this rank's tokens. Nobody sums them
    # up before the optimizer does, at each read: in both averages, of which the second reads twice.
    calls = LAYERS * 2 * reads
    assert kinds(found, "optimizer") == {"all_reduce float32": (calls * F32 * WIDTH, calls)}
    assert found.of("collectives total") == calls_of_comm_debug_mode(step)


def forward_and_backward(model: nn.Module, x: Any) -> None:
    y = model(x)
    (y.to_local() if isinstance(y, DTensor) else y).sum().backward()


@pytest.mark.parametrize("mode", [FakeTensorMode, nullcontext])
def test_shards_of_another_dimension_come_all_to_all(mesh: DeviceMesh, mode: Any) -> None:
    """A rank gives its 3 rows of 16, and gets 2 columns of 24; gathered, it gets all 24 rows."""

    def there_and_back() -> None:
        rows = DTensor.from_local(torch.ones(3, 16, requires_grad=True), mesh, [Shard(0)])
        columns = rows.redistribute(placements=[Shard(1)]).to_local()
        assert columns.shape == (24, 2)
        columns.sum().backward()

    with mode():
        found = measured(there_and_back)
    payload = {"all_to_all float32": (F32 * 3 * 16, 1)}
    assert kinds(found, "forward") == kinds(found, "backward") == payload


# --- buckets, stages, experts ---


def test_data_parallel_gradients_are_reduced_in_buckets(mesh: DeviceMesh) -> None:
    """The fake group's own futures hold no result, so a hook returns one that does."""

    def reduced(bucket: Any) -> torch.futures.Future[Tensor]:
        dist.all_reduce(bucket.buffer())
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    layers = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH)
    # A bucket takes parameters until it is full: the last layer, then the first two.
    cap = F32 * LAYER / 2**20
    model = nn.parallel.DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=cap)
    model.register_comm_hook(None, lambda _, bucket: reduced(bucket))
    step = partial(forward_and_backward, model, torch.ones(TOKENS, WIDTH))
    for _ in range(2):  # after the first, parameters are put into buckets anew
        step()
    found = measured(step)
    gradients = 2 * LAYER + 2 * WIDTH
    assert kinds(found, "backward") == {"all_reduce float32": (F32 * gradients, 2)}
    # The statistics of the batch norm, and how many batches it has seen.
    assert kinds(found, "forward") == {
        "broadcast float32": (F32 * 2 * WIDTH, 1),
        "broadcast int64": (I64, 1),
    }
    assert found.of("collectives total") == calls_of_comm_debug_mode(step)


@pytest.mark.usefixtures("mesh")
def test_a_pipeline_stage_sends_activations_on_and_gradients_back() -> None:
    stage, batches = nn.Linear(WIDTH, WIDTH), 4

    def step() -> None:
        for _ in range(batches):
            x = torch.zeros(TOKENS, WIDTH)
            dist.irecv(x, 1).wait()
            y = stage(x.requires_grad_())
            dist.isend(y.detach(), 2).wait()
            gradient = torch.zeros_like(y)
            dist.recv(gradient, 2)
            y.backward(gradient)
            dist.send(x.grad, 1)

    found = measured(step)
    one_way = batches * 2 * ACTIVATION, batches * 2
    assert kinds(found) == {"send float32": one_way, "recv float32": one_way}
    # No part of the backward is a message: the engine runs none.
    assert found.of("communication backward") == 0
    assert kinds(found, "forward") == kinds(found)


@pytest.mark.parametrize(("rank", "neighbours"), [(0, 1), (1, 2), (3, 1)])
def test_a_schedule_sends_each_microbatch_to_the_stages_beside_its_own(
    rank: int, neighbours: int
) -> None:
    stages = batches = 4
    x, y = (torch.ones(TOKENS // batches, WIDTH, requires_grad=True) for _ in range(2))
    inputs = (torch.ones(TOKENS, WIDTH),) if rank == 0 else ()
    with fake_ranks(rank=rank, pp=stages) as mesh:
        stage = PipelineStage(
            nn.Linear(WIDTH, WIDTH, bias=False),
            rank,
            stages,
            torch.device("cpu"),
            input_args=x if rank else x.detach(),
            output_args=y,
            group=mesh.get_group("pp"),
        )
        schedule = Schedule1F1B(stage, batches, loss_fn=nn.functional.mse_loss)
        target = torch.ones(TOKENS, WIDTH) if rank == stages - 1 else None
        schedule.step(*inputs, target=target)  # some versions send a float to each neighbour first
        found = measured(lambda: schedule.step(*inputs, target=target))
    # An activation to, or from, the stages beside it, and its gradient back.
    messages = neighbours * ACTIVATION, neighbours * batches
    assert kinds(found) == {"send float32": messages, "recv float32": messages}
    product = 2 * TOKENS * WIDTH * WIDTH
    products = found.operations["aten.mm"]
    assert (products.forward, products.backward) == (product, product * (2 if rank else 1))


def test_a_stage_that_does_not_know_its_shapes_says_what_it_needs() -> None:
    with fake_ranks(rank=1, pp=4) as mesh:
        group = mesh.get_group("pp")
        stage = PipelineStage(nn.Linear(1, 1), 1, 4, torch.device("cpu"), group=group)
        with pytest.raises(RuntimeError, match="input_args and output_args|static metadata"):
            Schedule1F1B(stage, 4, loss_fn=nn.functional.mse_loss).step()


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize("received", [1, 5])
def test_experts_get_their_tokens_and_give_back_results(received: int) -> None:
    """From each rank, and for each, of which this rank gives one token."""
    expert = nn.Linear(WIDTH, WIDTH)

    def step() -> None:
        x = torch.ones(RANKS, WIDTH, requires_grad=True)
        there, here = [received] * RANKS, [1] * RANKS
        mine = functional.all_to_all_single_autograd(x, there, here, GROUP)
        functional.all_to_all_single_autograd(expert(mine), here, there, GROUP).sum().backward()

    found = measured(step)
    # There and back, the larger of both ways.
    tokens = 2 * F32 * received * RANKS * WIDTH, 2
    assert kinds(found, "forward") == {"all_to_all float32": tokens}
    assert kinds(found, "backward") == {"all_to_all float32": tokens}
    assert found.of("collectives total") == calls_of_comm_debug_mode(step)


# --- held ---

MARKED = """\
import pytest, torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


@pytest.fixture(autouse=True)
def group():
    dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    yield
    dist.destroy_process_group()


class Gathered(torch.nn.Module):
    def forward(self, x):
        whole = x.new_empty(8 * len(x))
        for _ in range(TIMES):
            dist.all_gather([*whole.chunk(8)], x)
        return whole


@pytest.mark.flops_budget(LIMITS)
def test_step():
    model = torch.nn.Sequential(Gathered())
    model(torch.ones(1000)).sin()
    dist.all_reduce(torch.ones(2))
"""


def marked(limits: str, times: int) -> str:
    return MARKED.replace("LIMITS", limits).replace("TIMES", str(times))


def test_a_red_verdict_names_the_kind_of_collective_and_how_often(project: Any) -> None:
    limits = "communication='100 kB', collectives={'forward': 4}"
    project.test(marked(limits, times=3))
    assert project.run("--flops-update").ret == 0  # 96,008 B: 3 of 8 * 1,000 * 4, and 2 * 4
    project.test(marked(limits, times=4))
    project.explains(
        told=[
            "all_gather float32 x 4 (+32 kB)*communication total: *limit 100 kB",
            "all_gather float32 (+1 call)*collectives total: 5 calls, recorded 4 calls",
            "write 5 calls to allow it: collectives forward",
        ]
    )
    for page in ("flops.html", "flops.md"):
        assert "communication" in (project.root / "reports" / page).read_text(encoding="utf-8")
    (project.root / "test_model.lock.json").unlink()
    project.explains(told=["most by all_gather float32 x 4 (128 kB)*communication total"])
