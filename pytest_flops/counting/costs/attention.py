"""What one call of a fused attention kernel costs: what its mathematical form executes.

Every device has kernels of its own, and some recompute the scores in backward. They all cost the
same here, so that a count does not depend on the device: two products forward, the two gradients of
each backward, and between them scaling, mask, softmax and dropout.

The kernels take their arguments in different orders, so these are read by the schema's names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch._subclasses.fake_tensor import FakeTensor

from pytest_flops.counting.costs.formulas import SOFTMAX, SOFTMAX_BACKWARD

if TYPE_CHECKING:
    from torch import Tensor
    from torch._ops import OpOverload

    from pytest_flops.counting.costs.formulas import Args, Cost, Kwargs

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

BACKWARD_KERNELS = frozenset(f"{name}_backward" for name in (*_HEADS_FIRST, *_LENGTH_FIRST))
KERNELS = BACKWARD_KERNELS.union(
    _HEADS_FIRST,
    (f"{name}_forward" for name in _LENGTH_FIRST),
    ("_flash_attention_forward_no_dropout_inplace",),
)

DROPOUT = 2  # scale the mask, multiply by it
DROPOUT_BACKWARD = 1  # multiply by the scaled mask


class _Call:
    """The arguments of one call, by name, and what follows from their shapes."""

    def __init__(self, operator: OpOverload, args: Args, kwargs: Kwargs) -> None:
        names = [argument.name for argument in operator._schema.arguments]  # noqa: SLF001
        self._arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        self.query: Tensor = self._arguments["query"]
        self.key: Tensor = self._arguments["key"]
        self.value: Tensor = self._arguments["value"]
        self._heads_first = operator.__name__.startswith("_scaled_dot_product")

    def _given(self, *names: str) -> Any:
        """The first of these arguments that this kernel has."""
        return next((self._arguments[name] for name in names if name in self._arguments), None)

    @property
    def scores(self) -> int:
        """Elements of the scores: query by key length, for every head and sequence."""
        return self._heads * sum(q * k for q, k in zip(*self._lengths(), strict=True))

    def _lengths(self) -> tuple[list[int], list[int]]:
        starts = self._given("cum_seq_q", "cu_seqlens_q"), self._given("cum_seq_k", "cu_seqlens_k")
        if self._heads_first or starts[0] is None:
            dimension, batch = (2 if self._heads_first else 1), int(self.query.shape[0])
            q, k = (int(tensor.shape[dimension]) for tensor in (self.query, self.key))
            return [q] * batch, [k] * batch
        longest = self._given("max_q", "max_seqlen_q"), self._given("max_k", "max_seqlen_k")
        return _between(starts[0], longest[0]), _between(starts[1], longest[1])

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
        if self._heads == self._key_heads:
            return 0
        return self._repeated(self.key) + self._repeated(self.value)

    def _repeated(self, tensor: Tensor) -> int:
        return tensor.numel() // self._key_heads * self._heads

    @property
    def _heads(self) -> int:
        return int(self.query.shape[1 if self._heads_first else -2])

    @property
    def _key_heads(self) -> int:
        return int(self.key.shape[1 if self._heads_first else -2])

    @property
    def masked(self) -> bool:
        """Whether something is added to the scores."""
        mask = self._given("attn_mask", "attn_bias", "bias")
        return bool(mask is not None or self._given("is_causal", "custom_mask_type"))

    @property
    def drops(self) -> bool:
        """Whether dropout is applied to the softmax."""
        return bool(self._given("dropout_p"))


def _between(starts: Tensor, longest: int) -> list[int]:
    """The lengths of sequences from where they start; the longest where tensors hold no values."""
    if isinstance(starts, FakeTensor) or starts.is_meta:
        return [int(longest)] * (len(starts) - 1)
    return [int(length) for length in starts.diff().tolist()]


def _is_backward(operator: OpOverload) -> bool:
    return operator._overloadpacket.__name__ in BACKWARD_KERNELS  # noqa: SLF001


def products(operator: OpOverload) -> Cost:
    """The scores and the weighted sum of the values; backward, both gradients of each."""
    times = 2 if _is_backward(operator) else 1

    def cost(args: Args, kwargs: Kwargs, _out: Any) -> int:
        return times * _Call(operator, args, kwargs).products

    return cost


def softmax(operator: OpOverload) -> Cost:
    """What lies between the products: scaling, mask, softmax, dropout; a mask has no gradient."""
    if _is_backward(operator):
        return _softmax_backward(operator)

    def cost(args: Args, kwargs: Kwargs, _out: Any) -> int:
        call = _Call(operator, args, kwargs)
        return call.scores * (SOFTMAX + call.masked + DROPOUT * call.drops) + call.scaling

    return cost


def _softmax_backward(operator: OpOverload) -> Cost:
    def cost(args: Args, kwargs: Kwargs, _out: Any) -> int:
        call = _Call(operator, args, kwargs)
        per_score = SOFTMAX_BACKWARD + DROPOUT_BACKWARD * call.drops
        return call.scores * per_score + call.scaling + call.sharing

    return cost
