"""BK-Core on the CPU: cyclic reduction and linear recurrences in complex128, O(N) work.

Notation: a row is the matrix `T - zI` with diagonal `alpha_i = a_i - z` and couplings
`k_i = b_i c_i` (only the products of the off-diagonals matter). `G_i` is the diagonal of its
inverse, and `X_i = G_{i,i+1} / -b_i = G_{i+1,i} / -c_i`, which both directions share.

Cyclic reduction (R. W. Hockney, 1965), as selected inversion: eliminating every odd unknown o
between its even neighbours l and r leaves a system of half the size,

    alpha_l -= k_l / alpha_o,  alpha_r -= k_r / alpha_o,  k' = k_l k_r / alpha_o^2,

and from that system's G and X come the eliminated ones, with `L = k_l/alpha_o`, `R = k_r/alpha_o`:

    X_l = (G_l + R X') / alpha_o,  X_o = (G_r + L X') / alpha_o,  G_o = 1/alpha_o + L X_l + R X_o.

A row is cut into chunks, and chunks are laid side by side as lanes, so that each step is one
vectorised operation over contiguous lanes. Eliminating a chunk down to its first unknown leaves
a row of one unknown per chunk: the same problem, shorter.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_CHUNK = 64
_BLOCK = 1 << 16
"""Elements worked on at once; three complex128 arrays of this size stay in cache."""


def green(he_diag: Tensor, couplings: Tensor, z: complex) -> tuple[Tensor, Tensor]:
    """The diagonal G of `(T - zI)^-1` and the couplings' factors X.

    Args:
        he_diag: Diagonal `(B, N)`, N at least 1.
        couplings: `k (B, N)`, float64; the last column is 0.
        z: The shift; its imaginary part is not 0.

    Returns:
        G and X, complex128 `(B, N)`; the last column of X means nothing.
    """
    rows, length = he_diag.shape
    step = max(1, _BLOCK // length)
    if rows <= step:
        return _solve(he_diag, couplings, z)
    parts = [
        _solve(he_diag[row : row + step], couplings[row : row + step], z)
        for row in range(0, rows, step)
    ]
    diagonals, factors = zip(*parts, strict=True)
    return torch.cat(diagonals), torch.cat(factors)


def exact_gradient(
    diagonal: Tensor, factors: Tensor, couplings: Tensor, incoming: Tensor
) -> tuple[Tensor, Tensor]:
    """`S_j = sum_i h_i G_ij G_ji` and `dL/dk_j`, the two sums every gradient is made of.

    With `t_i = k_i X_i^2 / (G_i G_{i+1})` and `w = G h` they follow from two linear recurrences,
    `u_{i+1} = w_{i+1} + t_i u_i` and `v_i = w_i + t_i v_{i+1}`:
    `S = G (u + v - w)`, `dL/dk_i = X_i (u_i + v_{i+1})`.

    Args:
        diagonal: G, complex128 `(B, N)`.
        factors: X, complex128 `(B, N)`.
        couplings: `k (B, N)`, float64; the last column is 0.
        incoming: `h = conj(dL/dRe G + i dL/dIm G)`, complex128 `(B, N)`.
    """
    rows = diagonal.shape[0]
    source = diagonal * incoming
    link = (factors * factors * couplings)[:, :-1] / (diagonal[:, :-1] * diagonal[:, 1:])
    forward, backward = pad(link, (1, 0)), pad(link.flip(1), (1, 0))
    sums = _recur(torch.cat([forward, backward]), torch.cat([source, source.flip(1)]))
    u, v = sums[:rows], sums[rows:].flip(1)
    return diagonal * (u + v - source), factors[:, :-1] * (u[:, :-1] + v[:, 1:])


def _chunk_length(length: int) -> int:
    return min(_CHUNK, 1 << (length - 1).bit_length())


def _lanes(x: Tensor, chunk: int, filler: float) -> Tensor:
    """`(R, n)` to `(chunk, R * chunks)`: element s of each chunk in row s."""
    return pad(x, (0, -x.shape[1] % chunk), value=filler).reshape(-1, chunk).t()


def _solve(diagonal: Tensor, couplings: Tensor, z: complex) -> tuple[Tensor, Tensor]:
    """`green` for rows that are worked on together."""
    rows, length = diagonal.shape
    if length == 1:
        inverse = (diagonal.to(torch.complex128) - z).reciprocal()
        return inverse, torch.zeros_like(inverse)
    chunk = _chunk_length(length)
    alpha, k = _lanes(diagonal, chunk, 1.0), _lanes(couplings, chunk, 0.0)
    lanes = alpha.shape[1]
    width = max(1, _BLOCK // chunk)
    blocks = [slice(start, min(start + width, lanes)) for start in range(0, lanes, width)]
    reduced = torch.empty(3, lanes, dtype=torch.complex128)
    for block in blocks:
        eliminated = _Chunks(alpha[:, block], k[:, block], z)
        reduced[:, block] = eliminated.reduced
    firsts, links, spills = reduced.view(3, rows, -1)
    firsts[:, 1:] -= spills[:, :-1]
    outer_diagonal, outer_factors = _solve(firsts, links, 0.0)
    following = pad(outer_diagonal[:, 1:], (0, 1)).flatten()
    first, factor = outer_diagonal.flatten(), outer_factors.flatten()
    result = torch.empty(2, lanes, chunk, dtype=torch.complex128)
    for block in blocks:
        if len(blocks) > 1:  # eliminating again costs less than keeping it in memory
            eliminated = _Chunks(alpha[:, block], k[:, block], z)
        eliminated.substitute(first[block], following[block], factor[block])
        result[0, block] = eliminated.inverse[:-1].t()
        result[1, block] = eliminated.right.t()
    inverse, factors = result.view(2, rows, -1)[:, :, :length]
    return inverse, factors


class _Chunks:
    """Chunks side by side, `(chunk, lanes)`, eliminated down to their first unknowns.

    Attributes:
        reduced: `(3, lanes)`: the first unknown's alpha, its coupling to the next chunk's first,
            and what the elimination takes from that next alpha.
        inverse: `(chunk + 1, lanes)`: `1/alpha_o` of the eliminated; G once substituted.
        right: `(chunk, lanes)`: R of the eliminated; X once substituted.
        left: `(chunk, lanes)`: L of the eliminated.
    """

    def __init__(self, alpha: Tensor, couplings: Tensor, z: complex) -> None:
        self.chunk, lanes = alpha.shape
        self.inverse = torch.empty(self.chunk + 1, lanes, dtype=torch.complex128)
        self.inverse[:-1].copy_(alpha).sub_(z)
        self.right = torch.empty(self.chunk, lanes, dtype=torch.complex128).copy_(couplings)
        self.left = torch.empty_like(self.right)
        spill = torch.zeros_like(self.right[0])
        gap = 1
        while gap < self.chunk:
            even, odd = self._level(gap)
            torch.div(1.0, self.inverse[odd], out=self.inverse[odd])
            torch.mul(self.right[even], self.inverse[odd], out=self.left[odd])
            self.right[odd] *= self.inverse[odd]
            self.inverse[even] -= self.left[odd]
            self.inverse[even][1:] -= self.right[odd][:-1]
            spill += self.right[odd][-1]
            torch.mul(self.left[odd], self.right[odd], out=self.right[even])
            gap *= 2
        self.reduced = torch.stack([self.inverse[0], self.right[0], spill])

    def substitute(self, first: Tensor, following: Tensor, factor: Tensor) -> None:
        """From each chunk's first G, the following chunk's, and the X between, all G and X."""
        self.inverse[0], self.inverse[-1], self.right[0] = first, following, factor
        gap = self.chunk // 2
        while gap:
            even, odd = self._level(gap)
            ends = self.inverse[:: 2 * gap]
            x, left, right = self.right[even], self.left[odd], self.right[odd]
            x_right = torch.addcmul(ends[1:], left, x).mul_(self.inverse[odd])
            torch.addcmul(ends[:-1], right, x, out=x).mul_(self.inverse[odd])
            self.inverse[odd].addcmul_(left, x).addcmul_(right, x_right)
            right.copy_(x_right)
            gap //= 2

    def _level(self, gap: int) -> tuple[slice, slice]:
        return slice(0, self.chunk, 2 * gap), slice(gap, self.chunk, 2 * gap)


def _recur(coefficients: Tensor, source: Tensor) -> Tensor:
    """`p_j = source_j + coefficients_j p_{j-1}` along each row `(R, n)`, complex128.

    Each chunk is summed up to its last element, the chunks' ends are the same recurrence over a
    shorter row, and from a chunk's entry value its inner elements follow (G. E. Blelloch, Prefix
    sums and their applications, 1990).
    """
    rows, length = source.shape
    if length == 1:
        return source
    chunk = _chunk_length(length)
    lanes = rows * -(-length // chunk)
    p = source.new_empty(chunk + 1, lanes)
    p[1:] = _lanes(source, chunk, 0.0)
    c = source.new_empty(chunk + 1, lanes)
    c[1:] = _lanes(coefficients, chunk, 0.0)
    gap = 1
    while gap < chunk:
        p[2 * gap :: 2 * gap].addcmul_(c[2 * gap :: 2 * gap], p[gap :: 2 * gap])
        c[2 * gap :: 2 * gap] *= c[gap :: 2 * gap]
        gap *= 2
    ends = _recur(c[-1].view(rows, -1), p[-1].view(rows, -1))
    p[0] = pad(ends[:, :-1], (1, 0)).flatten()
    p[-1] = ends.flatten()
    while gap > 1:
        gap //= 2
        p[gap :: 2 * gap].addcmul_(c[gap :: 2 * gap], p[0 : -1 : 2 * gap])
    return p[1:].t().reshape(rows, -1)[:, :length]
