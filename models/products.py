"""Counts the products of what runs, by arithmetic of its own: nothing of pytest_flops is used here.

Where the cost table multiplies the sizes of the operands, this multiplies the size of the result by
the length of the sums that its elements are, so that a wrong size shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _of_sums(out: Tensor, length: int) -> int:
    """Every element of the result is a sum of `length` products; a complex one is 6, a sum 2."""
    return (8 if out.is_complex() else 2) * out.numel() * length


def _convolution(out: Tensor, input: Tensor, weight: Tensor, transposed: bool) -> int:
    """An output is a sum over one filter; transposed, an input is multiplied by a whole filter."""
    return _of_sums(input if transposed else out, weight[0].numel())


def _convolution_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, transposed: bool, output_mask: list[bool]
) -> int:
    return sum(output_mask[:2]) * _convolution(grad_output, input, weight, transposed)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """A score is a sum over the width of a head; a result is a sum over the keys."""
    batch, heads, queries, width = query.shape
    scores = batch * heads * queries * key.shape[-2]
    return 2 * scores * (width + value.shape[-1])


def _attention_backward(query: Tensor, key: Tensor, value: Tensor) -> int:
    """A product for each gradient that is wanted, and one for that of the scores."""
    scores = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    of_query, of_key, of_value = (x.requires_grad for x in (query, key, value))
    of_scores = of_query or of_key
    widths = (of_query + of_key) * query.shape[3] + (of_scores + of_value) * value.shape[3]
    return 2 * scores * widths


def _grouped(self: Tensor, mat2: Tensor, out: Tensor) -> int:
    """Groups of rows or of columns share the sum's length; groups of the sum split it."""
    if self.dim() == 2 and mat2.dim() == 2:
        return 2 * self.shape[0] * self.shape[1] * mat2.shape[1]
    return _of_sums(out, self.shape[-1])


FORMULAS: dict[str, Callable[..., int]] = {
    "aten.mm": lambda out, self: _of_sums(out, self.shape[1]),
    "aten.bmm": lambda out, self: _of_sums(out, self.shape[2]),
    "aten.mv": lambda out, self: _of_sums(out, self.shape[1]),
    "aten.dot": lambda out, self: _of_sums(out, len(self)),
    "aten.addmm": lambda out, mat1: _of_sums(out, mat1.shape[1]),
    "aten.addmv": lambda out, mat: _of_sums(out, mat.shape[1]),
    "aten.baddbmm": lambda out, batch1: _of_sums(out, batch1.shape[2]),
    "aten.addbmm": lambda out, batch1: _of_sums(out, len(batch1) * batch1.shape[2]),
    "aten._grouped_mm": _grouped,
    "aten.convolution": _convolution,
    "aten.convolution_backward": _convolution_backward,
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}


def _holds_integers(tensor: Tensor) -> bool:
    return not tensor.dtype.is_floating_point and not tensor.dtype.is_complex


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up, in `flops`, what each of these operators costs while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        name = str(getattr(func, "overloadpacket", func))
        formula = FORMULAS.get(name)
        first = next((leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)), None)
        if formula and first is not None and not _holds_integers(first):
            schema = [argument.name for argument in func._schema.arguments]  # noqa: SLF001
            named = {**dict(zip(schema, args, strict=False)), **given, "out": first}
            self.flops[name] += formula(
                **{name: named[name] for name in signature(formula).parameters}
            )
        return out
