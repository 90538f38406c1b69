"""BK-Core on the CPU: cyclic reduction and linear recurrences in complex128, O(N) work.

Notation: a row is the matrix `T - zI` with diagonal `alpha_i = a_i - z` and couplings
`k_i = b_i c_i` (only the products of the off-diagonals matter). `G_i` is the diagonal of its
inverse, and `X_i = G_{i,i+1} / -b_i = G_{i+1,i} / -c_i`, which both directions share.

A row is cut into chunks of S elements and the chunks of all rows are laid side by side, as lanes:
`(S, lanes)`, `lanes = B * ceil(N / S)`. Each step is then one vectorised operation over
contiguous lanes. The last chunk of a row is filled up with decoupled elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LONGEST_CHUNK = 64
_BLOCK = 1 << 16
"""Elements worked on at once: few enough for the cache, many enough to hide call overhead."""


def state_shape(batch: int, length: int) -> tuple[int, int, int]:
    """The shape of G and X as they are kept for the gradient: `(2, S, lanes)`."""
    chunk = _chunk_length(length)
    return 2, chunk, batch * -(-length // chunk)


def green(he_diag: Tensor, couplings: Tensor, z: complex, state: Tensor | None) -> Tensor:
    """The diagonal G of `(T - zI)^-1`.

    Args:
        he_diag: Diagonal `(B, N)`, both at least 1.
        couplings: `k (B, N)`, float64; the last column is 0.
        z: The shift; its imaginary part is not 0.
        state: Where G and X are to be kept, complex128 `state_shape(B, N)`; None keeps nothing.

    Returns:
        `(B, N)`, complex64 for a float32 diagonal, complex128 for float64.
    """
    batch, length = he_diag.shape
    chunk = _chunk_length(length)
    dtype = torch.complex64 if he_diag.dtype == torch.float32 else torch.complex128
    result = torch.empty(state_shape(batch, length)[2], chunk, dtype=dtype)
    least, most = (float(k) for k in torch.aminmax(couplings))
    refine = max(-least, most) > z.imag * z.imag
    for rows, lanes in _row_blocks(batch, length):
        kept = None if state is None else state[:, :, lanes]
        if refine and kept is None:
            kept = torch.empty(2, chunk, lanes.stop - lanes.start, dtype=torch.complex128)
        _solve(he_diag[rows], couplings[rows], z, _keeper(result[lanes], kept))
        if refine and kept is not None:
            _refine(kept, he_diag[rows], couplings[rows], z)
            result[lanes] = kept[0].to(result.dtype).t()
    return _rows(result, batch, length)


def _keeper(result: Tensor, kept: Tensor | None) -> Callable[[slice, _Chunks], None]:
    def keep(block: slice, chunks: _Chunks) -> None:
        result[block] = chunks.inverse[:-1].to(result.dtype).t()
        if kept is not None:
            kept[0, :, block], kept[1, :, block] = chunks.inverse[:-1], chunks.right

    return keep


def exact_gradient(
    state: Tensor, couplings: Tensor, incoming: Tensor, factors_too: bool
) -> tuple[Tensor, Tensor]:
    """`S_j = sum_i h_i G_ij G_ji` and `dL/dk_j`, the two sums every gradient is made of.

    With `t_i = k_i X_i^2 / (G_i G_{i+1})` and `w = G h` they follow from two linear recurrences,
    `u_{i+1} = w_{i+1} + t_i u_i` and `v_i = w_i + t_i v_{i+1}`:
    `S = G (u + v - w)`, `dL/dk_i = X_i (u_i + v_{i+1})`.

    Args:
        state: G and X as `green` kept them.
        couplings: `k (B, N)`, float64; the last column is 0.
        incoming: `h = conj(dL/dRe G + i dL/dIm G)`, complex `(B, N)`.
        factors_too: Whether `dL/dk` is wanted; it is empty if not.

    Returns:
        Both `(B, N)` in the dtype of `incoming`; the last column of the second means nothing.
    """
    batch, length = couplings.shape
    chunk, lanes = state.shape[1:]
    sums = incoming.new_empty(lanes, chunk)
    slopes = incoming.new_empty(lanes if factors_too else 0, chunk)
    for rows, here in _row_blocks(batch, length):
        diagonal, factors = state[:, :, here]
        number = rows.stop - rows.start
        source, u, to_u, v, to_v = _recurrences(
            diagonal,
            factors,
            _lanes(couplings[rows], chunk, 0.0),
            _lanes(incoming[rows], chunk, 0.0),
            number,
        )
        _accumulate(u, to_u, number, _Downwards(chunk))
        _accumulate(v, to_v, number, _Upwards(chunk))
        if factors_too:
            slope = torch.add(u[1:], v[1:], out=to_u[1:]).mul_(factors)
            slopes[here] = slope.to(slopes.dtype).t()
        total = u[1:].add_(v[:-1]).sub_(source[:-1]).mul_(diagonal)
        sums[here] = total.to(sums.dtype).t()
    return _rows(sums, batch, length), _rows(slopes, batch if factors_too else 0, length)


def _recurrences(diagonal: Tensor, factors: Tensor, k: Tensor, h: Tensor, rows: int) -> Tensor:
    """`w`, and for u and for v the sources w and the coefficients t: `(5, S + 1, lanes)`.

    Elements are rows 0 to S-1 of w and of v's pair, rows 1 to S of u's pair.
    """
    chunk, lanes = diagonal.shape
    source, u, to_u, v, to_v = work = diagonal.new_empty(5, chunk + 1, lanes)
    source[:-1].copy_(h).mul_(diagonal)
    u[1:], v[:-1] = source[:-1], source[:-1]
    link, squares = to_v[:-1], to_u[1:]
    torch.mul(diagonal[:-1], diagonal[1:], out=link[:-1])
    torch.mul(diagonal[-1], _following(diagonal[0], rows, 1.0), out=link[-1])
    torch.mul(factors, factors, out=squares).mul_(k)
    torch.div(squares, link, out=link)
    to_u[2:], to_u[1] = link[:-1], _preceding(link[-1], rows)
    return work


def _chunk_length(length: int) -> int:
    return min(_LONGEST_CHUNK, 1 << max(length - 1, 0).bit_length())


def _lanes(x: Tensor, chunk: int, filler: float) -> Tensor:
    """`(R, n)` to `(S, lanes)`."""
    return pad(x, (0, -x.shape[1] % chunk), value=filler).reshape(-1, chunk).t()


def _rows(lanes: Tensor, rows: int, length: int) -> Tensor:
    """`(lanes, S)` to `(R, n)`."""
    return lanes.view(rows, lanes.numel() // rows if rows else length)[:, :length]


def _row_blocks(batch: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Rows to be worked on together, and their lanes."""
    chunks = -(-length // _chunk_length(length))
    step = max(1, _BLOCK // length)
    for start in range(0, batch, step):
        stop = min(start + step, batch)
        yield slice(start, stop), slice(start * chunks, stop * chunks)


def _solve(
    diagonal: Tensor, couplings: Tensor, z: complex, keep: Callable[[slice, _Chunks], None]
) -> None:
    """Hands G and X of every chunk to `keep`, block by block of lanes.

    Eliminating each chunk down to its first element leaves a row with one element per chunk: the
    same problem, shorter.
    """
    rows, length = diagonal.shape
    chunk = _chunk_length(length)
    alpha, k = _lanes(diagonal, chunk, 1.0), _lanes(couplings, chunk, 0.0)
    lanes = alpha.shape[1]
    width = max(1, _BLOCK // chunk)
    blocks = [slice(start, min(start + width, lanes)) for start in range(0, lanes, width)]
    reduced = torch.empty(3, lanes, dtype=torch.complex128)
    for block in blocks:
        chunks = _Chunks(alpha[:, block], k[:, block], z)
        reduced[:, block] = chunks.eliminate()
    first, following, factors = _solve_reduced(*reduced.view(3, rows, -1))
    for block in blocks:
        if len(blocks) > 1:  # eliminating again costs less than keeping it in memory
            chunks = _Chunks(alpha[:, block], k[:, block], z)
            chunks.eliminate()
        chunks.substitute(first[block], following[block], factors[block])
        keep(block, chunks)


def _solve_reduced(alpha: Tensor, links: Tensor, spills: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """G of each chunk's first element, of the next chunk's, and the X between them, by lane."""
    rows, chunks = alpha.shape
    alpha[:, 1:] -= spills[:, :-1]
    if chunks == 1:
        inverse, factors = alpha.reciprocal(), torch.zeros_like(alpha)
    else:
        inverse, factors = torch.empty(2, *alpha.shape, dtype=torch.complex128)
        chunk = _chunk_length(chunks)
        result = torch.empty(2, rows * -(-chunks // chunk), chunk, dtype=torch.complex128)

        def keep(block: slice, solved: _Chunks) -> None:
            result[0, block], result[1, block] = solved.inverse[:-1].t(), solved.right.t()

        _solve(alpha, links, 0.0, keep)
        inverse, factors = (_rows(half, rows, chunks) for half in result)
    return inverse.flatten(), pad(inverse[:, 1:], (0, 1)).flatten(), factors.flatten()


class _Chunks:
    """Chunks side by side, eliminated down to their first elements and back.

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
        """`(3, lanes)`: the first element's alpha, its coupling to the next chunk's first.

        And what the elimination takes from that next alpha.
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
        """From each chunk's first G, the following chunk's, and the X between, all G and X."""
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


def _following(firsts: Tensor, rows: int, filler: float) -> Tensor:
    """By lane, what the next chunk of the same row holds; the filler behind the last."""
    return pad(firsts.view(rows, -1)[:, 1:], (0, 1), value=filler).flatten()


def _preceding(lasts: Tensor, rows: int) -> Tensor:
    """By lane, what the chunk before it in the same row holds; 0 before the first."""
    return pad(lasts.view(rows, -1)[:, :-1], (1, 0)).flatten()


def _refine(state: Tensor, he_diag: Tensor, couplings: Tensor, z: complex) -> None:
    """One Newton step on the pivots, in place: undoes what cyclic reduction loses at small Im z.

    Every `alpha_o` may be as small as Im z, and level by level the rounding errors of `1/alpha_o`
    multiply. The pivots `d_j = alpha_j - k_{j-1} / d_{j-1}` forget their errors. With `f = 1/d`
    the step is `f_j += delta_j`, where `delta_j = f_j r_j + f_j^2 k_{j-1} delta_{j-1}` and
    `r_j = 1 - f_j (alpha_j - k_{j-1} f_{j-1})`; likewise `g = 1/e` from the right. Then
    `G_j = 1 / (alpha_j - k_{j-1} f_{j-1} - k_j g_{j+1})` and `X_j = G_j g_{j+1}`.
    """
    diagonal, factors = state
    rows, chunk = he_diag.shape[0], diagonal.shape[0]
    alpha = _lanes(he_diag, chunk, 1.0).to(torch.complex128).sub_(z)
    after = _lanes(couplings, chunk, 0.0).contiguous()
    before = torch.cat([_preceding(after[-1], rows).unsqueeze(0), after[:-1]])
    f, g = diagonal.new_empty(2, chunk + 1, diagonal.shape[1])
    torch.div(factors[:-1], diagonal[1:], out=f[1:-1])
    torch.div(factors[-1], _following(diagonal[0], rows, 1.0), out=f[-1])
    f[0] = _preceding(f[-1], rows)
    torch.div(factors, diagonal, out=g[1:])
    g[0] = _preceding(g[-1], rows)
    _newton(f, f[1:], f[:-1], alpha, before, rows, _Downwards(chunk))
    _newton(g, g[:-1], g[1:], alpha, after, rows, _Upwards(chunk))
    alpha -= before * f[:-1]
    alpha -= after * g[1:]
    torch.div(1.0, alpha, out=diagonal)
    torch.mul(diagonal, g[1:], out=factors)


def _newton(  # noqa: PLR0917
    pivots: Tensor,
    own: Tensor,
    neighbours: Tensor,
    alpha: Tensor,
    k: Tensor,
    rows: int,
    direction: _Downwards | _Upwards,
) -> None:
    """A Newton step on inverse pivots `(S + 1, lanes)`, `own` and `neighbours` views of them."""
    delta, c = torch.empty(2, *pivots.shape, dtype=torch.complex128)
    slope = torch.mul(own, k, out=c[direction.elements])
    residual = torch.addcmul(own * alpha, slope, neighbours, value=-1).neg_().add_(1.0)
    torch.mul(residual, own, out=delta[direction.elements])
    slope.mul_(own)
    _accumulate(delta, c, rows, direction)
    pivots += delta


class _Downwards:
    """Where a recurrence towards higher indices finds its operands in `(S + 1, lanes)`."""

    def __init__(self, chunk: int) -> None:
        self.entry, self.end, self.elements = 0, chunk, slice(1, None)

    def combine(self, gap: int) -> tuple[slice, slice]:
        return slice(2 * gap, None, 2 * gap), slice(gap, None, 2 * gap)

    def expand(self, gap: int) -> tuple[slice, slice]:
        return slice(gap, None, 2 * gap), slice(0, -1, 2 * gap)

    def entries(self, ends: Tensor) -> Tensor:
        return pad(ends[:, :-1], (1, 0))


class _Upwards:
    """Where a recurrence towards lower indices finds its operands in `(S + 1, lanes)`."""

    def __init__(self, chunk: int) -> None:
        self.entry, self.end, self.elements = chunk, 0, slice(0, -1)
        self._chunk = chunk

    def combine(self, gap: int) -> tuple[slice, slice]:
        return slice(0, self._chunk, 2 * gap), slice(gap, self._chunk, 2 * gap)

    def expand(self, gap: int) -> tuple[slice, slice]:
        return slice(gap, self._chunk, 2 * gap), slice(2 * gap, None, 2 * gap)

    def entries(self, ends: Tensor) -> Tensor:
        return pad(ends[:, 1:], (0, 1))


def _accumulate(p: Tensor, c: Tensor, rows: int, direction: _Downwards | _Upwards) -> None:
    """`p_j += c_j p_{j-1}` (upwards: `p_{j+1}`) along each row, in place; spoils c.

    Each chunk is summed up to its end, the chunks' ends are the same recurrence over a shorter
    row, and from a chunk's entry value its inner elements follow (G. E. Blelloch, Prefix sums and
    their applications, 1990).

    Args:
        p: `(S + 1, lanes)`: S elements and a row for the entry value. The entry values are
            always those of the neighbouring chunk, or 0.
        c: Coefficients, likewise.
        rows: Rows that the lanes make up.
        direction: Towards higher or lower indices.
    """
    chunk = p.shape[0] - 1
    gap = 1
    while gap < chunk:
        onto, of = direction.combine(gap)
        p[onto].addcmul_(c[onto], p[of])
        c[onto].mul_(c[of])
        gap *= 2
    ends = _accumulate_ends(
        p[direction.end].view(rows, -1), c[direction.end].view(rows, -1), direction
    )
    p[direction.entry], p[direction.end] = direction.entries(ends).flatten(), ends.flatten()
    while gap > 1:
        gap //= 2
        onto, of = direction.expand(gap)
        p[onto].addcmul_(c[onto], p[of])


def _accumulate_ends(
    source: Tensor, coefficients: Tensor, direction: _Downwards | _Upwards
) -> Tensor:
    """The recurrence over the chunks of each row, `(R, chunks)`."""
    rows, chunks = source.shape
    if chunks == 1:
        return source
    chunk = _chunk_length(chunks)
    inner = type(direction)(chunk)
    p, c = source.new_empty(2, chunk + 1, rows * -(-chunks // chunk))
    p[inner.elements] = _lanes(source, chunk, 0.0)
    c[inner.elements] = _lanes(coefficients, chunk, 0.0)
    _accumulate(p, c, rows, inner)
    return _rows(p[inner.elements].t().contiguous(), rows, chunks)
