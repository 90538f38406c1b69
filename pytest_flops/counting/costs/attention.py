"""Attention: a fused kernel costs what its mathematical form executes, on every device.

Every device has kernels of its own, and some recompute the scores in backward. They all cost the
same here, so that a count does not depend on the device: two products forward, those gradients of
each that were asked for backward, and between them, on the line `:softmax`, scaling, mask, softmax
and dropout.
"""

from __future__ import annotations

from functools import wraps

from torch import Tensor

from pytest_flops.counting.costs.elements import has_no_values, wanted
from pytest_flops.counting.costs.nested import sizes_of_nested
from pytest_flops.counting.costs.normalization import NORMALISE, SOFTMAX, SOFTMAX_BACKWARD
from pytest_flops.counting.costs.table import Formulas, Rules

# Query, key and value are (batch, heads, length, width).
_HEADS_FIRST = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
# They are (batch, length, heads, width); or sequences of any length lie end to end.
_LENGTH_FIRST = ("_flash_attention", "_efficient_attention", "_cudnn_attention")

_DROPOUT = 2  # scale the mask, multiply by it
_DROPOUT_BACKWARD = 1  # multiply by the scaled mask


def _kernel(*, heads_first: bool, backward: bool = False) -> Formulas:
    """The products, backward their gradients; aside what lies between the products."""
    head, length = (1, 2) if heads_first else (-2, 1)

    def flops(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cum_seq_q: Tensor | None = None,
        cum_seq_k: Tensor | None = None,
        max_q: int = 0,
        max_k: int = 0,
        dropout_p: float = 0,
        is_causal: int = False,
        attn_bias: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[int, int]:
        heads, key_heads = query.shape[head], key.shape[head]
        if heads_first or cum_seq_q is None or cum_seq_k is None:
            scores = heads * query.shape[0] * query.shape[length] * key.shape[length]
        else:
            lengths = zip(_lengths(cum_seq_q, max_q), _lengths(cum_seq_k, max_k), strict=True)
            scores = heads * sum(q * k for q, k in lengths)
        # The root of the scale is multiplied into the query and into the key of every head.
        queries, repeat = query.numel(), heads // key_heads
        keys, values = key.numel() * repeat, value.numel() * repeat
        drops = dropout_p != 0
        if not backward:
            masked = bool(is_causal) or attn_bias is not None or bias is not None
            products = 2 * scores * (query.shape[-1] + value.shape[-1])
            softmax = scores * (SOFTMAX + masked + _DROPOUT * drops)
            return products, softmax + queries + keys
        of_query, of_key, of_value = wanted(query, key, value)
        of_scores = of_query or of_key
        products = 2 * scores * (of_query + of_key) * query.shape[-1]
        products += 2 * scores * (of_scores + of_value) * value.shape[-1]
        softmax = scores * of_scores * (SOFTMAX_BACKWARD + _DROPOUT_BACKWARD * drops)
        # Query heads add up their gradients for the key and the value that they share.
        shared = (of_key * keys + of_value * values) * (repeat > 1)
        # A mask has no gradient of its own.
        return products, softmax + of_query * queries + of_key * keys + shared

    # `wraps` tells the signature of `flops`, by which the arguments are read.
    products = wraps(flops)(lambda **given: flops(**given)[0])
    softmax = wraps(flops)(lambda **given: flops(**given)[1])
    return Formulas(products, softmax, "softmax")


def _lengths(starts: Tensor, longest: int) -> list[int]:
    """The lengths of sequences from where they start; the longest where tensors hold no values."""
    if has_no_values(starts):
        return [longest] * (len(starts) - 1)
    lengths: list[int] = starts.diff().tolist()
    return lengths


def _lengths_of(x: Tensor) -> list[int]:
    """Tokens of every sequence of a `(batch, length, width)` or of a nested tensor."""
    if x.is_nested:
        return [length for length, _ in sizes_of_nested(x)]
    return [x.shape[1]] * x.shape[0]


def _self_attention(x: Tensor, width: int, heads: int, mask: Tensor | None) -> int:
    """Query, key and value; scaled scores; softmax; the weighted sum; the output projection."""
    tokens = sum(_lengths_of(x))
    scores = heads * sum(length**2 for length in _lengths_of(x))
    projections = tokens * (2 * width * 4 * width + 4 * width)
    products = 2 * 2 * scores * (width // heads)
    return projections + 2 * tokens * width + products + scores * (SOFTMAX + (mask is not None))


def _native_attention(
    query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_head: int, mask: Tensor | None
) -> int | None:
    """Of one input; query, key and value of different ones have no rule."""
    if query is not key or query is not value:
        return None
    return _self_attention(query, embed_dim, num_head, mask)


def _transformer_layer(
    src: Tensor, embed_dim: int, num_heads: int, ffn_bias_1: Tensor, mask: Tensor | None
) -> int:
    """Attention, two sums, two layer norms, the feed-forward."""
    tokens, inner = sum(_lengths_of(src)), ffn_bias_1.shape[0]
    residuals_and_norms = 2 * tokens * embed_dim * (1 + NORMALISE + 2)
    feed_forward = tokens * (2 * 2 * embed_dim * inner + inner + embed_dim + inner)
    attention = _self_attention(src, embed_dim, num_heads, mask)
    return attention + residuals_and_norms + feed_forward


RULES: Rules = {
    **dict.fromkeys(_HEADS_FIRST, _kernel(heads_first=True)),
    **{f"{name}_backward": _kernel(heads_first=True, backward=True) for name in _HEADS_FIRST},
    **{f"{name}_forward": _kernel(heads_first=False) for name in _LENGTH_FIRST},
    **{f"{name}_backward": _kernel(heads_first=False, backward=True) for name in _LENGTH_FIRST},
    "_flash_attention_forward_no_dropout_inplace": _kernel(heads_first=False),
    "_native_multi_head_attention": _native_attention,
    "_transformer_encoder_layer_fwd": _transformer_layer,
}
