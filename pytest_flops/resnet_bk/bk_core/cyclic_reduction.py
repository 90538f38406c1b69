"""Cyclic reduction, the elimination behind BK-Core on the CPU; `cpu` has the notation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from pytest_flops.resnet_bk.bk_core.lanes import chunk_length, to_lanes, to_rows

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1 << 16
"""Elements worked on at once: few enough for the cache, many enough to hide call overhead."""


def solve(
    diagonal: Tensor, couplings: Tensor, z: complex, keep: Callable[[slice, Chunks], None]
) -> None:
    """Compute G and X of all chunks and call `keep` with them, one block of lanes at a time.

    Eliminating all elements of each chunk but the first leaves a row with one element per chunk:
    the same problem over a shorter row, solved by the same function.
    """
    rows, length = diagonal.shape
    chunk = chunk_length(length)
    alpha, k = to_lanes(diagonal, chunk, 1.0), to_lanes(couplings, chunk, 0.0)
    lanes = alpha.shape[1]
    width = max(1, BLOCK // chunk)
    blocks = [slice(start, min(start + width, lanes)) for start in range(0, lanes, width)]
    reduced = torch.empty(3, lanes, dtype=torch.complex128)
    for block in blocks:
        chunks = Chunks(alpha[:, block], k[:, block], z)
        reduced[:, block] = chunks.eliminate()
    first, following, factors = _reduced(*reduced.view(3, rows, -1))
    for block in blocks:
        if len(blocks) > 1:  # eliminating again costs less than keeping it in memory
            chunks = Chunks(alpha[:, block], k[:, block], z)
            chunks.eliminate()
        chunks.substitute(first[block], following[block], factors[block])
        keep(block, chunks)


def _reduced(alpha: Tensor, links: Tensor, spills: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """G of each chunk's first element, of the next chunk's, and the X between them, by lane."""
    rows, chunks = alpha.shape
    alpha[:, 1:] -= spills[:, :-1]
    if chunks == 1:
        inverse, factors = alpha.reciprocal(), torch.zeros_like(alpha)
    else:
        chunk = chunk_length(chunks)
        result = torch.empty(2, rows * -(-chunks // chunk), chunk, dtype=torch.complex128)

        def keep(block: slice, solved: Chunks) -> None:
            result[0, block], result[1, block] = solved.inverse[:-1].t(), solved.right.t()

        solve(alpha, links, 0.0, keep)
        inverse, factors = (to_rows(half, rows, chunks) for half in result)
    return inverse.flatten(), pad(inverse[:, 1:], (0, 1)).flatten(), factors.flatten()


class Chunks:
    """Chunks of rows, one per lane: elimination down to the first elements, and back substitution.

    Cyclic reduction (R. W. Hockney, 1965) as selected inversion: eliminating every odd element o
    between its even neighbours l and r leaves a system of half the size,

        alpha_l -= k_l / alpha_o,  alpha_r -= k_r / alpha_o,  k' = k_l k_r / alpha_o^2,

    and from that system's G and X' come, with `L = k_l / alpha_o` and `R = k_r / alpha_o`,

        X_l = (G_l + R X') / alpha_o,   X_o = (G_r + L X') / alpha_o,
        G_o = 1 / alpha_o + L X_l + R X_o.

    Attributes:
        inverse: `(S + 1, lanes)`, the last row for the next chunk's first element: alpha, then
            `1 / alpha_o` of the eliminated, then G.
        right: `(S, lanes)`: k, then R of the eliminated, then X.
        left: `(S, lanes)`: L of the eliminated.
    """

    def __init__(self, alpha: Tensor, couplings: Tensor, z: complex) -> None:
        self.chunk, lanes = alpha.shape
        buffers = torch.empty(3, self.chunk + 1, lanes, dtype=torch.complex128)
        self.inverse, self.right, self.left = buffers[0], buffers[1, :-1], buffers[2, :-1]
        self.inverse[:-1].copy_(alpha).sub_(z)
        self.right.copy_(couplings)

    def eliminate(self) -> Tensor:
        """Eliminate all elements but the first of each chunk.

        Returns:
            `(3, lanes)`: the first element's alpha, its coupling to the next chunk's first element,
            and what has to be subtracted from the alpha of that one.
        """
        spill = torch.zeros_like(self.right[0])
        gap = 1
        while gap < self.chunk:
            even, odd = self._level(gap)
            alpha, inverse = self.inverse[even], self.inverse[odd]
            k, right, left = self.right[even], self.right[odd], self.left[odd]
            torch.div(1.0, inverse, out=inverse)
            torch.mul(k, inverse, out=left)
            right.mul_(inverse)
            alpha.sub_(left)
            alpha[1:].sub_(right[:-1])
            spill.add_(right[-1])
            torch.mul(left, right, out=k)
            gap *= 2
        return torch.stack([self.inverse[0], self.right[0], spill])

    def substitute(self, first: Tensor, following: Tensor, factor: Tensor) -> None:
        """Compute all G and X from the first G of each chunk and of the next, and the X between."""
        self.inverse[0], self.inverse[-1], self.right[0] = first, following, factor
        gap = self.chunk // 2
        while gap:
            even, odd = self._level(gap)
            ends, inverse = self.inverse[:: 2 * gap], self.inverse[odd]
            x, right, left = self.right[even], self.right[odd], self.left[odd]
            x_odd = torch.addcmul(ends[1:], left, x).mul_(inverse)
            torch.addcmul(ends[:-1], right, x, out=x).mul_(inverse)
            inverse.addcmul_(left, x).addcmul_(right, x_odd)
            right.copy_(x_odd)
            gap //= 2

    def _level(self, gap: int) -> tuple[slice, slice]:
        return slice(0, self.chunk, 2 * gap), slice(gap, self.chunk, 2 * gap)
