"""Pointwise arithmetic and transcendental functions: 1 FLOP per output element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pytest_flops.counting.costs.elements import (
    per_input,
    per_output,
    stores_unknown,
    weighted,
)
from pytest_flops.counting.costs.table import FREE, Formulas, Rules

COMPLEX_WEIGHTS: dict[str, int] = {
    "neg": 2,
    "mul": 6,
    "div": 11,
    "reciprocal": 11,
    "square": 6,
    "pow": 6,
    "exp": 5,  # exp, sin, cos, and two multiplies
    "log": 6,  # the modulus and its log, the angle
    "sqrt": 8,  # the modulus, two sums halved by it, two roots
    "sgn": 6,  # the modulus, and both parts divided by it
    "sin": 6,  # sin, cos, sinh, cosh, and two multiplies
    "cos": 6,
    "sinh": 6,
    "cosh": 6,
    "tan": 9,  # sin, cos, sinh and cosh of the doubled parts, their sum, and two divides
    "tanh": 9,
    "exp2": 7,  # times log 2, exp
    "expm1": 6,
    "log2": 8,
    "log10": 8,
    "log1p": 7,
    "rsqrt": 19,  # sqrt, reciprocal
    "tanh_backward": 13,  # square, 1 minus it, times the gradient
    "sigmoid_backward": 13,
    "sigmoid": 19,  # neg, exp, add 1, reciprocal
    "silu": 25,
}
"""FLOPs per element of functions of complex numbers; one that is not listed has no cost there."""


def pointwise(packet: Any) -> Formulas | None:
    """The rule of what PyTorch tags as pointwise: most operators of this family are not listed."""
    if not any(torch.Tag.pointwise in getattr(packet, name).tags for name in packet.overloads()):
        return None
    return per_output(1, COMPLEX_WEIGHTS.get(packet.__name__))


def _scaled(out: Tensor, weight: int, complex_weight: int, operand: Any, factor: Any) -> int | None:
    """`weight`, and 1 (complex 6) for a factor of the operand, unless it is 1."""
    scales = factor is not None and factor != 1
    if isinstance(operand, Tensor) and operand.layout != torch.strided:
        out = operand  # what is not stored is not added
    return weighted(out, weight + scales, complex_weight + 6 * scales)


# Pointwise arithmetic that PyTorch does not tag as such.
_UNTAGGED = """
    _add_relu _masked_scale _prelu_kernel _prelu_kernel_backward elu_backward floor_divide glu
    glu_backward hardshrink_backward hardsigmoid_backward hardswish hardswish_backward
    hardtanh_backward leaky_relu_backward log_sigmoid_backward log_sigmoid_forward mish_backward
    rrelu_with_noise rrelu_with_noise_backward softplus_backward softshrink_backward
    _standard_gamma_grad _dirichlet_grad
    """


RULES: Rules = {
    _UNTAGGED: per_output(1),
    # `self + alpha * other`; list forms have no `alpha` for numbers
    "add sub rsub": lambda out, other=None, alpha=None: _scaled(out, 1, 2, other, alpha),
    # `self + value * tensor1 * tensor2`; list forms may have a number each
    "addcmul": lambda out, tensor1, value=None, scalars=None: _scaled(
        out, 2, 8, tensor1, scalars if value is None else value
    ),
    "lerp": per_output(3, 10),  # a + weight * (b - a)
    "addcdiv": per_output(3, 19),  # a + value * b / c
    "native_dropout_backward": per_output(1),  # times the mask that the forward has scaled
    "linalg_cross": per_output(3, 14),  # two multiplies, subtract
    # Their output is not of the input's kind.
    "abs": per_input(1, 4),  # two squares, their sum, its root
    "angle": per_input(1, 1),
    "polar": per_input(4, of="abs"),  # sin, cos, and two multiplies
    "frexp": FREE,
    # A view, and free; but what is computed with no values of a fake tensor counts as nothing.
    "values _values": lambda self: None if stores_unknown(self) else 0,
}
