"""`launches` by hand, and regressions that FLOPs do not see and that launches and bytes do.

Each regression is planted in a step of a few operators, where all that it adds can be added up. An
`N x D` matrix of float32 is the unit of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from pytest_flops import FLOPsMeter, count_flops

N, D, V = 8, 16, 32
F32, I64 = 4, 8
MATRIX = F32 * N * D


class Cost(NamedTuple):
    flops: int
    bytes: int
    launches: int

    def above(self, other: Cost) -> Cost:
        return Cost(*(mine - its for mine, its in zip(self, other, strict=True)))


def cost(run: Callable[[], object]) -> Cost:
    with FLOPsMeter(metrics=["bytes", "launches"]) as meter:
        run()
    found = meter.measurement()
    return Cost(found.of("total"), found.of("bytes total"), found.of("launches total"))


def matrix() -> Tensor:
    return torch.ones(N, D)


def test_a_layer_launches_what_computes_and_moves() -> None:
    model = nn.Sequential(nn.Linear(D, V), nn.ReLU())
    found = count_flops(model, matrix(), training=False, metrics=["launches"])
    assert found.of("launches forward") == 2  # addmm, relu; not the view of the weight
    assert found.of("launches forward", "0") == found.of("launches forward", "1") == 1
    assert found.of("launches backward") == found.of("launches optimizer") == 0


@pytest.mark.parametrize(
    ("run", "launches"),
    [
        (lambda a: a.t(), 0),
        (torch.empty_like, 0),
        (lambda a: a[0:0] + 1, 0),  # of no elements
        (lambda a: a.clone(), 1),
        (lambda a: a.zero_(), 1),
        (lambda a: a[0, 0].item(), 1),
        (lambda a: torch._foreach_add_([a, a.clone()], 1.0), 2),
    ],
)
def test_what_is_one(run: Callable[[Tensor], object], launches: int) -> None:
    assert cost(lambda: run(matrix())).launches - cost(matrix).launches == launches


LAYERS = 3  # of one matrix
# The units that AdamW moves of a parameter, operator by operator: decay (2), first moment (3),
# second moment (2 and 3), root (2), its correction (2), epsilon (2), update (4).
IN_PARTS, FUSED = 2 + 3 + 2 + 3 + 2 + 2 + 2 + 4, 7


SCALARS = (
    4 * F32
)  # at most so much of a parameter's own step counter, which each form treats its way


def optimizer_step(**kind: bool) -> Cost:
    """The second step, whose moments exist."""
    parameters = [nn.Parameter(matrix()) for _ in range(LAYERS)]
    optimizer = torch.optim.AdamW(parameters, **kind)
    for parameter in parameters:
        parameter.grad = matrix()
    optimizer.step()
    return cost(optimizer.step)


@pytest.mark.parametrize("foreach", [False, True])
def test_an_optimizer_that_is_no_longer_fused(foreach: bool) -> None:
    fused = optimizer_step(fused=True)
    assert fused.launches == 2  # the step counters, and all the rest
    more = optimizer_step(foreach=foreach).above(fused)
    assert more.flops == 0
    expected = LAYERS * (IN_PARTS - FUSED) * MATRIX
    assert more.bytes == pytest.approx(expected, abs=LAYERS * SCALARS)
    # Eight operators on matrices (one of them is the fused one's), for each or for all; the rest
    # are the step counters.
    operators = 8 * (1 if foreach else LAYERS)
    assert operators - 1 <= more.launches <= operators + 3 * LAYERS


def test_gradients_that_are_zeroed_and_not_dropped() -> None:
    def step(set_to_none: bool) -> Cost:
        weight, x = nn.Parameter(torch.ones(D, D)), matrix()
        optimizer = torch.optim.SGD([weight], lr=0.1, fused=True)
        (x @ weight).sum().backward()

        def run() -> None:
            optimizer.zero_grad(set_to_none=set_to_none)
            (x @ weight).sum().backward()
            optimizer.step()

        return cost(run)

    more = step(set_to_none=False).above(step(set_to_none=True))
    # The zeros are written, then the gradient is added to them: one FLOP an element.
    assert more == Cost(flops=D * D, bytes=(1 + 3) * F32 * D * D, launches=2)


def test_logits_that_are_copied_to_float32() -> None:
    def loss(copied: bool) -> Cost:
        logits = torch.ones(N, V, requires_grad=True)
        targets = torch.zeros(N, dtype=torch.int64)

        def run() -> None:
            scores = logits.float().clone() if copied else logits.float()
            F.cross_entropy(scores, targets).backward()

        return cost(run)

    # Read and written; its backward hands the gradient on as it is.
    assert loss(copied=True).above(loss(copied=False)) == Cost(0, 2 * F32 * N * V, 1)


def test_copies_for_a_layout() -> None:
    def there_and_back(x: Tensor) -> Tensor:
        return x.t().contiguous().t().contiguous()

    def block(copied: bool) -> Cost:
        x, weight = matrix(), torch.ones(D, D)
        return cost(lambda: (there_and_back(x) if copied else x) @ weight)

    assert block(copied=True).above(block(copied=False)) == Cost(0, 2 * 2 * MATRIX, 2)


def test_queries_keys_and_values_by_three_layers() -> None:
    x = matrix()

    def forward_and_backward(*layers: nn.Linear) -> Cost:
        def run() -> None:
            for layer in layers:
                y = layer(x)
                y.backward(torch.empty_like(y))

        return cost(run)

    one = forward_and_backward(nn.Linear(D, 3 * D, bias=False))
    three = forward_and_backward(*(nn.Linear(D, D, bias=False) for _ in range(3)))
    # Two times more the input is read, by the layers and by the gradients of their weights.
    assert three.above(one) == Cost(0, 2 * 2 * MATRIX, 2 * 2)


def test_a_mask_on_the_loss() -> None:
    logits, targets = torch.ones(N, V), torch.zeros(N, dtype=torch.int64)
    mask = torch.ones(N, dtype=torch.bool)
    whole = cost(lambda: F.cross_entropy(logits, targets))
    masked = cost(lambda: F.cross_entropy(logits[mask], targets[mask]))
    # What the mask takes is read and written, both times with the mask.
    moved = 2 * N + 2 * F32 * N * V + 2 * I64 * N
    assert masked.above(whole) == Cost(0, moved, 2)
