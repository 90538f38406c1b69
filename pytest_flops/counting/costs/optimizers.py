"""Fused optimizers: what their for-loop form executes per parameter, given the same arguments."""

from __future__ import annotations

from collections.abc import Callable

from pytest_flops.counting.costs.elements import per_input, weighted
from pytest_flops.counting.costs.table import Call, RuleOfEach, enter


def adam(call: Call) -> int:
    """Moments 3 and 4, the denominator 3, the update 3; L2 decay is 2 more."""
    return 13 + _given(call, "amsgrad", "maximize") + 2 * _given(call, "weight_decay")


def adamw(call: Call) -> int:
    """As Adam; the decoupled decay is one multiply."""
    return 13 + _given(call, "amsgrad", "maximize", "weight_decay")


def sgd(call: Call) -> int:
    """The update 2; decay 2; momentum 2 (3 with dampening) after its first step; Nesterov 2."""
    momentum = 0
    if call.argument("momentum") != 0 and not call.argument("is_first_step"):
        momentum = 2 + _given(call, "dampening")
    return 2 + _given(call, "maximize") + 2 * _given(call, "weight_decay", "nesterov") + momentum


def adagrad(call: Call) -> int:
    """Sum of squares 2, its root plus epsilon 2, the update 3; decay 2."""
    return 7 + _given(call, "maximize") + 2 * _given(call, "weight_decay")


def _given(call: Call, *names: str) -> int:
    """How many of these arguments ask for work: switches that are on, factors that are not 0."""
    return sum(call.argument(name) != 0 for name in names)


def _fused(weight: Callable[[Call], int]) -> RuleOfEach:
    """`weight` FLOPs per element of every parameter; mixed precision scales its gradient, 1."""

    def each(call: Call) -> list[int | None]:
        per_element = weight(call) + (call.argument("grad_scale") is not None)
        return [weighted(parameter, per_element) for parameter in call.argument("self")]

    return RuleOfEach(each)


enter(
    _fused_adam=_fused(adam),
    _fused_adamw=_fused(adamw),
    _fused_sgd=_fused(sgd),
    _fused_adagrad=_fused(adagrad),
    # automatic mixed precision: every gradient is scaled, and the scale itself updated
    _amp_foreach_non_finite_check_and_unscale=RuleOfEach(
        lambda call: [weighted(gradient, 1) for gradient in call.argument("self")]
    ),
    _amp_update_scale=per_input(1),
)
