"""The two approximate gradients of BK-Core, each element by itself; any device.

Conjugates are computed (`conj_physical`) and not only marked by the conjugate bit (`conj`): inside
a custom operator that `torch.compile` calls, the bit is never resolved.
"""

from __future__ import annotations

import torch
from torch import Tensor

SQUARE_FLOOR = 1e-3
"""`|G^2|` is held above this where hypothesis-7 divides by it."""


def diagonal_gradient(incoming: Tensor, green: Tensor) -> Tensor:
    """`-Re(conj(g) G^2)`: the exact gradient of a matrix without off-diagonals.

    Args:
        incoming: `g = dL/dRe G + i dL/dIm G`, complex `(B, N)`.
        green: G, complex `(B, N)`.
    """
    return _diagonal(incoming, green * green)


def hybrid_gradient(incoming: Tensor, green: Tensor, blend: float) -> Tensor:
    """`(1 - blend) * diagonal + blend * hypothesis7`, with hypothesis-7 `-Re(g / G^2)`.

    `|G^2|` is held above `SQUARE_FLOOR`, its phase kept.
    """
    square = green * green
    size = square.abs().clamp_min(torch.finfo(square.dtype).tiny)
    held = square * (size.clamp_min(SQUARE_FLOOR) / size)
    hypothesis7 = -(incoming / held).real
    return (1 - blend) * _diagonal(incoming, square) + blend * hypothesis7


def _diagonal(incoming: Tensor, square: Tensor) -> Tensor:
    return -(incoming.conj_physical() * square).real
