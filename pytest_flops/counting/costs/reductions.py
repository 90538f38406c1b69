"""Reductions: 1 FLOP per input element, complex 2; and the distances that are made of them."""

from __future__ import annotations

from pytest_flops.counting.costs.elements import per_input, weighted
from pytest_flops.counting.costs.table import Call, enter, rule

_REAL = """
    _aminmax amax amin aminmax max min median nanmedian native_norm _sparse_sum _sparse_csr_sum
    linalg__powsum powsum
    """
_COMPLEX = "sum mean nansum cumsum trace var std var_mean std_mean"

enter(
    **dict.fromkeys(_REAL.split(), per_input(1)),
    **dict.fromkeys(_COMPLEX.split(), per_input(1, 2)),
    linalg_vector_norm=per_input(1, 4),
    norm=per_input(1, 4),
    prod=per_input(1, 6),
    cumprod=per_input(1, 6),
    logcumsumexp=per_input(3),
    logsumexp=per_input(4),  # maximum, subtract, exponential, sum
    dist=per_input(2, 6),  # subtract, and the norm's reduction
)


@rule("_cdist_forward", "_euclidean_dist", "_pdist_forward")
def distances(call: Call) -> int | None:
    """Subtract, power and add for every feature of every pair of rows."""
    return weighted(call.out, 3 * int(call.either("x1", "self").shape[-1]))


@rule("_cdist_backward", "_pdist_backward")
def distances_backward(call: Call) -> int | None:
    """Subtract, scale by the distance, times the gradient, add: per feature of every pair."""
    return weighted(call.argument("grad"), 4 * int(call.either("x1", "self").shape[-1]))
