"""`peak_memory`: by hand, against every allocation of a real run, and against PyTorch's tracker.

By hand: a layer of `WIDTH` x `WIDTH` has `WEIGHT` bytes, and what goes from layer to layer has
`ACTIVATION` bytes. Both are multiples of 512. A loss and its gradient are 512 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.measurement import Measurement

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
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, -1)
        )
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
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
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
    assert peak(training.step) == pytest.approx(truth, rel=0.001)


@pytest.mark.parametrize("name", STEPS)
def test_fake_tensors_live_as_real_ones(name: str) -> None:
    real = measured(STEPS[name]().step)
    with FakeTensorMode():
        training = STEPS[name]()
        fake = measured(training.step)
    print(real.metrics, fake.metrics)
    assert real.metrics == fake.metrics
