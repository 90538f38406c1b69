"""BK-Core on the CPU, in complex128: O(N) work, vectorised operations only.

Notation: a row is the matrix `T - zI` with diagonal `alpha_i = a_i - z` and couplings
`k_i = b_i c_i` (only the products of the off-diagonals matter). `G_i` is the diagonal of its
inverse, and `X_i = G_{i,i+1} / -b_i = G_{i+1,i} / -c_i`, which both directions share.

Cyclic reduction (`cyclic_reduction`) gives G and X; where Im z is small it loses digits, which a
Newton step on the pivots restores. The exact gradient is two linear recurrences (`lanes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_flops.resnet_bk.bk_core.cyclic_reduction import BLOCK, Chunks, solve
from pytest_flops.resnet_bk.bk_core.lanes import (
    DOWNWARDS,
    UPWARDS,
    Direction,
    accumulate,
    chunk_length,
    following,
    preceding,
    to_lanes,
    to_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def state_shape(batch: int, length: int) -> tuple[int, int, int]:
    """The shape in which G and X are saved for the gradient: `(2, S, lanes)`."""
    chunk = chunk_length(length)
    return 2, chunk, batch * -(-length // chunk)


def green(
    he_diag: Tensor, h0_super: Tensor, h0_sub: Tensor, z: complex, state: Tensor | None
) -> Tensor:
    """The diagonal G of `(T - zI)^-1`, `(B, N)`; B and N are at least 1.

    It is complex64 for a float32 diagonal, complex128 for float64. `state`, where there is one,
    receives G and X, complex128 `state_shape(B, N)`.
    """
    batch, length = he_diag.shape
    chunk = chunk_length(length)
    couplings = _couplings(h0_super, h0_sub)
    dtype = torch.complex64 if he_diag.dtype == torch.float32 else torch.complex128
    result = torch.empty(state_shape(batch, length)[2], chunk, dtype=dtype)
    least, most = (float(k) for k in torch.aminmax(couplings))
    # Else |k| <= |alpha|^2 everywhere, and cyclic reduction loses too little to be worth a step.
    refine = max(-least, most) > z.imag * z.imag
    for rows, lanes in _row_blocks(batch, length):
        kept = None if state is None else state[:, :, lanes]
        if refine and kept is None:
            kept = torch.empty(2, chunk, lanes.stop - lanes.start, dtype=torch.complex128)
        solve(he_diag[rows], couplings[rows], z, _keeper(result[lanes], kept))
        if refine and kept is not None:
            _refine(kept, he_diag[rows], couplings[rows], z)
            result[lanes] = kept[0].to(result.dtype).t()
    return to_rows(result, batch, length)


def _keeper(result: Tensor, kept: Tensor | None) -> Callable[[slice, Chunks], None]:
    def keep(block: slice, chunks: Chunks) -> None:
        result[block] = chunks.inverse[:-1].to(result.dtype).t()
        if kept is not None:
            kept[0, :, block], kept[1, :, block] = chunks.inverse[:-1], chunks.right

    return keep


def exact_gradient(  # noqa: PLR0917
    he_diag: Tensor,
    h0_super: Tensor,
    h0_sub: Tensor,
    z: complex,
    incoming: Tensor,
    factors_too: bool,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """`dL/dalpha`, complex, and `Re dL/dk`, real: both `(B, N)`, every gradient follows from them.

    With `h = conj(dL/dG)`, `t_i = k_i X_i^2 / (G_i G_{i+1})` and `w = G h` they follow from two
    linear recurrences, `u_{i+1} = w_{i+1} + t_i u_i` and `v_i = w_i + t_i v_{i+1}`:
    `dL/dalpha = -G (u + v - w)`, `dL/dk_i = X_i (u_i + v_{i+1})`.

    The last column of `dL/dk` is undefined; all of it is empty without `factors_too`. `state` is as
    `green` kept it, and computed again if it is empty.
    """
    incoming = torch.view_as_complex(incoming.contiguous()).conj_physical()
    couplings = _couplings(h0_super, h0_sub)
    if not state.numel():
        state = state.new_empty(state_shape(*he_diag.shape))
        green(he_diag, h0_super, h0_sub, z, state)
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
            to_lanes(couplings[rows], chunk, 0.0),
            to_lanes(incoming[rows], chunk, 0.0),
            number,
        )
        accumulate(u, to_u, number, DOWNWARDS)
        accumulate(v, to_v, number, UPWARDS)
        if factors_too:
            slope = torch.add(u[1:], v[1:], out=to_u[1:]).mul_(factors)
            slopes[here] = slope.to(slopes.dtype).t()
        total = u[1:].add_(v[:-1]).sub_(source[:-1]).mul_(diagonal)
        sums[here] = total.to(sums.dtype).t()
    slopes = to_rows(slopes, batch if factors_too else 0, length)
    return to_rows(sums.neg_(), batch, length), slopes.real


def _couplings(h0_super: Tensor, h0_sub: Tensor) -> Tensor:
    """`k_i = b_i c_i`, float64 `(B, N)`, with a 0 at the end; expanded if all rows are the same."""
    batch, count = h0_super.shape
    shared = h0_super.stride(0) == 0 and h0_sub.stride(0) == 0
    rows = slice(0, 1) if shared else slice(None)
    b, c = h0_super[rows].to(torch.float64), h0_sub[rows].to(torch.float64)
    couplings = b.new_zeros(b.shape[0], count + 1)
    torch.mul(b, c, out=couplings[:, :-1])
    return couplings.expand(batch, -1)


def _recurrences(diagonal: Tensor, factors: Tensor, k: Tensor, h: Tensor, rows: int) -> Tensor:
    """`w`, and for u and for v the sources w and the coefficients t: `(5, S + 1, lanes)`.

    Elements are rows 0 to S-1 of w and of v's pair, rows 1 to S of u's pair: the layouts of
    `UPWARDS` and `DOWNWARDS`. Intermediate results are written into parts of the result that are
    filled later, so that no further memory is allocated.
    """
    chunk, lanes = diagonal.shape
    source, u, to_u, v, to_v = work = diagonal.new_empty(5, chunk + 1, lanes)
    source[:-1].copy_(h).mul_(diagonal)
    u[1:], v[:-1] = source[:-1], source[:-1]
    link, squares = to_v[:-1], to_u[1:]
    torch.mul(diagonal[:-1], diagonal[1:], out=link[:-1])
    torch.mul(diagonal[-1], following(diagonal[0], rows, 1.0), out=link[-1])
    torch.mul(factors, factors, out=squares).mul_(k)
    torch.div(squares, link, out=link)
    to_u[2:], to_u[1] = link[:-1], preceding(link[-1], rows)
    return work


def _refine(state: Tensor, he_diag: Tensor, couplings: Tensor, z: complex) -> None:
    """One Newton step on the pivots, in place: restores the digits that cyclic reduction loses.

    At small Im z every `alpha_o` may be as small as Im z, and the rounding errors of `1/alpha_o`
    multiply from level to level. In the recurrence `d_j = alpha_j - k_{j-1} / d_{j-1}` of the
    pivots, errors shrink instead. With `f = 1/d` the step is `f_j += delta_j`, where
    `delta_j = f_j r_j + f_j^2 k_{j-1} delta_{j-1}` and
    `r_j = 1 - f_j (alpha_j - k_{j-1} f_{j-1})`; likewise `g = 1/e` from the right. Then
    `G_j = 1 / (alpha_j - k_{j-1} f_{j-1} - k_j g_{j+1})` and `X_j = G_j g_{j+1}`.
    """
    diagonal, factors = state
    rows, (chunk, lanes) = he_diag.shape[0], diagonal.shape
    x = torch.empty(chunk, lanes, dtype=torch.float64)
    x.copy_(to_lanes(he_diag, chunk, 1.0)).sub_(z.real)
    links = torch.empty(chunk + 1, lanes, dtype=torch.float64)
    links[1:] = to_lanes(couplings, chunk, 0.0)
    links[0] = preceding(links[-1], rows)
    before, after = links[:-1], links[1:]
    f = diagonal.new_empty(chunk + 1, lanes)
    torch.div(factors[:-1], diagonal[1:], out=f[1:-1])
    torch.div(factors[-1], following(diagonal[0], rows, 1.0), out=f[-1])
    f[0] = preceding(f[-1], rows)
    _newton(f, x, z.imag, before, rows, DOWNWARDS)
    left = f[:-1].mul_(before)
    g = diagonal.new_empty(chunk + 1, lanes)
    torch.div(factors, diagonal, out=g[1:])
    g[0] = preceding(g[-1], rows)
    _newton(g, x, z.imag, after, rows, UPWARDS)
    right = torch.mul(g[1:], after, out=factors)
    diagonal.copy_(x).sub_(complex(0, z.imag)).sub_(left).sub_(right)
    torch.div(1.0, diagonal, out=diagonal)
    torch.mul(diagonal, g[1:], out=factors)


def _newton(  # noqa: PLR0917
    pivots: Tensor,
    x: Tensor,
    imaginary: float,
    k: Tensor,
    rows: int,
    direction: Direction,
) -> None:
    """A Newton step on inverse pivots `(S + 1, lanes)`, in place; alpha is `x - i imaginary`."""
    own, neighbours = pivots[direction.elements], pivots[direction.neighbours]
    delta, c = torch.empty(2, *pivots.shape, dtype=torch.complex128)
    slope = c[direction.elements].copy_(k).mul_(own)
    residual = delta[direction.elements].copy_(x).mul_(own)
    residual.sub_(own, alpha=complex(0, imaginary)).addcmul_(slope, neighbours, value=-1)
    residual.neg_().add_(1.0).mul_(own)
    slope.mul_(own)
    accumulate(delta, c, rows, direction)
    pivots += delta


def _row_blocks(batch: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Rows to be worked on together, and their lanes."""
    chunks = -(-length // chunk_length(length))
    step = max(1, BLOCK // length)
    for start in range(0, batch, step):
        stop = min(start + step, batch)
        yield slice(start, stop), slice(start * chunks, stop * chunks)
