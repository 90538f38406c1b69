"""Operators of nested tensors, whose components differ in length and so have no common shape.

PyTorch computes those of the strided layout whole, in C++, where nothing can be watched. Those of
the jagged layout are a Python class, which computes by operators of plain tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from pytest_flops.counting.costs.elements import tensors_in
from pytest_flops.counting.costs.table import Args, Cost, bound


def layout_of_nested(args: Args) -> torch.layout | None:
    """The layout of the nested tensor that an operator gets, if it gets one."""
    return next((tensor.layout for tensor in tensors_in(*args) if tensor.is_nested), None)


def sizes_of_nested(tensor: Tensor) -> list[list[int]]:
    """The size of every component."""
    sizes: list[list[int]] = tensor._nested_tensor_size().tolist()  # noqa: SLF001
    return sizes


def _matmul(out: Tensor, self: Tensor) -> int:
    """2 per multiply-add of every component: its elements times the columns of its left factor."""
    pairs = zip(sizes_of_nested(out), sizes_of_nested(self), strict=True)
    return sum(2 * prod(elements) * columns for elements, (*_, columns) in pairs)


def _linear_backward(grad_output: Tensor, weight: Tensor, output_mask: Sequence[bool]) -> int:
    """A product for the input's and one for the weight's gradient; the bias's is a sum."""
    of_input, of_weight, of_bias = output_mask
    return grad_output.numel() * (2 * weight.shape[1] * (of_input + of_weight) + of_bias)


_aten = torch.ops.aten
STRIDED_COSTS: dict[str, Cost] = {
    "aten.matmul": bound(_matmul, _aten.matmul.default),
    # a product for each gradient that is wanted
    "aten.matmul_backward": bound(
        lambda grad, self, mask: sum(mask) * _matmul(grad, self), _aten.matmul_backward.default
    ),
    # 1 per output element for the bias
    "aten.linear": bound(
        lambda out, weight, bias: out.numel() * (2 * weight.shape[1] + (bias is not None)),
        _aten.linear.default,
    ),
    "aten.linear_backward": bound(_linear_backward, _aten.linear_backward.default),
}
"""The cost of operators that have no rule of their own, or are taken apart with other tensors."""
