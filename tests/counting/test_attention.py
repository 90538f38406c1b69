"""Attention costs what its mathematical form costs, whichever kernel computes it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pytest_flops.counting.costs import rule_of
from pytest_flops.counting.meter.meter import FLOPsMeter

# 2 batches, 3 heads, 5 queries, 5 keys, width 8
SHAPE = (2, 3, 5, 8)
SCORES = 2 * 3 * 5 * 5
PRODUCTS = 2 * (2 * SCORES * 8)  # query times key, scores times value
SCALING = 2 * (2 * 3 * 5 * 8)  # of query and key


def sdpa(device: str, key_heads: int = 3, **kwargs) -> FLOPsMeter:
    query = torch.ones(SHAPE, device=device, requires_grad=True)
    key, value = (
        torch.ones(2, key_heads, 5, 8, device=device, requires_grad=True) for _ in range(2)
    )
    with FLOPsMeter() as meter:
        out = F.scaled_dot_product_attention(query, key, value, **kwargs)
        out.backward(torch.ones_like(out))
    assert not meter.uncounted
    return meter


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"dropout_p": 0.5}, {"enable_gqa": True, "key_heads": 1}],
    ids=["plain", "causal", "dropout", "shared keys"],
)
def test_attention_costs_the_same_on_the_cpu_and_on_meta(options):
    assert sdpa("cpu", **options).count == sdpa("meta", **options).count


def test_fused_attention_costs_the_two_products_of_its_mathematical_form():
    lines = sdpa("cpu").operations
    name = "aten._scaled_dot_product_flash_attention_for_cpu"
    assert lines[name].forward == PRODUCTS
    assert lines[f"{name}_backward"].backward == 2 * PRODUCTS
    assert sdpa("meta").operations["aten.bmm"].forward == PRODUCTS
    # 5 per score for the softmax; the scale is multiplied into query and key
    assert lines[f"{name}:softmax"].forward == 5 * SCORES + SCALING


def test_gradients_of_a_shared_key_and_value_are_added_up():
    shared = sdpa("cpu", enable_gqa=True, key_heads=1)
    plain = sdpa("cpu")
    assert shared.count.forward == plain.count.forward
    # three heads' gradients of one key and of one value
    assert shared.count.backward - plain.count.backward == 2 * (2 * 3 * 5 * 8)


# What is asked for, and the cost by hand: of the 2 * 3 * 5 * 5 scores of width 8 or of others.
PRODUCT = PRODUCTS // 2
HEADS = 2 * 3 * 5 * 8  # elements of the query, and of a key and a value for every head
WIDER = 2 * 3 * 5 * 7  # scores, of 7 keys and values, of 2 * 3 * 7 * 8 elements
LAYER = (5 * SCORES + 2 * HEADS, 4 * SCORES + 2 * HEADS)
ASKED = {
    "plain": ({}, PRODUCTS + LAYER[0], 2 * PRODUCTS + LAYER[1]),
    "causal": ({"is_causal": True}, PRODUCTS + LAYER[0] + SCORES, 2 * PRODUCTS + LAYER[1]),
    "mask": (
        {"attn_mask": torch.ones(5, 5, dtype=torch.bool)},
        PRODUCTS + LAYER[0] + SCORES,
        2 * PRODUCTS + LAYER[1],
    ),
    "bias": (
        {"attn_mask": torch.zeros(5, 5)},
        PRODUCTS + LAYER[0] + SCORES,
        2 * PRODUCTS + LAYER[1],
    ),
    # 3 heads' gradients of one key and of one value are added up
    "shared keys": (
        {"key_heads": 1, "enable_gqa": True},
        PRODUCTS + LAYER[0],
        2 * PRODUCTS + LAYER[1] + 2 * HEADS,
    ),
    "longer keys": (
        {"keys": 7},
        2 * (2 * WIDER * 8) + 5 * WIDER + HEADS + 2 * 3 * 7 * 8,
        4 * (2 * WIDER * 8) + 4 * WIDER + HEADS + 2 * 3 * 7 * 8,
    ),
    # both gradients of the softmax's factor and of the query's, and the scale of the query
    "gradient of the query": (
        {"wanted": "q"},
        PRODUCTS + LAYER[0],
        2 * PRODUCT + 4 * SCORES + HEADS,
    ),
    "gradient of the key": ({"wanted": "k"}, PRODUCTS + LAYER[0], 2 * PRODUCT + 4 * SCORES + HEADS),
    "gradient of the value": ({"wanted": "v"}, PRODUCTS + LAYER[0], PRODUCT),
    "gradients of key and value": (
        {"wanted": "kv"},
        PRODUCTS + LAYER[0],
        3 * PRODUCT + 4 * SCORES + HEADS,
    ),
    "no gradient": ({"wanted": ""}, PRODUCTS + LAYER[0], 0),
    # one tensor thrice: its three gradients are added
    "self-attention": ({"one": True}, PRODUCTS + LAYER[0], 2 * PRODUCTS + LAYER[1] + 2 * HEADS),
}


@pytest.mark.parametrize("kernel", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], ids=str)
@pytest.mark.parametrize(("asked", "forward", "backward"), ASKED.values(), ids=ASKED)
def test_a_kernel_costs_what_is_asked_for(kernel, asked, forward, backward):
    asked = dict(asked)
    wanted, keys, heads = (
        asked.pop(*default) for default in (("wanted", "qkv"), ("keys", 5), ("key_heads", 3))
    )
    query = torch.ones(SHAPE, requires_grad="q" in wanted)
    key, value = (torch.ones(2, heads, keys, 8, requires_grad=name in wanted) for name in "kv")
    if asked.pop("one", False):
        key = value = query
    with sdpa_kernel(kernel), FLOPsMeter() as meter:
        out = F.scaled_dot_product_attention(query, key, value, **asked)
        if out.requires_grad:
            out.backward(torch.ones_like(out))
    assert not meter.uncounted
    assert (meter.count.forward, meter.count.backward) == (forward, backward)


def half(*shape: int) -> torch.Tensor:
    return torch.ones(shape, device="meta", dtype=torch.float16)


def lines_of(run) -> list[int]:
    """The cost of the products, then of the softmax."""
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    return [cost.total for cost in meter.operations.values()]


Q = half(*SHAPE)
BIAS = half(2, 3, 5, 5)
STATISTICS = torch.ones(2, 3, 5, device="meta")
SEED = torch.ones((), device="meta", dtype=torch.int64)
aten = torch.ops.aten

# Every device's kernel: (name, arguments, FLOPs per score for the mask, and for dropout)
FORWARD = [
    ("_scaled_dot_product_flash_attention", (Q, Q, Q), 0, 0),
    ("_scaled_dot_product_flash_attention", (Q, Q, Q, 0.0, True), 1, 0),
    ("_scaled_dot_product_flash_attention", (Q, Q, Q, 0.5), 0, 2),
    # compute_log_sumexp, which training asks for, is no mask
    ("_scaled_dot_product_efficient_attention", (Q, Q, Q, None, True), 0, 0),
    ("_scaled_dot_product_efficient_attention", (Q, Q, Q, BIAS, False), 1, 0),
    ("_scaled_dot_product_efficient_attention", (Q, Q, Q, None, False, 0.0, True), 1, 0),
    ("_scaled_dot_product_cudnn_attention", (Q, Q, Q, None, True), 0, 0),
    ("_scaled_dot_product_cudnn_attention", (Q, Q, Q, BIAS, False), 1, 0),
    ("_scaled_dot_product_cudnn_attention", (Q, Q, Q, None, False, 0.5, True), 1, 2),
    ("_scaled_dot_product_fused_attention_overrideable", (Q, Q, Q), 0, 0),
    ("_scaled_dot_product_fused_attention_overrideable", (Q, Q, Q, BIAS), 1, 0),
]


@pytest.mark.parametrize(("kernel", "args", "mask", "dropout"), FORWARD)
def test_every_kernel_costs_the_mathematical_form(kernel, args, mask, dropout):
    lines = lines_of(lambda: getattr(aten, kernel)(*args))
    assert lines == [PRODUCTS, (5 + mask + dropout) * SCORES + SCALING]


BACKWARD = {
    "_scaled_dot_product_flash_attention": (
        (Q, Q, Q, Q, Q, STATISTICS, None, None, 5, 5, 0.0, False, SEED, SEED)
    ),
    "_scaled_dot_product_efficient_attention": (
        (Q, Q, Q, Q, None, Q, STATISTICS, SEED, SEED, 0.0, [True] * 4)
    ),
    "_scaled_dot_product_cudnn_attention": (
        (Q, Q, Q, Q, Q, STATISTICS, SEED, SEED, None, None, None, 5, 5, 0.0, False)
    ),
    "_scaled_dot_product_fused_attention_overrideable": (
        (Q, Q, Q, Q, None, [True] * 4, Q, STATISTICS, None, None, 5, 5, 0.0, False, SEED, SEED)
    ),
}


@pytest.mark.parametrize("kernel", BACKWARD)
def test_a_kernels_recomputation_of_the_scores_is_not_counted(kernel):
    rule = rule_of(getattr(aten, f"{kernel}_backward").default)
    # both gradients of both products; 4 per score for the gradient of the softmax
    assert rule.cost(BACKWARD[kernel], {}, None) == 2 * PRODUCTS
    assert rule.side_cost(BACKWARD[kernel], {}, None) == 4 * SCORES + SCALING


@pytest.mark.parametrize("kernel", BACKWARD)
def test_a_gradient_that_was_not_asked_for_costs_nothing(kernel):
    query = half(*SHAPE).requires_grad_()
    args = BACKWARD[kernel]
    args = (args[0], query, *args[2:])  # the gradient, then query, key and value
    rule = rule_of(getattr(aten, f"{kernel}_backward").default)
    # the gradients of the scores and of the query; half of the scaling
    assert rule.cost(args, {}, None) == PRODUCTS
    assert rule.side_cost(args, {}, None) == 4 * SCORES + SCALING // 2


def test_pytorchs_own_counter_adds_a_product_that_depends_on_the_kernel():
    run = BACKWARD["_scaled_dot_product_flash_attention"]
    with FlopCounterMode(display=False) as theirs:
        aten._scaled_dot_product_flash_attention_backward(*run)
    assert theirs.get_total_flops() == 2 * PRODUCTS + PRODUCTS // 2


@pytest.mark.parametrize(
    ("device", "lengths"), [("meta", [5, 5]), ("cpu", [3, 5])], ids=["shapes alone", "values"]
)
def test_sequences_of_any_length_cost_their_own_scores(device, lengths):
    """Lengths are read from where sequences start; on meta each is the longest."""
    starts = torch.tensor([0, lengths[0], sum(lengths)], dtype=torch.int32).to(device)
    packed = half(sum(lengths), 3, 8)
    rule = rule_of(aten._flash_attention_forward.default)
    args = (packed, packed, packed, starts, starts, 5, 5, 0.0, True, False)
    scores = 3 * sum(length**2 for length in lengths)
    assert rule.cost(args, {}, None) == 2 * (2 * scores * 8)
    # softmax 5 and a mask 1 per score; query and key scaled
    assert rule.side_cost(args, {}, None) == 6 * scores + 2 * sum(lengths) * 3 * 8
