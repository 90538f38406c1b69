"""`flex_attention`: what lies in the blocks that its mask lets run, and the user's own functions.

Like any attention it costs what its mathematical form executes (`attention`), but for scores in
blocks that no query attends to, which no kernel computes. A mask only compares, which is free. What
`score_mod` computes is counted on a single score, and multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.flex_attention import flex_attention, flex_attention_backward
from torch._ops import HigherOrderOperator
from torch.fx import GraphModule
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flops.counting.costs.elements import has_no_values
from pytest_flops.counting.costs.lookup import rule_of
from pytest_flops.counting.costs.normalization import SOFTMAX, SOFTMAX_BACKWARD
from pytest_flops.counting.costs.table import Cost, Rule


def _products(query: Tensor, value: Tensor, scores: int, **_: Any) -> int:
    return 2 * scores * (query.shape[-1] + value.shape[-1])


def _softmax(query: Tensor, scores: int, score_mod: Any, buffers: Any, **_: Any) -> int | None:
    modified = _flops_of(score_mod, query, 0, buffers)
    scaled = query.numel()
    return None if modified is None else scores * (SOFTMAX + modified) + scaled


def _products_backward(**given: Any) -> int:
    return 2 * _products(**given)


def _softmax_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: int,
    joint_graph: Any,
    buffers: Any,
    **_: Any,
) -> int | None:
    modified = _flops_of(_without_forward(joint_graph), query, 1, buffers)
    # Query heads add up their gradients for the key and the value that they share.
    heads, key_heads = query.shape[1], key.shape[1]
    shared = (key.numel() + value.numel()) // key_heads * heads if heads != key_heads else 0
    scaled = query.numel()
    return None if modified is None else scores * (SOFTMAX_BACKWARD + modified) + scaled + shared


def _scores(query: Tensor, key: Tensor, block_mask: Sequence[Any]) -> int:
    """How many scores are computed; all of them where the mask holds no values to tell."""
    batch, heads, queries, _ = query.shape
    keys = int(key.shape[-2])
    # `BlockMask.as_tuple()`: how many blocks of keys each block of queries attends to in part, and
    # in full; among the whole numbers, the lengths and then the sizes of a block.
    in_part, in_full = block_mask[2], block_mask[4]
    if has_no_values(in_part):
        return int(batch * heads * queries * keys)
    *_lengths, rows, columns = (size for size in block_mask if type(size) is int)
    blocks = in_part if in_full is None else in_part + in_full
    starts = rows * torch.arange(blocks.shape[-1], device=blocks.device)
    computed = (blocks * columns).clamp(max=keys) * (queries - starts).clamp(0, rows)
    alike = (batch * heads) // (blocks.shape[0] * blocks.shape[1])
    return int(computed.sum()) * int(alike)  # exact: a float would round


def _flops_of(
    function: Callable[..., Any], query: Tensor, gradients: int, buffers: Sequence[Any]
) -> int | None:
    """What a function of the user computes on one score; None if an operator has no cost."""
    score, index = query.new_zeros(1), query.new_zeros(1, dtype=torch.int32)
    batch_head_query_key = [index] * 4
    with torch.no_grad(), _Arithmetic() as found:  # type: ignore[no-untyped-call]
        function(score, *batch_head_query_key, *[score] * gradients, *buffers)
    flops: int | None = found.flops
    return flops


def _without_forward(joint_graph: Any) -> Any:
    """The gradient alone, of a graph that computes it and what the forward computes."""
    if not isinstance(joint_graph, GraphModule):
        return joint_graph
    gradient = deepcopy(joint_graph)
    gradient.graph.eliminate_dead_code()
    gradient.recompile()
    return gradient


class _Arithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what the operators inside cost."""

    flops: int | None = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        rule = rule_of(func)
        if rule is None or self.flops is None:
            self.flops = None
        elif rule.cost is not None:
            self.flops += rule.cost(args, kwargs or {}, out) or 0
        return out


def _cost(operator: HigherOrderOperator, formula: Callable[..., int | None]) -> Cost:
    names = [*signature(type(operator).__call__).parameters][1:]

    def cost(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int | None:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        scores = _scores(given["query"], given["key"], given["block_mask"])
        return formula(**given, scores=scores, buffers=given.get("score_mod_other_buffers", ()))

    return cost


FLEX_ATTENTION = {
    operator: Rule(_cost(operator, products), _cost(operator, softmax), "softmax")
    for operator, products, softmax in (
        (flex_attention, _products, _softmax),
        (flex_attention_backward, _products_backward, _softmax_backward),
    )
}
"""By operator; they have no schema, as those of the table have."""
