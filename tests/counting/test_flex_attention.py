"""`flex_attention`: its blocks, the user's functions, and training without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.registration import names_in

# The meter runs eagerly what people compile.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")

HEADS, LENGTH, WIDTH, BLOCK = 4, 256, 16, 64
FORWARD, BACKWARD = "higher_order.flex_attention", "higher_order.flex_attention_backward"
# The softmax of a score forward: maximum, difference, exponential, sum, quotient; backward 4
# (counting.md). Every number of the query is scaled.
SOFTMAX, SOFTMAX_BACKWARD = 5, 4


def products(scores: int) -> int:
    """Of queries and keys, and of weights and values: 2 for each number of a width."""
    return 2 * 2 * scores * WIDTH


def causal(batch: Any, head: Any, query: Any, key: Any) -> Any:
    return query >= key


def sliding(batch: Any, head: Any, query: Any, key: Any) -> Any:
    return (query >= key) & (query - key < BLOCK)


def mask(function: Callable[..., Any] | None, length: int = LENGTH) -> Any:
    if function is None:
        return None
    return create_block_mask(function, 1, 1, length, length, device="cpu", BLOCK_SIZE=BLOCK)


# In blocks of 64: the n-th row of blocks attends to n of them if causal; to itself and the one
# before in a window of 64.
BLOCKS = {None: 4 + 4 + 4 + 4, causal: 1 + 2 + 3 + 4, sliding: 1 + 2 + 2 + 2}


@pytest.mark.parametrize("function", BLOCKS)
def test_only_blocks_that_run_are_counted(function: Any) -> None:
    x, scores = torch.randn(1, HEADS, LENGTH, WIDTH), HEADS * BLOCKS[function] * BLOCK**2
    with torch.no_grad(), FLOPsMeter() as meter:
        flex_attention(x, x, x, block_mask=mask(function))
    assert meter.operations[FORWARD].forward == products(scores)
    assert meter.operations[f"{FORWARD}:softmax"].forward == SOFTMAX * scores + x.numel()
    assert not meter.uncounted


def test_every_metric_can_be_counted_of_an_operator_of_higher_order() -> None:
    x = torch.randn(1, HEADS, LENGTH, WIDTH)
    with torch.no_grad(), FLOPsMeter(metrics=names_in("all")) as meter:
        flex_attention(x, x, x)
    found = meter.measurement()
    assert found.of("launches total") > 0
    assert found.of("collectives total") == 0


def test_a_window_costs_twice_as_much_over_twice_the_length() -> None:
    counts = []
    for length in (512, 1024, 2048):
        x = torch.randn(1, HEADS, length, WIDTH)
        with torch.no_grad(), FLOPsMeter() as meter:
            flex_attention(x, x, x, block_mask=mask(sliding, length))
        counts.append(meter.count.forward)
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


def test_the_last_blocks_end_with_the_tokens() -> None:
    x = torch.randn(1, HEADS, 100, WIDTH)
    with torch.no_grad(), FLOPsMeter() as meter:
        flex_attention(x, x, x, block_mask=mask(causal, 100))
    # 64 rows of 64 scores, and 36 of 100.
    assert meter.operations[FORWARD].forward == products(HEADS * (64 * 64 + 36 * 100))


def alibi(score: Tensor, batch: Any, head: Any, query: Any, key: Any) -> Tensor:
    return score + SLOPES[head] * (key - query)  # a product and a sum; a difference of integers


SLOPES = torch.ones(HEADS)


def test_what_the_users_function_computes_is_counted_for_every_score() -> None:
    x, scores = torch.randn(1, HEADS, LENGTH, WIDTH), HEADS * LENGTH**2
    with torch.no_grad(), FLOPsMeter() as meter:
        flex_attention(x, x, x, score_mod=alibi)
    assert meter.operations[f"{FORWARD}:softmax"].forward == (SOFTMAX + 2) * scores + x.numel()


class Attending(nn.Module):
    def __init__(self, score_mod: Any = None) -> None:
        super().__init__()
        self.project, self.score_mod = nn.Linear(WIDTH, WIDTH), score_mod

    def forward(self, x: Tensor) -> Any:
        return flex_attention(self.project(x), x, x, score_mod=self.score_mod)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_training_step_of_flex_attention_is_counted_without_a_gpu(device: str) -> None:
    with torch.device(device):
        model, x = Attending(), torch.empty(1, HEADS, LENGTH, WIDTH)
    found = count_flops(model, x)
    scores = HEADS * LENGTH**2
    assert found.operations[FORWARD].forward == products(scores)
    assert found.operations[BACKWARD].backward == 2 * products(scores)
    softmax = found.operations[f"{BACKWARD}:softmax"].backward
    assert softmax == SOFTMAX_BACKWARD * scores + HEADS * LENGTH * WIDTH


def test_the_gradient_of_the_users_function_is_counted_too() -> None:
    doubled = Attending(lambda score, *_: score * 2)
    x = torch.empty(1, HEADS, LENGTH, WIDTH)
    plain, more = (count_flops(model, x).operations for model in (Attending(), doubled))
    scores = HEADS * LENGTH**2
    for name in (f"{FORWARD}:softmax", f"{BACKWARD}:softmax"):
        assert more[name].total - plain[name].total == scores


def test_real_tensors_on_the_cpu_are_refused_as_without_a_meter() -> None:
    with FLOPsMeter(), pytest.raises(NotImplementedError, match="does not support backward"):
        Attending()(torch.ones(1, HEADS, LENGTH, WIDTH))
