"""Fourier transforms: 5 N log2 N, half of it where one side is real.

The conventional count of radix-2 (Cooley and Tukey 1965), as FFTW's benchmark uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod

from torch import Tensor

from pytest_flops.counting.costs.table import Rules


def _transform(signal: Tensor, dim: Sequence[int]) -> float:
    """Of every signal in the batch, over the dimensions `dim`, as complex numbers."""
    points = prod(signal.shape[d] for d in dim)
    return 5 * signal.numel() * log2(max(points, 1))


RULES: Rules = {
    "_fft_c2c": lambda out, dim: round(_transform(out, dim)),
    # `onesided` computes half of the spectrum
    "_fft_r2c": lambda self, dim, onesided: round(_transform(self, dim) / (2 if onesided else 1)),
    "_fft_c2r": lambda out, dim: round(_transform(out, dim) / 2),
}
