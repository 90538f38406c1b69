"""Attention: a fused kernel costs what its mathematical form executes, on every device.

Every device has kernels of its own, and some recompute the scores in backward. They all cost the
same here, so that a count does not depend on the device: two products forward, the two gradients of
each backward, and between them, on the line `:softmax`, scaling, mask, softmax and dropout.
"""

from __future__ import annotations

from torch import Tensor

from pytest_flops.counting.costs.elements import has_no_values
from pytest_flops.counting.costs.normalization import NORMALISE, SOFTMAX, SOFTMAX_BACKWARD
from pytest_flops.counting.costs.table import Call, RuleByName, enter, rule

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


class _Sizes:
    """What follows from the shapes of query, key and value."""

    def __init__(self, call: Call, *, heads_first: bool) -> None:
        self.query: Tensor = call.argument("query")
        self.key: Tensor = call.argument("key")
        self.value: Tensor = call.argument("value")
        self.heads = int(self.query.shape[1 if heads_first else -2])
        self.key_heads = int(self.key.shape[1 if heads_first else -2])
        lengths = _lengths(call, self.query, self.key, heads_first=heads_first)
        self.scores = self.heads * sum(q * k for q, k in zip(*lengths, strict=True))

    @property
    def products(self) -> int:
        """Query times key, and scores times value."""
        return 2 * self.scores * int(self.query.shape[-1] + self.value.shape[-1])

    @property
    def scaling(self) -> int:
        """The root of the scale is multiplied into the query and into the key of every head."""
        return self.query.numel() + self._repeated(self.key)

    @property
    def sharing(self) -> int:
        """Gradients that query heads add up for the key and the value that they share."""
        if self.heads == self.key_heads:
            return 0
        return self._repeated(self.key) + self._repeated(self.value)

    def _repeated(self, tensor: Tensor) -> int:
        return tensor.numel() // self.key_heads * self.heads


def _lengths(
    call: Call, query: Tensor, key: Tensor, *, heads_first: bool
) -> tuple[list[int], list[int]]:
    """The lengths of every sequence's query and key."""
    query_starts = call.either("cum_seq_q", "cu_seqlens_q")
    if heads_first or query_starts is None:
        dimension, batch = (2 if heads_first else 1), int(query.shape[0])
        return [int(query.shape[dimension])] * batch, [int(key.shape[dimension])] * batch
    key_starts = call.either("cum_seq_k", "cu_seqlens_k")
    longest_query = call.either("max_q", "max_seqlen_q")
    longest_key = call.either("max_k", "max_seqlen_k")
    return _between(query_starts, longest_query), _between(key_starts, longest_key)


def _between(starts: Tensor, longest: int) -> list[int]:
    """The lengths of sequences from where they start; the longest where tensors hold no values."""
    if has_no_values(starts):
        return [int(longest)] * (len(starts) - 1)
    return [int(length) for length in starts.diff().tolist()]


def _is_masked(call: Call) -> bool:
    """Whether something is added to the scores."""
    mask = call.either("attn_mask", "attn_bias", "bias")
    return bool(mask is not None or call.either("is_causal", "custom_mask_type"))


def _kernel(*, heads_first: bool, backward: bool = False) -> RuleByName:
    """The products, backward both gradients of each; aside what lies between the products."""

    def products(call: Call) -> int:
        return _Sizes(call, heads_first=heads_first).products * (2 if backward else 1)

    def softmax(call: Call) -> int:
        sizes, drops = _Sizes(call, heads_first=heads_first), bool(call.either("dropout_p"))
        if backward:  # a mask has no gradient
            per_score = SOFTMAX_BACKWARD + DROPOUT_BACKWARD * drops
            return sizes.scores * per_score + sizes.scaling + sizes.sharing
        per_score = SOFTMAX + _is_masked(call) + DROPOUT * drops
        return sizes.scores * per_score + sizes.scaling

    return RuleByName(products, softmax, "softmax")


enter(
    **dict.fromkeys(_HEADS_FIRST, _kernel(heads_first=True)),
    **{f"{name}_backward": _kernel(heads_first=True, backward=True) for name in _HEADS_FIRST},
    **{f"{name}_forward": _kernel(heads_first=False) for name in _LENGTH_FIRST},
    **{f"{name}_backward": _kernel(heads_first=False, backward=True) for name in _LENGTH_FIRST},
    _flash_attention_forward_no_dropout_inplace=_kernel(heads_first=False),
)


def _tokens(x: Tensor) -> list[int]:
    """Tokens of every sequence of a `(batch, length, width)` or of a nested tensor."""
    if x.is_nested:
        return [int(length) for length, _ in x._nested_tensor_size().tolist()]  # noqa: SLF001
    return [int(x.shape[1])] * int(x.shape[0])


def _self_attention(lengths: list[int], width: int, heads: int, *, masked: bool) -> int:
    """Query, key and value; scaled scores; softmax; the weighted sum; the output projection."""
    tokens = sum(lengths)
    scores = heads * sum(length**2 for length in lengths)
    projections = tokens * (2 * width * 4 * width + 4 * width)
    products = 2 * 2 * scores * (width // heads)
    return projections + 2 * tokens * width + products + scores * (SOFTMAX + masked)


@rule("_native_multi_head_attention")
def native_attention(call: Call) -> int | None:
    """Of one input; query, key and value of different ones have no rule."""
    query = call.argument("query")
    if query is not call.argument("key") or query is not call.argument("value"):
        return None
    width, heads = call.argument("embed_dim"), call.argument("num_head")
    return _self_attention(_tokens(query), width, heads, masked=call.argument("mask") is not None)


@rule("_transformer_encoder_layer_fwd")
def transformer_layer(call: Call) -> int:
    """Attention, two sums, two layer norms, the feed-forward."""
    lengths, width = _tokens(call.argument("src")), call.argument("embed_dim")
    tokens, inner = sum(lengths), int(call.argument("ffn_bias_1").shape[0])
    masked = call.argument("mask") is not None
    attention = _self_attention(lengths, width, call.argument("num_heads"), masked=masked)
    residuals, norms = 2 * tokens * width, 2 * tokens * width * (NORMALISE + 2)
    feed_forward = tokens * (2 * 2 * width * inner + inner + width + inner)
    return int(attention + residuals + norms + feed_forward)
