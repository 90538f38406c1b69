"""Quantisation: divide, round, add the zero point, clamp; back: subtract it, multiply."""

from __future__ import annotations

from typing import Any

from pytest_flops.counting.costs.elements import first_tensor, per_input, per_output, weighted
from pytest_flops.counting.costs.table import enter, rule

enter(
    dequantize=per_output(2),
    fake_quantize_per_tensor_affine_cachemask=per_input(6),
    fake_quantize_per_channel_affine_cachemask=per_input(6),
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams=per_input(6),
)


@rule("quantize_per_tensor", "quantize_per_channel")
def quantize(self: Any = None, tensors: Any = None) -> int | None:
    """4 per element of the input, whose result is of integers."""
    return weighted(first_tensor(self, tensors), 4)
