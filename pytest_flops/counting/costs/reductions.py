"""Reductions: 1 FLOP per input element, complex 2; and the distances that are made of them."""

from __future__ import annotations

from torch import Tensor

from pytest_flops.counting.costs.elements import per_input, weighted
from pytest_flops.counting.costs.table import Formulas, enter

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


def distances(out: Tensor, rows: Tensor) -> int | None:
    """Subtract, power and add for every feature of every pair of rows."""
    return weighted(out, 3 * rows.shape[-1])


def distances_backward(grad: Tensor, rows: Tensor) -> int | None:
    """Subtract, scale by the distance, times the gradient, add: per feature of every pair."""
    return weighted(grad, 4 * rows.shape[-1])


enter(
    _cdist_forward=Formulas(distances, names={"rows": "x1"}),
    _euclidean_dist=Formulas(distances, names={"rows": "x1"}),
    _pdist_forward=Formulas(distances, names={"rows": "self"}),
    _cdist_backward=Formulas(distances_backward, names={"rows": "x1"}),
    _pdist_backward=Formulas(distances_backward, names={"rows": "self"}),
)
