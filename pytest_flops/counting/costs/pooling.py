"""Pooling: 1 FLOP per element under the window."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from pytest_flops.counting.costs.elements import first_tensor, per_input, weighted
from pytest_flops.counting.costs.table import enter, rule


@rule(
    *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("fractional_max_pool2d", "fractional_max_pool3d"),
)
def pool(out: Any, kernel_size: Sequence[int]) -> int | None:
    """The window of every output element; `kernel_size` of one number holds for all dimensions."""
    result = first_tensor(out)
    dims = result.dim() - 2 if result.dim() > 2 else 1
    return weighted(result, prod(kernel_size) ** (dims if len(kernel_size) == 1 else 1))


@rule("avg_pool2d_backward", "avg_pool3d_backward")
def average_pool_backward(grad_output: Tensor, kernel_size: Sequence[int]) -> int | None:
    """Every element under the window gets its share of the gradient."""
    return weighted(grad_output, prod(kernel_size))


# Adaptive windows cover the input once.
_FORWARD = """
    adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool2d adaptive_max_pool3d
    """
# A maximum has one gradient per output element, which is added at its place.
_BACKWARD_OF_MAXIMUM = """
    max_pool2d_with_indices_backward max_pool3d_with_indices_backward
    fractional_max_pool2d_backward fractional_max_pool3d_backward
    adaptive_max_pool2d_backward adaptive_max_pool3d_backward
    """
_BACKWARD_OF_MEAN = "_adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward"

enter(
    **dict.fromkeys(_FORWARD.split(), per_input(1)),
    **dict.fromkeys(_BACKWARD_OF_MAXIMUM.split(), per_input(1, of="grad_output")),
    **dict.fromkeys(_BACKWARD_OF_MEAN.split(), per_input(1)),
)
