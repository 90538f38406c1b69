"""Fused optimizers: what their for-loop form executes per parameter, given the same arguments."""

from __future__ import annotations

from torch import Tensor

from pytest_flops.counting.costs.elements import per_input, weighted
from pytest_flops.counting.costs.table import Formulas, Rules


def _each(tensors: list[Tensor], per_element: int, grad_scale: Tensor | None) -> list[int | None]:
    """`per_element` of every parameter; mixed precision scales its gradient, 1 more."""
    return [weighted(tensor, per_element + (grad_scale is not None)) for tensor in tensors]


def _adam(decay: int) -> Formulas:
    """Moments 3 and 4, the denominator 3, the update 3; and the decay."""
    return Formulas(
        lambda self, amsgrad, maximize, weight_decay, grad_scale: _each(
            self, 13 + amsgrad + maximize + decay * (weight_decay != 0), grad_scale
        ),
        each=True,
    )


def _sgd(
    self: list[Tensor],
    weight_decay: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None,
) -> list[int | None]:
    """The update 2; decay 2; Nesterov 2; momentum 2 (3 with dampening) after its first step."""
    per_element = 2 + maximize + 2 * (weight_decay != 0) + 2 * nesterov
    if momentum != 0 and not is_first_step:
        per_element += 2 + (dampening != 0)
    return _each(self, per_element, grad_scale)


def _adagrad(
    self: list[Tensor], maximize: bool, weight_decay: float, grad_scale: Tensor | None
) -> list[int | None]:
    """Sum of squares 2, its root plus epsilon 2, the update 3; decay 2."""
    return _each(self, 7 + maximize + 2 * (weight_decay != 0), grad_scale)


RULES: Rules = {
    "_fused_adam": _adam(2),  # L2: a multiple of the parameter is added to the gradient
    "_fused_adamw": _adam(1),  # decoupled: the parameter is multiplied
    "_fused_sgd": Formulas(_sgd, each=True),
    "_fused_adagrad": Formulas(_adagrad, each=True),
    # automatic mixed precision: every gradient is scaled, and the scale itself updated
    "_amp_foreach_non_finite_check_and_unscale": Formulas(
        lambda self: _each(self, 1, None), each=True
    ),
    "_amp_update_scale": per_input(1),
}
