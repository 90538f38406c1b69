"""Fused optimizers: what their for-loop form executes per parameter, given the same arguments."""

from __future__ import annotations

from torch import Tensor

from pytest_flops.counting.costs.elements import per_input, weighted
from pytest_flops.counting.costs.table import Formulas, enter


def _each(tensors: list[Tensor], per_element: int, grad_scale: Tensor | None) -> list[int | None]:
    """`per_element` of every parameter; mixed precision scales its gradient, 1 more."""
    return [weighted(tensor, per_element + (grad_scale is not None)) for tensor in tensors]


def adam(
    self: list[Tensor],
    amsgrad: bool,
    maximize: bool,
    weight_decay: float,
    grad_scale: Tensor | None,
) -> list[int | None]:
    """Moments 3 and 4, the denominator 3, the update 3; L2 decay is 2 more."""
    return _each(self, 13 + amsgrad + maximize + 2 * (weight_decay != 0), grad_scale)


def adamw(
    self: list[Tensor],
    amsgrad: bool,
    maximize: bool,
    weight_decay: float,
    grad_scale: Tensor | None,
) -> list[int | None]:
    """As Adam; the decoupled decay is one multiply."""
    return _each(self, 13 + amsgrad + maximize + (weight_decay != 0), grad_scale)


def sgd(
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


def adagrad(
    self: list[Tensor], maximize: bool, weight_decay: float, grad_scale: Tensor | None
) -> list[int | None]:
    """Sum of squares 2, its root plus epsilon 2, the update 3; decay 2."""
    return _each(self, 7 + maximize + 2 * (weight_decay != 0), grad_scale)


def unscale(self: list[Tensor]) -> list[int | None]:
    """Automatic mixed precision: every gradient is scaled."""
    return _each(self, 1, None)


enter(
    _fused_adam=Formulas(adam, each=True),
    _fused_adamw=Formulas(adamw, each=True),
    _fused_sgd=Formulas(sgd, each=True),
    _fused_adagrad=Formulas(adagrad, each=True),
    _amp_foreach_non_finite_check_and_unscale=Formulas(unscale, each=True),
    _amp_update_scale=per_input(1),
)
