"""Reductions: 1 FLOP per input element, complex 2; distances."""

from __future__ import annotations

from pytest_flops.counting.costs.elements import per_input, weighted
from pytest_flops.counting.costs.table import Rules

_REAL = """
    _aminmax amax amin aminmax max min median nanmedian native_norm _sparse_sum _sparse_csr_sum
    linalg__powsum powsum
    """
_COMPLEX = "sum mean nansum cumsum trace var std var_mean std_mean"

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
}
