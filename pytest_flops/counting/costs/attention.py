"""Attention: a fused kernel costs what its mathematical form executes, on every device.

Every device has kernels of its own, and some recompute the scores in backward. They all cost the
same here, so that a count does not depend on the device: two products forward, the two gradients of
each backward, and between them, on the line `:softmax`, scaling, mask, softmax and dropout.
"""

from __future__ import annotations

from torch import Tensor

from pytest_flops.counting.costs.elements import has_no_values
from pytest_flops.counting.costs.nested import sizes_of_nested
from pytest_flops.counting.costs.normalization import NORMALISE, SOFTMAX, SOFTMAX_BACKWARD
from pytest_flops.counting.costs.table import Formulas, enter, rule

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

DROPOUT = 2  # scale the mask, multiply by it
DROPOUT_BACKWARD = 1  # multiply by the scaled mask


def _kernel(*, heads_first: bool, backward: bool = False) -> Formulas:
    """The products, backward both gradients of each; aside what lies between the products."""
    head, length = (1, 2) if heads_first else (-2, 1)

    def scores(
        query: Tensor,
        key: Tensor,
        cum_seq_q: Tensor | None,
        cum_seq_k: Tensor | None,
        max_q: int,
        max_k: int,
    ) -> int:
        """Of all heads: the length of the query times that of the key, for every sequence."""
        heads = query.shape[head]
        if heads_first or cum_seq_q is None or cum_seq_k is None:
            return heads * query.shape[0] * query.shape[length] * key.shape[length]
        queries, keys = _lengths(cum_seq_q, max_q), _lengths(cum_seq_k, max_k)
        return heads * sum(q * k for q, k in zip(queries, keys, strict=True))

    def products(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cum_seq_q: Tensor | None = None,
        cum_seq_k: Tensor | None = None,
        max_q: int = 0,
        max_k: int = 0,
    ) -> int:
        """Query times key, and scores times value."""
        all_scores = scores(query, key, cum_seq_q, cum_seq_k, max_q, max_k)
        return 2 * all_scores * (query.shape[-1] + value.shape[-1]) * (2 if backward else 1)

    def softmax(
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
    ) -> int:
        def of_every_head(tensor: Tensor) -> int:
            return tensor.numel() // key.shape[head] * query.shape[head]

        all_scores = scores(query, key, cum_seq_q, cum_seq_k, max_q, max_k)
        # The root of the scale is multiplied into the query and into the key of every head.
        scaling = query.numel() + of_every_head(key)
        if not backward:
            masked = bool(is_causal) or attn_bias is not None or bias is not None
            return all_scores * (SOFTMAX + masked + DROPOUT * (dropout_p != 0)) + scaling
        per_score = SOFTMAX_BACKWARD + DROPOUT_BACKWARD * (dropout_p != 0)  # a mask has no gradient
        if query.shape[head] == key.shape[head]:
            return all_scores * per_score + scaling
        # Query heads add up their gradients for the key and the value that they share.
        return all_scores * per_score + scaling + of_every_head(key) + of_every_head(value)

    return Formulas(products, softmax, "softmax")


def _lengths(starts: Tensor, longest: int) -> list[int]:
    """The lengths of sequences from where they start; the longest where tensors hold no values."""
    if has_no_values(starts):
        return [longest] * (len(starts) - 1)
    lengths: list[int] = starts.diff().tolist()
    return lengths


enter(
    **dict.fromkeys(_HEADS_FIRST, _kernel(heads_first=True)),
    **{f"{name}_backward": _kernel(heads_first=True, backward=True) for name in _HEADS_FIRST},
    **{f"{name}_forward": _kernel(heads_first=False) for name in _LENGTH_FIRST},
    **{f"{name}_backward": _kernel(heads_first=False, backward=True) for name in _LENGTH_FIRST},
    _flash_attention_forward_no_dropout_inplace=_kernel(heads_first=False),
)


def _lengths_of(x: Tensor) -> list[int]:
    """Tokens of every sequence of a `(batch, length, width)` or of a nested tensor."""
    return (
        [length for length, _ in sizes_of_nested(x)] if x.is_nested else [x.shape[1]] * x.shape[0]
    )


def _self_attention(x: Tensor, width: int, heads: int, mask: Tensor | None) -> int:
    """Query, key and value; scaled scores; softmax; the weighted sum; the output projection."""
    tokens = sum(_lengths_of(x))
    scores = heads * sum(length**2 for length in _lengths_of(x))
    projections = tokens * (2 * width * 4 * width + 4 * width)
    products = 2 * 2 * scores * (width // heads)
    return projections + 2 * tokens * width + products + scores * (SOFTMAX + (mask is not None))


@rule("_native_multi_head_attention")
def native_attention(
    query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_head: int, mask: Tensor | None
) -> int | None:
    """Of one input; query, key and value of different ones have no rule."""
    if query is not key or query is not value:
        return None
    return _self_attention(query, embed_dim, num_head, mask)


@rule("_transformer_encoder_layer_fwd")
def transformer_layer(
    src: Tensor, embed_dim: int, num_heads: int, ffn_bias_1: Tensor, mask: Tensor | None
) -> int:
    """Attention, two sums, two layer norms, the feed-forward."""
    tokens, inner = sum(_lengths_of(src)), ffn_bias_1.shape[0]
    residuals_and_norms = 2 * tokens * embed_dim * (1 + NORMALISE + 2)
    feed_forward = tokens * (2 * 2 * embed_dim * inner + inner + embed_dim + inner)
    attention = _self_attention(src, embed_dim, num_heads, mask)
    return attention + residuals_and_norms + feed_forward
