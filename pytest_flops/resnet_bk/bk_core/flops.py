"""What BK-Core costs: the operator's FLOPs in closed form; imports no torch.

The rules are the meter's: a real operation is 1, complex addition 2, complex multiplication 6,
complex division 11, complex by real multiplication 2, a reduction 1 per real input element;
casts, views, conjugates and taking a part are 0. The algorithm counted is the pivot form written
out for one row of N elements, whatever the device really runs (the CPU's cyclic reduction does
more arithmetic to do it in parallel), so a count does not depend on the device.

Forward, `G_i = 1 / (d_i + e_i - alpha_i)`:

    k     = b * c                        (N-1) x 1        real
    alpha = a - z                            N x 2
    d_i   = alpha_i - k_{i-1} / d_{i-1}  (N-1) x (11 + 2)
    e_i   = alpha_i - k_i / e_{i+1}      (N-1) x (11 + 2)
    G     = 1 / (d + e - alpha)              N x (2 + 2 + 11)

    = 17 N + 27 (N-1)

Exact backward, from the kept k, d, e, G and the incoming `h = conj(dL/dG)`:

    t_i     = k_i / (d_i e_{i+1})        (N-1) x (6 + 11)
    w       = G h                            N x 6
    u_{i+1} = w_{i+1} + t_i u_i          (N-1) x (6 + 2)
    v_i     = w_i + t_i v_{i+1}          (N-1) x (6 + 2)
    S       = G (u + v - w)                  N x (2 + 2 + 6)
    dL/da   = -Re S                          N x 1

    = 17 N + 33 (N-1)

and, where they are asked for,

    dL/dz   = conj(sum S)                    N x 2
    dL/dk   = Re(G_i / e_{i+1} (u_i + v_{i+1}))    (N-1) x (11 + 2 + 6)
    dL/db, dL/dc = dL/dk c, dL/dk b      (N-1) x 2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import Gradient


def forward_flops(batch: int, length: int) -> int:
    """FLOPs of the features of `batch` rows of `length` elements."""
    return batch * (17 * length + 27 * max(length - 1, 0))


def backward_flops(
    batch: int,
    length: int,
    gradient: Gradient = "exact",
    *,
    off_diagonals: bool = False,
    shift: bool = False,
) -> int:
    """FLOPs of the gradient of the diagonal by one of the three rules.

    `diagonal` is `-Re(conj(g) G^2)`: a square 6, a product 6, a sign 1 per element. `hybrid` adds
    hypothesis-7, `-Re(g / held)` with `held = G^2 max(|G^2|, floor) / |G^2|` (modulus 1,
    the floor and one that keeps the quotient defined 2, quotient 1, scaling 2, division 11,
    sign 1), and the blend (two products, one sum). Only `exact` has gradients of the off-diagonals
    and of z (`shift`).
    """
    if gradient == "diagonal":
        return batch * 13 * length
    if gradient == "hybrid":
        return batch * 34 * length
    couplings = max(length - 1, 0)
    per_row = 17 * length + 33 * couplings
    return batch * (per_row + 21 * couplings * off_diagonals + 2 * length * shift)
