"""`syncs`: each call that waits for the device once, and no call that does not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter.data_dependence import DataDependentError

# Made before any meter, as a batch is. No test hands over a bound method such as `X.tolist`: what
# somebody has taken from a tensor before the meter began is not seen.
X = torch.linspace(-1, 1, 16).view(4, 4)
MASK = X > 0
INDICES = torch.tensor([0, 2, 1])
ONE = torch.tensor(2.0)


def measured(run: Callable[..., Any], *args: Any) -> Measurement:
    with FLOPsMeter(metrics=["syncs"]) as meter:
        run(*args)
    return meter.measurement()


def syncs(run: Callable[..., Any], *args: Any) -> int:
    return measured(run, *args).of("syncs total")


def assign(index: Any, value: Any) -> None:
    X.clone()[index] = value


def two_ways(value: Tensor) -> int:
    return 1 if value else 0


WAIT_ONCE: dict[str, Callable[[], Any]] = {
    "item": lambda: ONE.item() + 1,
    "float": lambda: float(ONE),
    "int": lambda: int(ONE),
    "bool": lambda: bool(ONE),
    "complex": lambda: complex(ONE),
    "if": lambda: two_ways(ONE),
    "range": lambda: range(INDICES[0]),
    "formatted": lambda: f"{ONE:.2f}",
    "print": lambda: print(X),
    "repr of a parameter": lambda: repr(nn.Parameter(X)),
    "tolist": lambda: torch.Tensor.tolist(X),
    "tolist of a list": lambda: X.sum(0).tolist(),
    "numpy": lambda: X.numpy(force=True),
    "np.asarray": lambda: np.asarray(X),
    "cpu": lambda: X.cpu().sum(),
    "to cpu": lambda: (X * 2).to("cpu"),
    "to cpu, another dtype": lambda: (X * 2).to("cpu", torch.float64),
    "to device=cpu": lambda: (X * 2).to(device="cpu", non_blocking=False),
    "nonzero": MASK.nonzero,
    "argwhere": MASK.argwhere,
    "where": lambda: torch.where(MASK),
    "x[mask]": lambda: X[MASK],
    "x[mask] = tensor": lambda: assign(MASK, ONE),
    "masked_fill by a tensor": lambda: X.masked_fill(MASK, ONE),
    "masked_select": lambda: X.masked_select(MASK),
    "unique": INDICES.unique,
    "unique rows": lambda: X.unique(dim=0),
    "unique_consecutive": INDICES.unique_consecutive,
    "bincount": INDICES.bincount,
    "repeat_interleave": lambda: X[:3].repeat_interleave(INDICES, 0),
    "equal": lambda: torch.equal(X, X),
    "allclose": lambda: torch.allclose(X, X),
    "in": lambda: 3 in INDICES,
    "multinomial": lambda: torch.multinomial(X.abs(), 1),
    "one_hot without classes": lambda: F.one_hot(INDICES),
    "an index on the device": lambda: X[INDICES[0]],
    "a slice": lambda: X[INDICES[0] :],
    "arange": lambda: torch.arange(INDICES[1]),
    "inverse": lambda: torch.linalg.inv(X + torch.eye(4)),
    "a solution": lambda: torch.linalg.solve(X + torch.eye(4), X),
    "singular values": lambda: torch.linalg.svd(X),
    "eigenvalues": lambda: torch.linalg.eig(X),
    "to_sparse": lambda: X.to_sparse().shape,
    "a check of a distribution": lambda: torch.normal(X, X.abs()),
    "isnan": lambda: two_ways(X.isnan().any()),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("call", WAIT_ONCE)
def test_a_call_that_waits_is_one_sync_whatever_it_calls(call: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        assert syncs(WAIT_ONCE[call]) == 1


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda: [float(value) for value in INDICES], 3),
        (lambda: [X[i] for i in INDICES], 3),
        (lambda: X[MASK].sum().item(), 2),
        (lambda: assign(MASK, X[MASK]), 2),
        (lambda: print(X[MASK], ONE), 3),
    ],
)
def test_several_syncs_add_up(run: Callable[[], Any], expected: int) -> None:
    assert syncs(run) == expected


DO_NOT_WAIT: dict[str, Callable[[], Any]] = {
    "an iteration": lambda: list(INDICES),
    "a shape": lambda: (X.shape[0], X.numel(), len(X), X.size(0)),
    "a literal": lambda: torch.tensor(3).item(),
    "computed from literals": lambda: torch.tensor([3, 4]).cumsum(0).max().item(),
    "elements of a literal": lambda: [X[i] for i in torch.tensor([0, 1])],
    "an array": lambda: torch.from_numpy(np.ones(3)).tolist(),
    "indices of a list": lambda: X[[0, 1]],
    "a mask of a list": lambda: X[[True, False, True, False]],
    "indices": lambda: X[INDICES],
    "x[indices] = 0": lambda: assign(INDICES, 0),
    "x[mask] = 0, which fills": lambda: assign(MASK, 0.0),
    "masked_fill": lambda: X.masked_fill(MASK, 0.0),
    "where of three": lambda: torch.where(MASK, X, 0),
    "to a tensor's device": lambda: (X * 2).to(X.device),
    "a batch to a device": lambda: X.to("cpu"),
    "a module to a device": lambda: nn.Linear(2, 2).to("cpu"),
    "to another dtype": lambda: (X * 2).to(torch.float64),
    "non_blocking": lambda: (X * 2).to("cpu", non_blocking=True),
    "non_blocking by position": lambda: (X * 2).to("cpu", torch.float64, True),
    "repeat_interleave by a number": lambda: X.repeat_interleave(2, 0),
    "repeat_interleave of a size": lambda: X[:3].repeat_interleave(INDICES, 0, output_size=3),
    "several samples with replacement": lambda: torch.multinomial(X.abs(), 3, replacement=True),
    "one_hot": lambda: F.one_hot(INDICES, 4),
    "count_nonzero": MASK.count_nonzero,
    "clamp": lambda: X.clamp(ONE),
    "in a comparison": lambda: X == ONE,
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("call", DO_NOT_WAIT)
def test_what_does_not_wait_is_no_sync(call: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        assert syncs(DO_NOT_WAIT[call]) == 0


def test_a_literal_that_moves_to_the_model_lives_there() -> None:
    def run(device: torch.device) -> None:
        length = torch.tensor(3).to(device)
        length.item()

    assert syncs(run, X.device) == 1


def test_a_value_of_the_device_in_a_literal_makes_the_literal_one() -> None:
    def run() -> None:
        total = torch.tensor(0.0)
        total += X.sum()
        total.item()

    assert syncs(run) == 1


def test_a_packed_sequence_keeps_its_sizes_on_the_host() -> None:
    lstm = nn.LSTM(4, 4, batch_first=True)

    def run() -> None:
        packed = pack_padded_sequence(torch.ones(2, 3, 4), torch.tensor([3, 2]), batch_first=True)
        pad_packed_sequence(lstm(packed)[0])

    assert syncs(run) == 0


# --- training steps ---


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary: int = 11, width: int = 8, layers: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(16, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        logits: Tensor = self.head(self.norm(F.dropout(x)))
        return logits


TOKENS = torch.arange(12).view(2, 6) % 11


def step(
    model: nn.Module,
    *,
    select: Callable[[Tensor], Tensor] = lambda flat: flat,
    then: Callable[[nn.Module, Tensor], Any] = lambda _model, _loss: None,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
) -> None:
    made = optimizer(model.parameters(), lr=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(TOKENS)
    loss = F.cross_entropy(select(logits.float().flatten(0, 1)), select(TOKENS.flatten()))
    loss.backward()
    then(model, loss)
    made.step()
    made.zero_grad()


def clip_by_floats(model: nn.Module, _loss: Tensor) -> None:
    for parameter in model.parameters():
        assert parameter.grad is not None
        if (norm := float(parameter.grad.norm())) > 1:
            parameter.grad.mul_(1 / norm)


def mask_out_padding(flat: Tensor) -> Tensor:
    return flat[(TOKENS >= 0).flatten()]


def clip(model: nn.Module, _loss: Tensor, **options: bool) -> None:
    clip_grad_norm_(model.parameters(), 1.0, **options)


# The parameters of GPT: 2 embeddings; 2 blocks of 2 norms and 4 linears, each weight and bias; a
# norm and the head.
PARAMETERS = 2 + 2 * 2 * (2 + 4) + 2 * 2

PLANTED = [
    ({}, 0),
    ({"then": lambda _, loss: loss.item()}, 1),
    ({"then": lambda _, loss: print(f"loss {loss:.3f}")}, 1),
    ({"then": lambda _, loss: loss.detach()}, 0),
    ({"then": clip_by_floats}, PARAMETERS),
    ({"then": clip}, 0),
    ({"then": partial(clip, error_if_nonfinite=True)}, 1),
    ({"then": lambda _, loss: two_ways(torch.isnan(loss))}, 1),
    # The logits and the targets, and in the backward the gradient of the logits.
    ({"select": mask_out_padding}, 3),
]


@pytest.mark.parametrize(("planted", "expected"), PLANTED)
def test_a_gpts_step_has_the_syncs_that_are_planted(planted: Any, expected: int) -> None:
    assert syncs(partial(step, GPT(), **planted)) == expected


@pytest.mark.parametrize("how", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_an_optimizers_own_reading_is_no_sync(how: dict[str, bool]) -> None:
    assert syncs(partial(step, GPT(), optimizer=partial(torch.optim.AdamW, **how))) == 0


def test_a_grad_scaler_reads_whether_a_gradient_was_infinite() -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu")

    def run() -> None:
        scaler.scale(model(X).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    assert syncs(run) == 1


class Logging(nn.Module):
    """Reads its input in its forward, and the gradient of its output in a backward hook."""

    def __init__(self, read: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.read = nn.Linear(4, 4), read

    def forward(self, x: Tensor) -> Tensor:
        self.read(x)
        y: Tensor = self.inner(x)
        y.register_hook(self.hook)
        return y

    def hook(self, gradient: Tensor) -> None:
        self.read(gradient)


@pytest.mark.parametrize("read", [lambda x: x.sum().item(), lambda x: x.tolist(), repr])
def test_phases_and_modules(read: Callable[[Tensor], Any]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Logging(read), nn.Linear(4, 4))
    found = measured(lambda: model(X).sum().backward())
    assert found.of("syncs forward") == found.of("syncs forward", "1") == 1
    assert found.of("syncs backward") == 1
    assert found.of("syncs total", "0") == found.of("syncs total", "2") == 0
    assert found.of("syncs forward", "1.inner") == 0


def test_a_repeated_forward_waits_again_in_the_backward() -> None:
    model = Logging(lambda x: x.requires_grad and x.tolist())
    x = X.clone().requires_grad_()
    found = measured(lambda: checkpoint(model, x, use_reentrant=False).sum().backward())
    assert found.of("syncs forward") == 1
    assert found.of("syncs backward") == 1


# --- a device: fake tensors of CUDA, which need none ---


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda there, _here: there.cpu(), 1),
        (lambda there, _here: there.to("cpu"), 1),
        (lambda there, _here: there.to(torch.device("cpu"), torch.float64), 1),
        (lambda there, here: here.copy_(there), 1),
        (lambda there, _here: there.to("cpu", non_blocking=True), 0),
        (lambda there, here: here.copy_(there, non_blocking=True), 0),
        (lambda there, _here: there.to(torch.float64), 0),
        # Beside a device, what is on the CPU is the host's.
        (lambda there, here: (there * 2, here.cpu(), here.clone().to("cpu"), repr(here)), 0),
    ],
)
def test_a_copy_from_a_device_waits(run: Callable[[Tensor, Tensor], Any], expected: int) -> None:
    with FakeTensorMode():
        assert syncs(run, torch.empty(4, device="cuda"), torch.empty(4)) == expected


# --- fakes, threads, and what a meter leaves behind ---


@pytest.mark.parametrize("read", [lambda x: x.sum().item(), lambda x: two_ways(x.sum())])
def test_on_fakes_a_sync_is_counted_before_it_is_refused(read: Callable[[Tensor], Any]) -> None:
    with FLOPsMeter(metrics=["syncs"]) as meter, pytest.raises(DataDependentError):
        count_flops(Logging(read), X)
    assert meter.measurement().of("syncs forward") == 1


def test_a_model_that_reads_nothing_has_no_sync_on_fakes() -> None:
    found = count_flops(GPT(), TOKENS, metrics=["syncs"])
    assert found.counts("syncs total")
    assert found.of("syncs total") == 0


def test_work_that_is_handed_to_a_thread_is_counted() -> None:
    def run() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(X.tolist).result()

    assert syncs(run) == 1


def test_a_thread_that_nobody_counts_has_no_syncs() -> None:
    begin, done = threading.Event(), threading.Event()

    def other() -> None:
        begin.wait(10)
        X.tolist()
        done.set()

    threading.Thread(target=other).start()

    def run() -> None:
        begin.set()
        assert done.wait(10)

    assert syncs(run) == 0


def test_meters_in_each_other_and_one_beside_them_leave_the_tensors_as_they_were() -> None:
    before = {**vars(Tensor)}
    outer, inner = FLOPsMeter(metrics=["syncs"]), FLOPsMeter(metrics=["syncs"])
    with outer, FLOPsMeter() as beside:
        X.tolist()
        with inner:
            X.tolist()
    assert outer.measurement().of("syncs total") == 2
    assert inner.measurement().of("syncs total") == 1
    assert not beside.measurement().metrics
    assert {**vars(Tensor)} == before


def test_meters_of_two_threads_that_overlap_leave_the_tensors_as_they_were() -> None:
    before = {**vars(Tensor)}
    entered, left = threading.Event(), threading.Event()
    found: list[int] = []

    def other() -> None:
        with FLOPsMeter(metrics=["syncs"]) as meter:
            entered.set()
            assert left.wait(10)
            X.tolist()
        found.append(meter.measurement().of("syncs total"))

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(10)
    assert syncs(lambda: float(ONE)) == 1
    left.set()
    thread.join()
    assert found == [1]
    assert {**vars(Tensor)} == before


def test_what_torch_func_transforms_is_read_too() -> None:
    def loss(x: Tensor) -> Tensor:
        x.detach().tolist()
        return x.to(torch.float64).sum()

    assert syncs(torch.func.grad(loss), X) == 1
    assert syncs(torch.func.vmap(lambda x: x.to(X.device) * 2), X) == 0


@pytest.mark.parametrize(
    "tensor", [X.to_sparse(), torch.nested.nested_tensor([X, X[:2]], layout=torch.jagged)]
)
@pytest.mark.parametrize("read", [lambda x: x.cpu().shape, repr])
def test_other_kinds_of_tensors_are_read_too(tensor: Tensor, read: Callable[..., Any]) -> None:
    assert syncs(read, tensor) == 1


def test_asking_for_syncs_changes_no_other_count() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()  # has a fast path
    with torch.no_grad(), FLOPsMeter() as plain:
        layer(torch.ones(2, 4, 8))
    with torch.no_grad(), FLOPsMeter(metrics=["syncs"]) as asking:
        layer(torch.ones(2, 4, 8))
    assert plain.operations == asking.operations
