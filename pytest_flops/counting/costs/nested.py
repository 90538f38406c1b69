"""Operators of nested tensors, whose components differ in length and so have no common shape.

PyTorch computes those of the strided layout whole, in C++, where nothing can be watched. Those of
the jagged layout are a Python class, which computes by operators of plain tensors.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs.table import Args, Call, Cost, with_names


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


def _matmul(call: Call) -> int:
    return _products(call.out, call.argument("self"))


def _matmul_backward(call: Call) -> int:
    """A product for each gradient that is wanted."""
    return int(sum(call.argument("mask")) * _products(call.argument("grad"), call.argument("self")))


def _linear(call: Call) -> int:
    """The product, and 1 per output element for the bias."""
    has_bias = call.argument("bias") is not None
    return int(call.out.numel() * (2 * call.argument("weight").shape[1] + has_bias))


def _linear_backward(call: Call) -> int:
    """A product for the input's and one for the weight's gradient; the bias's is a sum."""
    of_input, of_weight, of_bias = call.argument("output_mask")
    product = 2 * call.argument("weight").shape[1]
    return int(call.argument("grad_output").numel() * (product * (of_input + of_weight) + of_bias))


STRIDED_COSTS: dict[str, Cost] = {
    "aten.matmul": with_names(torch.ops.aten.matmul.default, _matmul),
    "aten.matmul_backward": with_names(torch.ops.aten.matmul_backward.default, _matmul_backward),
    "aten.linear": with_names(torch.ops.aten.linear.default, _linear),
    "aten.linear_backward": with_names(torch.ops.aten.linear_backward.default, _linear_backward),
}
"""The cost of operators that have no rule of their own, or are taken apart with other tensors."""
