"""The truths that BK-Core is held against: a dense inverse, and pivots in Python's own complex."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


def _matrix(a: Tensor, b: Tensor, c: Tensor, z: complex) -> Tensor:
    shifted = torch.diag_embed(a.to(torch.complex128) - z)
    return shifted + torch.diag_embed(b, 1) + torch.diag_embed(c, -1)


@pytest.fixture(scope="session")
def dense_green() -> Callable[[Tensor, Tensor, Tensor, complex], Tensor]:
    """The diagonal of a dense inverse: `(B, N)` complex128."""

    def dense(a: Tensor, b: Tensor, c: Tensor, z: complex) -> Tensor:
        return torch.linalg.inv(_matrix(a, b, c, z)).diagonal(dim1=-2, dim2=-1)

    return dense


@pytest.fixture(scope="session")
def pivot_green() -> Callable[[Tensor, Tensor, complex], Tensor]:
    """Pivots of one row, one element after the other, in double precision."""

    def pivots(a: Tensor, k: Tensor, z: complex) -> Tensor:
        alpha, couplings = [x - z for x in a.tolist()], [*k.tolist(), 0.0]
        left = [alpha[0]]
        for x, coupling in zip(alpha[1:], couplings, strict=False):
            left.append(x - coupling / left[-1])
        right, green = complex("inf"), []
        for x, d, coupling in zip(alpha[::-1], left[::-1], couplings[::-1], strict=True):
            right = x - coupling / right
            green.append(1 / (d + right - x))
        return torch.tensor(green[::-1], dtype=torch.complex128)

    return pivots
