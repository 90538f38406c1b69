"""Fourier transforms: 5 N log2 N, half of it where one side is real.

The conventional count of radix-2 (Cooley and Tukey 1965), as FFTW's benchmark uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod

from torch import Tensor

from pytest_flops.counting.costs.table import rule


def _transforms(signal: Tensor, dim: Sequence[int]) -> float:
    """Of every signal in the batch, over the dimensions `dim`, as complex numbers."""
    points = prod(signal.shape[d] for d in dim)
    return 5 * signal.numel() * log2(max(points, 1))


@rule("_fft_c2c")
def complex_to_complex(out: Tensor, dim: Sequence[int]) -> int:
    """A transform of complex numbers."""
    return round(_transforms(out, dim))


@rule("_fft_r2c")
def real_to_complex(self: Tensor, dim: Sequence[int], onesided: bool) -> int:
    """`onesided` computes half of the spectrum, for half of the cost."""
    return round(_transforms(self, dim) / (2 if onesided else 1))


@rule("_fft_c2r")
def complex_to_real(out: Tensor, dim: Sequence[int]) -> int:
    """Half the cost of a complex transform of that length."""
    return round(_transforms(out, dim) / 2)
