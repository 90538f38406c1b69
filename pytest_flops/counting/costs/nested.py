"""Operators of nested tensors, whose components differ in length and so have no common shape.

PyTorch computes those of the strided layout whole, in C++, where nothing can be watched. Those of
the jagged layout are a Python class, which computes by operators of plain tensors.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs.formulas import argument

if TYPE_CHECKING:
    from pytest_flops.counting.costs.formulas import Args, Cost, Kwargs


def layout_of_nested(args: Args) -> torch.layout | None:
    """The layout of the nested tensor that an operator gets, if it gets one."""
    tensors = (leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
    return next((tensor.layout for tensor in tensors if tensor.is_nested), None)


def _products(result: Tensor, left: Tensor) -> int:
    """2 per multiply-add of every component: its elements times the columns of its left factor."""
    pairs = zip(_sizes(result), _sizes(left), strict=True)
    return sum(2 * prod(elements) * columns for elements, (*_, columns) in pairs)


def _sizes(tensor: Tensor) -> list[list[int]]:
    sizes: list[list[int]] = tensor._nested_tensor_size().tolist()  # noqa: SLF001
    return sizes


def _matmul(args: Args, _kwargs: Kwargs, out: Any) -> int:
    return _products(out, args[0])


def _matmul_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    gradient, left, _, wanted = args
    return sum(wanted) * _products(gradient, left)


def _linear(args: Args, kwargs: Kwargs, out: Any) -> int:
    """The product, and 1 per output element for the bias."""
    has_bias = argument(args, kwargs, 2, "bias") is not None
    return int(out.numel() * (2 * args[1].shape[1] + has_bias))


def _linear_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """A product for the input's and one for the weight's gradient; the bias's is a sum."""
    _, gradient, weight, (of_input, of_weight, of_bias) = args
    return int(gradient.numel() * (2 * weight.shape[1] * (of_input + of_weight) + of_bias))


STRIDED_COSTS: dict[str, Cost] = {
    "aten.matmul": _matmul,
    "aten.matmul_backward": _matmul_backward,
    "aten.linear": _linear,
    "aten.linear_backward": _linear_backward,
}
"""The cost of operators that have no rule of their own, or are taken apart with other tensors."""
