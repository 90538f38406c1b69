"""`peak_memory`: by hand, against every allocation of a real run, and against PyTorch's tracker.

By hand: a layer of `WIDTH` x `WIDTH` has `WEIGHT` bytes, and what goes from layer to layer has
`ACTIVATION` bytes. Both are multiples of 512. A loss and its gradient are 512 bytes each.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from itertools import groupby
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from pytest_flops import FLOPsMeter, count_flops, fake_ranks
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metrics import peak_memory

ROWS, WIDTH, LAYERS = 256, 128, 4
WEIGHT, ACTIVATION, SCALAR = WIDTH * WIDTH * 4, ROWS * WIDTH * 4, 512


def layers(count: int = LAYERS) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(count)))


def batch() -> Tensor:
    return torch.ones(ROWS, WIDTH)


def measured(step: Callable[[], object]) -> Measurement:
    with FLOPsMeter(metrics=["peak_memory"]) as meter:
        step()
    return meter.measurement()


def peak(step: Callable[[], object]) -> int:
    return measured(step).of("peak_memory total")


def details(found: Measurement) -> Any:
    return found.metrics["peak_memory"].details


def kinds(found: Measurement) -> dict[str, int]:
    return {kind: size for kind, size in details(found)["kinds"].items() if size}


# --- by hand ---


def test_without_gradients_two_activations_live_besides_the_input() -> None:
    model, x = layers(), batch()
    with torch.no_grad():
        found = measured(lambda: model(x))
    # A layer's argument and its result, and the batch, which the caller holds.
    assert found.of("peak_memory total") == LAYERS * WEIGHT + 3 * ACTIVATION
    # The first layer's argument is the batch itself.
    assert found.of("peak_memory forward", "0") == LAYERS * WEIGHT + 2 * ACTIVATION
    assert found.of("peak_memory forward", "1") == LAYERS * WEIGHT + 3 * ACTIVATION
    assert found.of("peak_memory backward") == 0
    assert kinds(found) == {
        "parameters": LAYERS * WEIGHT,
        "inputs": ACTIVATION,
        "temporaries": 2 * ACTIVATION,
    }


def test_with_gradients_every_layers_input_lives_until_its_backward() -> None:
    model, x = layers(), batch()
    found = measured(lambda: model(x).sum().backward())
    forward = LAYERS * WEIGHT + (1 + LAYERS) * ACTIVATION
    assert found.of("peak_memory forward") == forward + SCALAR
    # The backward of the last layer but one, whose result has a gradient of full size (that of the
    # last result is the loss's, expanded): the inputs of the layers before it, the gradients of its
    # result and of its input, and those of two weights.
    inside = LAYERS * WEIGHT + (LAYERS - 1) * ACTIVATION + 2 * ACTIVATION + 2 * WEIGHT
    assert found.of("peak_memory total") == inside + 2 * SCALAR
    assert found.of("peak_memory backward", "2") == inside + 2 * SCALAR
    assert details(found)["at"] == {"phase": "backward", "module": "2", "operator": "aten.mm"}
    assert kinds(found) == {
        "parameters": LAYERS * WEIGHT,
        "gradients": 2 * WEIGHT,
        "inputs": ACTIVATION,
        "activations": (LAYERS - 2) * ACTIVATION + 2 * SCALAR,
        "temporaries": 2 * ACTIVATION,
    }
    assert details(found)["modules"] == {
        "(outside modules)": ACTIVATION + 2 * SCALAR,  # the batch, the loss, its gradient
        "0": WEIGHT + ACTIVATION,
        "1": WEIGHT + ACTIVATION,
        "2": 2 * WEIGHT + ACTIVATION,  # the gradient of its input
        "3": 2 * WEIGHT + ACTIVATION,
    }


def test_checkpointing_keeps_the_inputs_of_blocks_alone() -> None:
    blocks, x = nn.Sequential(*(layers(2) for _ in range(LAYERS))), batch().requires_grad_()

    def step() -> None:
        y = x
        for block in blocks:
            y = checkpoint(block, y, use_reentrant=False)
        del block
        y.sum().backward()

    found = measured(step)
    # In the last block but one, the backward of its second layer: the inputs of the blocks before
    # it and its own, its hidden result again, and the gradients of its result and of that; the
    # gradients of three weights. The last result, which `step` holds.
    alive = LAYERS + 3
    expected = 2 * LAYERS * WEIGHT + 3 * WEIGHT + alive * ACTIVATION + 2 * SCALAR
    assert found.of("peak_memory total") == expected


@pytest.mark.parametrize("kept", [False, True])
def test_a_list_that_keeps_activations_keeps_them_alive(kept: bool) -> None:
    model, x = layers(), batch()
    log: list[Tensor] = []
    if kept:
        for layer in model:
            layer.register_forward_hook(lambda _module, _args, out: log.append(out))
    with torch.no_grad():
        found = measured(lambda: model(x))
    activations = LAYERS if kept else 2
    assert found.of("peak_memory total") == LAYERS * WEIGHT + (1 + activations) * ACTIVATION
    assert ("activations" in kinds(found)) == kept


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_are_zeroed_and_not_freed_live_through_the_next_forward(
    to_none: bool,
) -> None:
    model, x = layers(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=to_none)
        model(x).sum().backward()
        optimizer.step()

    step()
    found = measured(step)
    kept = 0 if to_none else LAYERS * WEIGHT
    forward = LAYERS * WEIGHT + (1 + LAYERS) * ACTIVATION + SCALAR
    assert found.of("peak_memory forward") == forward + kept
    # In the backward, the gradients that are added exist besides, one at a time.
    in_backward = (LAYERS + 1) * ACTIVATION + 2 * SCALAR + (WEIGHT if kept else 2 * WEIGHT)
    assert found.of("peak_memory backward") == LAYERS * WEIGHT + kept + in_backward
    assert kinds(found)["gradients"] == (kept or 2 * WEIGHT)


def test_accumulated_gradients_live_through_the_second_forward() -> None:
    model, x = layers(), batch()

    def step() -> None:
        for _ in range(2):
            model(x).sum().backward()

    found = measured(step)
    first = LAYERS * WEIGHT + (1 + LAYERS) * ACTIVATION + SCALAR
    assert found.of("peak_memory forward") == first + LAYERS * WEIGHT


def test_a_frozen_base_has_no_gradients_and_keeps_no_activations() -> None:
    model, x = layers(), batch()
    model[:3].requires_grad_(False)
    found = measured(lambda: model(x).sum().backward())
    # The last layer's input and its result, with the batch and the loss; then the gradient of its
    # weight, with its input and the batch.
    assert found.of("peak_memory forward") == LAYERS * WEIGHT + 3 * ACTIVATION + SCALAR
    assert found.of("peak_memory backward") == (LAYERS + 1) * WEIGHT + 2 * ACTIVATION + 2 * SCALAR


def test_optimizer_state_is_there_from_the_second_step_on() -> None:
    model, x = layers(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    first, second = measured(step), measured(step)
    state = LAYERS * (2 * WEIGHT + SCALAR)  # two averages of each weight, and a step counter
    forward = LAYERS * WEIGHT + (1 + LAYERS) * ACTIVATION + SCALAR
    assert first.of("peak_memory forward") == forward
    assert second.of("peak_memory forward") == forward + state
    assert kinds(second)["optimizer state"] == state
    assert second.of("peak_memory optimizer") == 2 * LAYERS * WEIGHT + state + ACTIVATION


def test_a_workload_is_counted_in_its_second_step() -> None:
    found = count_flops(layers(), batch(), metrics=["peak_memory"])
    state = LAYERS * (2 * WEIGHT + SCALAR)
    # To the end of the step it holds the result, and so still where the loss's gradient is made.
    forward = LAYERS * WEIGHT + (1 + LAYERS) * ACTIVATION + 2 * SCALAR
    assert found.of("peak_memory forward") == forward + state
    assert found.count == count_flops(layers(), batch()).count


def test_the_last_result_lives_as_long_as_the_step_holds_it() -> None:
    def step(model: nn.Module) -> None:
        model(x).sum().backward()

    def holding_step(model: nn.Module) -> None:
        y = model(x)
        y.sum().backward()

    x = batch()
    with_it = peak(lambda: holding_step(layers()))
    assert with_it == peak(lambda: step(layers())) + ACTIVATION


# --- against every allocation of a real run ---


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(-2))


class GatedFeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        norm = nn.LayerNorm if kind == "gpt" else nn.RMSNorm
        self.norm_1, self.norm_2 = norm(width), norm(width)
        self.attention = Attention(width, 4)
        self.feed_forward = (
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            if kind == "gpt"
            else GatedFeedForward(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.feed_forward(self.norm_2(x))


class LanguageModel(nn.Module):
    """A small Transformer in the shape of GPT (tied head) or of Llama (gated, RMS norms)."""

    def __init__(self, kind: str, *, vocab: int = 512, width: int = 64, checkpointed: bool = False):
        super().__init__()
        self.checkpointed = checkpointed
        self.tokens = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(kind, width) for _ in range(3))
        self.head = nn.Linear(width, vocab, bias=False)
        if kind == "gpt":
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return self.head(x)


class Training:
    """A step of a model, twice run, so that its optimizer has its state."""

    def __init__(self, model: nn.Module, *, times: int = 1, **how: bool) -> None:
        self.model, self.times = model, times
        self.tokens = torch.zeros(4, 64, dtype=torch.long)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, **how)
        self.step()
        self.step()

    def step(self) -> None:
        for _ in range(self.times):
            logits = self.model(self.tokens)
            F.cross_entropy(logits.flatten(0, 1), self.tokens.flatten()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def there_before(self) -> int:
        """What exists between steps, in bytes, each storage rounded up to 512."""
        states = [each for state in self.optimizer.state.values() for each in state.values()]
        return sum(map(rounded, {*self.model.parameters(), *states, self.tokens}))


def rounded(what: Tensor | int) -> int:
    size = what.nbytes if isinstance(what, Tensor) else what
    return -(-size // 512) * 512


def allocated_at_most(step: Callable[[], object]) -> int:
    """The most bytes that PyTorch's allocator had given out during a step, each rounded up."""
    # PyTorch 2.11 warns unless `acc_events` is set; it changes nothing for a single profile.
    cpu = [ProfilerActivity.CPU]
    with profile(activities=cpu, profile_memory=True, acc_events=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]"]
    alive = most = 0
    for _, change in sorted(changes, key=lambda each: each[0]):
        alive += rounded(change) if change > 0 else -rounded(-change)
        most = max(most, alive)
    return most


STEPS: dict[str, Callable[[], Training]] = {
    "gpt": lambda: Training(LanguageModel("gpt")),
    "gpt, foreach": lambda: Training(LanguageModel("gpt"), foreach=True),
    "gpt, fused": lambda: Training(LanguageModel("gpt"), fused=True),
    "gpt, accumulated": lambda: Training(LanguageModel("gpt"), times=2),
    "gpt, small vocabulary": lambda: Training(LanguageModel("gpt", vocab=16)),
    "llama": lambda: Training(LanguageModel("llama")),
    "llama, checkpointed": lambda: Training(LanguageModel("llama", checkpointed=True)),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_the_peak_of_its_allocations(name: str) -> None:
    training = STEPS[name]()
    truth = training.there_before() + allocated_at_most(training.step)
    # Each checkpoint keeps the state of the random generator, which no operator uses.
    unseen = 3 * rounded(torch.get_rng_state()) if "checkpointed" in name else 0
    assert peak(training.step) == pytest.approx(truth - unseen, rel=0.001)


@pytest.mark.parametrize("name", STEPS)
def test_fake_tensors_live_as_real_ones(name: str) -> None:
    real = measured(STEPS[name]().step)
    with FakeTensorMode():
        training = STEPS[name]()
        fake = measured(training.step)
    assert real.metrics["peak_memory"].whole == fake.metrics["peak_memory"].whole
    # The curves run over other calls: kernels of fakes are made of operators, which are counted.
    told = ("at", "kinds", "modules")
    assert [details(real)[each] for each in told] == [details(fake)[each] for each in told]


@pytest.mark.parametrize("name", ["gpt, foreach", "llama"])
def test_pytorchs_tracker_finds_the_same_peak(name: str) -> None:
    tracker = pytest.importorskip("torch.distributed._tools.mem_tracker").MemTracker()
    training = STEPS[name]()
    tracker.track_external(training.model, training.optimizer, training.tokens)
    with tracker:
        training.step()
    snapshot = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    # It does not round up: at most 511 bytes for each of a few hundred storages.
    found = peak(training.step)
    assert 0 <= found - snapshot["Total"] < 512 * 300


@pytest.mark.parametrize("reshard", [True, False])
def test_gathered_parameters_live_as_long_as_fsdp_keeps_them(reshard: bool) -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    with fake_ranks(dp=8) as mesh:
        model, x = layers(), batch()
        for part in (*model, model):
            fsdp.fully_shard(part, mesh=mesh, reshard_after_forward=reshard)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def step() -> None:
            # A sum's gradient is expanded, and products copy such arguments for themselves.
            model(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        step()
        step()
        shards = LAYERS * (3 * WEIGHT // 8 + SCALAR)  # of weights and of both averages
        truth = ACTIVATION + shards + allocated_at_most(step)
        found = measured(step)
    assert found.of("peak_memory total") == pytest.approx(truth, rel=0.001)
    gathered = details(found)["kinds"]["parameters"] - LAYERS * WEIGHT // 8
    assert gathered <= WEIGHT if reshard else gathered == LAYERS * WEIGHT


# --- what a storage is, and how long it lives ---


def test_storages_are_rounded_up_each_by_itself() -> None:
    def step() -> None:
        kept = [torch.ones(1) for _ in range(3)]  # 4 bytes each
        kept.append(torch.ones(129))  # 516
        kept.append(torch.ones(0))
        torch.ones(128)  # 512, when the others are there

    assert peak(step) == 3 * 512 + 1024 + 512


def test_views_and_what_is_done_in_place_take_no_memory() -> None:
    x = batch()

    def step() -> None:
        x.t().reshape(-1)[5:].view(-1).add_(1)  # `reshape` copies what is transposed
        torch.cat([x[:1], x[:1]])  # 2 rows, and by then the copy is gone

    assert peak(step) == 2 * ACTIVATION
    assert peak(lambda: x[5:].add_(x[5:])) == ACTIVATION


def test_what_was_there_before_counts_from_the_beginning_once_it_is_used() -> None:
    x, late, unused = batch(), batch(), batch()

    def step() -> None:
        x.exp().exp()
        late.sum()

    found = measured(step)
    assert found.of("peak_memory total") == 4 * ACTIVATION  # with two results of `exp`
    assert unused.sum()

    def ending_step() -> None:
        nonlocal late
        late.sum()
        late = x.exp()  # and here the old one goes
        x.exp().exp()

    assert peak(ending_step) == 4 * ACTIVATION


@pytest.mark.parametrize("make", [torch.tensor, torch.as_tensor])
def test_tensors_made_from_python_numbers_live_from_then_on(make: Callable[..., Tensor]) -> None:
    numbers = [1.0] * 1000

    def step() -> None:
        for _ in range(5):
            make(numbers).exp()

    assert peak(step) == 2 * rounded(4000)


def test_a_backward_alone_finds_the_activations_that_wait_for_it() -> None:
    model, x = layers(), batch()
    loss = model(x).sum()
    found = measured(loss.backward)
    # The peak of a whole step, less the first weight, which no gradient needs.
    inside = LAYERS * WEIGHT + (LAYERS + 1) * ACTIVATION + 2 * WEIGHT + 2 * SCALAR
    assert found.of("peak_memory backward") == inside - WEIGHT
    assert kinds(found)["gradients"] == 2 * WEIGHT


def test_a_resized_storage_counts_by_its_new_size() -> None:
    resize = torch.UntypedStorage.resize_

    def step() -> None:
        x = torch.ones(1000)
        storage = x.untyped_storage()
        storage.resize_(0)
        torch.ones(1000)
        storage.resize_(8000)
        x.resize_(4000)

    assert peak(step) == rounded(16000)
    x = torch.ones(1000)

    def freeing_step() -> None:
        x.add_(1)
        x.untyped_storage().resize_(0)
        kept.append(torch.ones(500))
        kept[0].untyped_storage().resize_(1 << 20)

    kept: list[Tensor] = []
    found = measured(freeing_step)
    assert found.of("peak_memory total") == rounded(4000)
    assert sum(details(found)["kinds"].values()) == rounded(4000)
    assert torch.UntypedStorage.resize_ is resize


# PyTorch 2.11 and 2.12 warn of the checks where they are asked for, 2.13 where they are not.
@pytest.mark.filterwarnings("ignore:Sparse (invariant checks|CS[RC] tensor support):UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_a_sparse_tensor_has_the_storages_of_its_parts(layout: torch.layout) -> None:
    counted, numbers, ones = torch.arange(1001), torch.arange(1000), torch.ones(1000)
    if layout is torch.sparse_coo:
        both = torch.stack([numbers, numbers])
        sparse = torch.sparse_coo_tensor(both, ones, (1000, 1000))
    else:
        make = torch.sparse_compressed_tensor
        sparse = make(counted, numbers, ones, (1000, 1000), layout=layout)
    # Indices are 8 bytes: two for each value, or one and 1001 bounds. Values are 4.
    indices = rounded(16000) if layout is torch.sparse_coo else rounded(8000) + rounded(8008)
    assert peak(sparse.clone) == 2 * (indices + rounded(4000))


# --- the curve ---


def test_the_curve_of_two_operators() -> None:
    x = batch()
    with torch.no_grad():
        found = measured(lambda: x.sin().cos())
    # Of two calls both are told. After the first there are the batch and its sine, which the second
    # still has as its argument.
    kinds = ("parameters", "gradients", "optimizer state", "activations")
    nothing = {kind: [0, 0] for kind in kinds}
    assert details(found)["curve"] == {
        "calls": [1, 2],
        "phases": ["forward", "forward"],
        "kinds": nothing
        | {"inputs": 2 * [ACTIVATION], "temporaries": [ACTIVATION, 2 * ACTIVATION]},
    }


def test_the_curve_of_two_operators_and_their_backward() -> None:
    weight = torch.ones(ROWS, WIDTH, requires_grad=True)
    found = measured(lambda: weight.sin().sum().backward())
    told = details(found)["curve"]
    # The sine; its sum, a scalar. The gradient of the sum, a scalar of ones, which is expanded; the
    # cosine of the weight; the product of both, which is the weight's gradient and is then kept.
    assert told["phases"][:2] == ["forward", "forward"]
    assert told["kinds"]["inputs"] == [ACTIVATION] * len(told["calls"])
    assert told["kinds"]["gradients"][-1] == ACTIVATION
    levels = [sum(sizes) for sizes in zip(*told["kinds"].values(), strict=True)]
    assert levels[:2] == [2 * ACTIVATION, 2 * ACTIVATION + SCALAR]
    assert max(levels) == 3 * ACTIVATION + 2 * SCALAR == found.of("peak_memory total")


@pytest.mark.parametrize("name", STEPS)
def test_a_long_curve_keeps_the_peak_the_borders_of_phases_and_the_end(name: str) -> None:
    found = measured(STEPS[name]().step)
    told, calls = details(found)["curve"], details(found)["curve"]["calls"]
    assert len(calls) <= 160
    assert calls == sorted({*calls})
    assert calls[0] == 1
    levels = [sum(sizes) for sizes in zip(*told["kinds"].values(), strict=True)]
    assert max(levels) == found.of("peak_memory total")
    peak_at = levels.index(max(levels))
    assert told["phases"][peak_at] == details(found)["at"]["phase"]
    at_peak = {kind: sizes[peak_at] for kind, sizes in told["kinds"].items()}
    assert at_peak == details(found)["kinds"]
    for phase in ("forward", "backward", "optimizer"):
        in_it = [level for level, each in zip(levels, told["phases"], strict=True) if each == phase]
        assert max(in_it) == found.of(f"peak_memory {phase}")


def test_a_curve_of_many_phases_stays_short_and_tells_the_last_call() -> None:
    x = batch().requires_grad_()

    def step() -> None:
        for _ in range(100):
            x.sin().sum().backward()
        torch.ones(SCALAR // 4)

    told = details(measured(step))["curve"]
    assert len(told["calls"]) <= 160
    assert [each for each, _ in groupby(told["phases"])][:6] == 3 * ["forward", "backward"]
    # The batch, its gradient, and what the last call makes.
    assert [sizes[-1] for sizes in told["kinds"].values() if sizes[-1]] == [
        ACTIVATION,
        ACTIVATION,
        SCALAR,
    ]


def test_of_very_many_storages_there_is_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "_MOST_ENDED", 5)  # two passes end four
    x = batch()
    assert "curve" in details(measured(lambda: [(x + 1).sum() for _ in range(2)]))
    found = measured(lambda: [(x + 1).sum() for _ in range(4)])
    # A sum of each pass, and what it is of.
    assert found.of("peak_memory total") == 2 * ACTIVATION + 4 * SCALAR
    assert details(found).keys() == {"at", "kinds", "modules"}


# --- attribution and form ---


@pytest.mark.parametrize("name", STEPS)
def test_kinds_add_up_to_the_peak_and_so_do_modules(name: str) -> None:
    training = STEPS[name]()
    found = measured(training.step)
    told = details(found)
    whole = found.of("peak_memory total")
    assert sum(told["kinds"].values()) == whole
    assert sum(size for path, size in told["modules"].items() if "." not in path) == whole
    parts = sum(told["modules"].get(f"blocks.{number}", 0) for number in range(3))
    assert told["modules"]["blocks"] == parts
    # Two averages and a step counter of each parameter.
    parameters = {*training.model.parameters()}
    state = sum(2 * rounded(each) + 512 for each in parameters)
    assert told["kinds"]["optimizer state"] == state
    assert told["kinds"]["parameters"] == sum(map(rounded, parameters))


def test_a_model_that_is_made_in_the_block_has_parameters_too() -> None:
    def step() -> None:
        model = layers()
        model(batch()).sum().backward()

    found = measured(step)
    assert kinds(found)["parameters"] == LAYERS * WEIGHT
    assert details(found)["modules"]["0"] == WEIGHT + ACTIVATION


def test_gradients_that_a_step_frees_in_its_backward_are_gradients() -> None:
    model, x = layers(), batch()

    def freed(parameter: Tensor) -> None:
        parameter.grad = None

    for layer in model:
        layer.weight.register_post_accumulate_grad_hook(freed)
    found = measured(lambda: model(x).sum().backward())
    inside = LAYERS * WEIGHT + (LAYERS + 1) * ACTIVATION + WEIGHT
    assert found.of("peak_memory backward") == inside + 2 * SCALAR
    assert kinds(found)["gradients"] == WEIGHT


def test_details_survive_json() -> None:
    found = measured(lambda: layers()(batch()).sum().backward())
    assert Measurement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_nothing_ran() -> None:
    found = measured(lambda: None)
    assert found.of("peak_memory total") == 0
    assert not details(found)


# --- nothing by chance ---


def test_two_runs_are_equal() -> None:
    assert measured(STEPS["llama"]().step) == measured(STEPS["llama"]().step)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_cycle_that_holds_tensors_lives_until_it_is_collected(enabled: bool) -> None:
    def step(collecting: bool) -> None:
        for _ in range(3):
            cycle: list[Any] = [batch()]
            cycle.append(cycle)
            del cycle
            if collecting:
                gc.collect()
            [[] for _ in range(10_000)]  # enough to make Python collect

    if not enabled:
        gc.disable()
    try:
        assert peak(lambda: step(False)) == 3 * ACTIVATION
        assert peak(lambda: step(True)) == ACTIVATION
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_an_error_leaves_nothing_behind() -> None:
    resize = torch.UntypedStorage.resize_

    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        measured(fail)
    assert gc.isenabled()
    assert torch.UntypedStorage.resize_ is resize


def test_meters_in_each_other_find_their_own_peaks() -> None:
    with FLOPsMeter(metrics=["peak_memory"]) as outer:
        x = batch()
        with FLOPsMeter(metrics=["peak_memory"]) as inner:
            x.exp()
        x.exp().exp()
    assert inner.measurement().of("peak_memory total") == 2 * ACTIVATION
    assert outer.measurement().of("peak_memory total") == 3 * ACTIVATION
    assert gc.isenabled()


def test_threads_share_what_is_alive() -> None:
    x = batch()
    kept: list[Tensor] = []

    def work() -> None:
        kept.append(x.exp())

    def step() -> None:
        for _ in range(3):
            thread = Thread(target=work)
            thread.start()
            thread.join()

    assert peak(step) == 4 * ACTIVATION


def test_a_model_can_be_converted_while_it_is_counted() -> None:
    model = layers()

    def step() -> None:
        with torch.no_grad():
            model(batch())
            model.to(torch.float64)
            model(batch().double())

    # Twice the size each, with the layer's argument, which is the batch, or its result, and result.
    assert peak(step) >= LAYERS * 2 * WEIGHT + 6 * ACTIVATION


def test_a_model_may_be_exported_inside_the_block_with_sizes_that_vary() -> None:
    varies = torch.export.Dim.AUTO

    def step() -> None:
        nonlocal exported
        exported = torch.export.export(layers(), (batch(),), dynamic_shapes=({0: varies},))

    exported: Any = None
    assert peak(step) >= LAYERS * WEIGHT
    assert len(exported.range_constraints) == 1


# --- as a gate ---

INFERENCE = """
    layers, kept = [torch.nn.Linear(128, 128, bias=False) for _ in range(4)], []
    y = torch.ones(256, 128)
    with torch.no_grad():
        for layer in layers:
            y = layer(y)
            {body}
"""
# Four weights, and a layer's argument and result; with the list, the results of all layers.
HELD = LAYERS * WEIGHT + 2 * ACTIVATION
KEPT = LAYERS * WEIGHT + LAYERS * ACTIVATION


@pytest.mark.parametrize(
    ("body", "limit", "red"),
    [
        ("pass", HELD, ""),
        ("pass", HELD - 1, "*peak_memory total: 524.288 kB, limit 524.287 kB*"),
        ("kept.append(y)", HELD, f"*peak_memory total: {KEPT / 1000} kB, limit 524.288 kB*"),
    ],
)
def test_a_marked_test_that_keeps_its_activations_is_red(
    project: Any, body: str, limit: int, red: str
) -> None:
    project.marked(f"peak_memory={limit}", INFERENCE.format(body=body))
    if red:
        project.fails(told=[red])
    else:
        project.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_workload_is_held_to_the_peak_of_its_second_step(project: Any, optimizer: str) -> None:
    project.ini("pythonpath = .")
    project.write(
        "builders.py",
        """
        import torch
        def build(batch_size):
            return torch.nn.Linear(128, 128, bias=False), torch.ones(batch_size, 128)
        """,
    )
    # The weight and its gradient, the batch and the result, the loss and its gradient.
    limit = 2 * WEIGHT + 2 * ACTIVATION + 2 * SCALAR
    project.budget(
        "net",
        "workload: {model: 'builders:build', batch_size: 256, optimizer: " + optimizer + "}",
        f"limits: {{peak_memory: {limit}}}",
    )
    if optimizer == "adamw":
        # In its step, without the loss: two averages and a step counter, and two temporaries.
        adamw = limit - 2 * SCALAR + 2 * WEIGHT + SCALAR + 2 * WEIGHT
        project.fails("budgets", told=[f"*peak_memory total: {adamw / 1000} kB, limit *"])
        return
    project.run("budgets", "--flops-report=reports").assert_outcomes(passed=1)
    measurement = project.report()["entries"][0]["measurement"]
    told = measurement["metrics"]["peak_memory"]["details"]
    assert told["kinds"]["gradients"] == told["kinds"]["parameters"] == WEIGHT
