"""Fourier transforms: 5 N log2 N, half of it where one side is real.

The conventional count of radix-2 (Cooley and Tukey 1965), as FFTW's benchmark uses it.
"""

from __future__ import annotations

from math import log2, prod

from torch import Tensor

from pytest_flops.counting.costs.table import Call, rule


def _transforms(call: Call, signal: Tensor) -> float:
    """Of every signal in the batch, over the dimensions `dim`, as complex numbers."""
    points = prod(signal.shape[d] for d in call.argument("dim"))
    return 5 * signal.numel() * log2(max(points, 1))


@rule("_fft_c2c")
def complex_to_complex(call: Call) -> int:
    """A transform of complex numbers."""
    return round(_transforms(call, call.out))


@rule("_fft_r2c")
def real_to_complex(call: Call) -> int:
    """`onesided` computes half of the spectrum, for half of the cost."""
    full = _transforms(call, call.argument("self"))
    return round(full / 2 if call.argument("onesided") else full)


@rule("_fft_c2r")
def complex_to_real(call: Call) -> int:
    """Half the cost of a complex transform of that length."""
    return round(_transforms(call, call.out) / 2)
