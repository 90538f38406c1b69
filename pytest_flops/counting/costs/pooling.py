"""Pooling: 1 FLOP per element under the window."""

from __future__ import annotations

from math import prod

from pytest_flops.counting.costs.elements import first_tensor, per_input, weighted
from pytest_flops.counting.costs.table import Call, enter, rule


@rule(
    *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("fractional_max_pool2d", "fractional_max_pool3d"),
)
def pool(call: Call) -> int | None:
    """The window of every output element; `kernel_size` of one number holds for all dimensions."""
    result, window = first_tensor(call.out), call.argument("kernel_size")
    dims = result.dim() - 2 if result.dim() > 2 else 1
    return weighted(result, prod(window if len(window) > 1 else window * dims))


@rule("avg_pool2d_backward", "avg_pool3d_backward")
def average_pool_backward(call: Call) -> int | None:
    """Every element under the window gets its share of the gradient."""
    return weighted(call.argument("grad_output"), prod(call.argument("kernel_size")))


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
