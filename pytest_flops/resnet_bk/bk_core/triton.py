"""BK-Core on CUDA: which Triton kernels run, over which tiles."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pytest_flops.resnet_bk.bk_core import triton_kernels as kernels

_LANES = 128
_LENGTH = 16
_MOST_PASSES = 5
_MOST_TILES = 1 << 13


def green(he_diag: Tensor, h0_super: Tensor, h0_sub: Tensor, z: complex) -> Tensor:
    """Features `(B, N, 2)` of a CUDA diagonal `(B, N)`, N at least 1, in its dtype."""
    features = torch.empty(*he_diag.shape, 2, dtype=he_diag.dtype, device=he_diag.device)
    _launch(he_diag, h0_super, h0_sub, z, out=features)
    return features


def exact_gradient(  # noqa: PLR0917
    he_diag: Tensor,
    h0_super: Tensor,
    h0_sub: Tensor,
    z: complex,
    incoming: Tensor,
    factors_too: bool,
) -> tuple[Tensor, Tensor]:
    """`dL/dalpha` as complex `(B, N)`, and `Re dL/dk (B, N)`, empty unless asked for."""
    slopes = torch.empty_like(incoming, memory_format=torch.contiguous_format)
    factors = torch.empty_like(he_diag, memory_format=torch.contiguous_format)
    factors = factors if factors_too else factors[:0]
    _launch(he_diag, h0_super, h0_sub, z, out=slopes, incoming=incoming, factors=factors)
    return torch.view_as_complex(slopes), factors


def warm_up(imaginary: float, coupling: float, dtype: torch.dtype) -> int:
    """After how many elements a pivot no longer depends on its start, to the rounding of `dtype`.

    In the hyperbolic metric of the half plane `Im d <= -y` two pivots are at most
    `ln(1 + k/y^2)` apart after one step, and every step shrinks that by `1 + y^2/k`.
    """
    if coupling == 0:
        return 1
    ratio = imaginary * imaginary / coupling
    if ratio < 1e-9:  # more elements than any row has, and 1/ratio may overflow
        return 1 << 40
    start = 2 * math.log1p(1 / ratio) / torch.finfo(dtype).eps
    return 1 + max(0, math.ceil(math.log(start) / math.log1p(ratio)))


def _launch(
    he_diag: Tensor,
    h0_super: Tensor,
    h0_sub: Tensor,
    z: complex,
    *,
    out: Tensor,
    incoming: Tensor | None = None,
    factors: Tensor | None = None,
) -> None:
    rows, length = he_diag.shape
    dual = incoming is not None
    shift = torch.tensor([z.real, z.imag], dtype=torch.float64).to(he_diag.device)
    matrix = (
        *(he_diag, *he_diag.stride()),
        *(h0_super, *h0_super.stride()),
        *(h0_sub, *h0_sub.stride()),
        *(shift, length),
        incoming.contiguous() if incoming is not None else out,
    )
    sizes = {"LANES": _LANES, "L": _LENGTH, "DUAL": dual}
    written = (out, out if factors is None else factors)
    stores = {"FACTORS": factors is not None and factors.numel() > 0}
    passes = _passes(z.imag, h0_super, h0_sub, he_diag.dtype)
    if passes is not None:
        inner = _LANES - 2 * (passes - 1)
        tiles = -(-length // (inner * _LENGTH))
        kernels.halo[(rows * tiles,)](*matrix, *written, tiles, PASSES=passes, **sizes, **stores)
        return
    tiles = -(-length // (_LANES * _LENGTH))
    entries = torch.zeros(2, rows * tiles, 4, dtype=he_diag.dtype, device=he_diag.device)
    if tiles > 1:
        _carry_over(matrix, entries, rows, tiles, sizes)
    kernels.scan[(rows * tiles,)](*matrix, *written, entries, rows, tiles, **sizes, **stores)


def _carry_over(
    matrix: tuple[Any, ...], entries: Tensor, rows: int, tiles: int, sizes: dict[str, Any]
) -> None:
    """Write the inverse pivots before and after every tile into `entries`."""
    if tiles > _MOST_TILES:
        longest = _MOST_TILES * _LANES * _LENGTH
        raise ValueError(f"he_diag has rows longer than {longest}, the limit on CUDA at this Im z")
    maps = torch.empty(2, rows * tiles, 16, dtype=entries.dtype, device=entries.device)
    kernels.summarise[(rows * tiles,)](*matrix, maps, rows, tiles, **sizes)
    padded = 1 << (tiles - 1).bit_length()
    kernels.carry[(rows,)](maps, entries, rows, tiles, TILES=padded, DUAL=sizes["DUAL"])


def _passes(imaginary: float, h0_super: Tensor, h0_sub: Tensor, dtype: torch.dtype) -> int | None:
    """How many passes over its lanes `halo` needs; None where `scan` is to be used.

    Reading the couplings synchronises with the device. If all rows are the same, one is read.
    """
    if h0_super.numel() == 0:
        return 1
    shared = h0_super.stride(0) == 0 and h0_sub.stride(0) == 0
    rows = slice(0, 1) if shared else slice(None)
    least, most = torch.stack(torch.aminmax(h0_super[rows] * h0_sub[rows])).tolist()
    if not (least >= 0 and math.isfinite(most)):
        return None
    passes = 1 + math.ceil(warm_up(imaginary, most, dtype) / _LENGTH)
    return passes if passes <= _MOST_PASSES else None
