"""Reductions: 1 FLOP per input element, complex 2; distances; pooling, per element of a window."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from pytest_flops.counting.costs.elements import first_tensor, per_input, weighted
from pytest_flops.counting.costs.table import Rules

_REAL = """
    _aminmax amax amin aminmax max min median nanmedian native_norm _sparse_sum _sparse_csr_sum
    linalg__powsum powsum
    """
_COMPLEX = "sum mean nansum cumsum trace var std var_mean std_mean"
_POOLS = """
    avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices
    fractional_max_pool2d fractional_max_pool3d
    """
# Their windows cover the input once.
_ADAPTIVE_POOLS = """
    adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d
    adaptive_max_pool3d _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward
    """
# A maximum has one gradient per output element, which is added at its place.
_BACKWARD_OF_MAXIMUM = """
    max_pool2d_with_indices_backward max_pool3d_with_indices_backward
    fractional_max_pool2d_backward fractional_max_pool3d_backward
    adaptive_max_pool2d_backward adaptive_max_pool3d_backward
    """


def _pool(out: Any, kernel_size: Sequence[int]) -> int | None:
    """The window of every output element; `kernel_size` of one number holds for all dimensions."""
    result = first_tensor(out)
    dims = result.dim() - 2 if result.dim() > 2 else 1
    return weighted(result, prod(kernel_size) ** (dims if len(kernel_size) == 1 else 1))


RULES: Rules = {
    _REAL: per_input(1),
    _COMPLEX: per_input(1, 2),
    "linalg_vector_norm norm": per_input(1, 4),
    "prod cumprod": per_input(1, 6),
    "logcumsumexp": per_input(3),
    "logsumexp": per_input(4),  # maximum, subtract, exponential, sum
    "dist": per_input(2, 6),  # subtract, and the norm's reduction
    # For every feature of every pair of rows: subtract, power, add.
    "_cdist_forward _euclidean_dist": lambda out, x1: weighted(out, 3 * x1.shape[-1]),
    "_pdist_forward": lambda out, self: weighted(out, 3 * self.shape[-1]),
    # Subtract, scale by the distance, times the gradient, add.
    "_cdist_backward": lambda grad, x1: weighted(grad, 4 * x1.shape[-1]),
    "_pdist_backward": lambda grad, self: weighted(grad, 4 * self.shape[-1]),
    _POOLS: _pool,
    # Every element under the window gets its share of the gradient
    "avg_pool2d_backward avg_pool3d_backward": lambda grad_output, kernel_size: weighted(
        grad_output, prod(kernel_size)
    ),
    _ADAPTIVE_POOLS: per_input(1),
    _BACKWARD_OF_MAXIMUM: per_input(1, of="grad_output"),
}
