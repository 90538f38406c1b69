"""What BK-Core accepts: every refusal is a ValueError that begins with the argument's name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pytest_flops.resnet_bk.config import check_gradient


def check_diagonal(he_diag: Tensor) -> None:
    """Refuse what is no batch of rows of real numbers."""
    _refuse_no_floats("he_diag", he_diag)
    if he_diag.ndim != 2:
        raise ValueError(f"he_diag must have shape (B, N), not {tuple(he_diag.shape)}")


def _refuse_no_floats(name: str, argument: Tensor) -> None:
    if not isinstance(argument, Tensor) or not argument.is_floating_point():
        found = getattr(argument, "dtype", type(argument).__name__)
        raise ValueError(f"{name} must be a floating-point tensor, not {found}")


def per_row(name: str, off_diagonal: Tensor, he_diag: Tensor) -> Tensor:
    """The off-diagonal as `(B, N-1)`; a shared one is expanded, not copied."""
    _refuse_no_floats(name, off_diagonal)
    if off_diagonal.device != he_diag.device:
        raise ValueError(f"{name} is on {off_diagonal.device}, he_diag on {he_diag.device}")
    batch, length = he_diag.shape
    accepted = ((max(length - 1, 0),), (batch, max(length - 1, 0)))
    if tuple(off_diagonal.shape) not in accepted:
        raise ValueError(
            f"{name} must have shape {accepted[0]} or {accepted[1]} beside a he_diag of "
            f"{tuple(he_diag.shape)}, not {tuple(off_diagonal.shape)}"
        )
    return off_diagonal.expand(accepted[1])


def as_shift(z: complex | Tensor) -> Tensor:
    """The shift as a float64 tensor (Re, Im); a number becomes a tensor on the CPU."""
    if isinstance(z, Tensor):
        if z.ndim != 0 or not z.is_complex():
            raise ValueError(
                f"z must be a complex number or a complex tensor without dimensions, not a "
                f"{z.dtype} tensor of shape {tuple(z.shape)}"
            )
        return torch.view_as_real(z).to(torch.float64)
    if isinstance(z, bool) or not isinstance(z, int | float | complex):
        raise ValueError(f"z must be a complex number, not {type(z).__name__}")
    return torch.tensor([z.real, z.imag], dtype=torch.float64)


def check_rule(
    gradient: str, grad_blend: float, h0_super: Tensor, h0_sub: Tensor, z: complex | Tensor
) -> None:
    """Refuse an unknown gradient rule, and gradients it does not define."""
    check_gradient(gradient, grad_blend)
    if gradient == "exact" or not torch.is_grad_enabled():
        return
    for name, argument in (("h0_super", h0_super), ("h0_sub", h0_sub), ("z", z)):
        if isinstance(argument, Tensor) and argument.requires_grad:
            raise ValueError(
                f"{name} requires a gradient, which gradient={gradient!r} does not define; "
                f"use gradient='exact'"
            )


def checked_shift(
    he_diag: Tensor, h0_super: Tensor, h0_sub: Tensor, shift: Tensor, check_finite: bool
) -> complex:
    """The shift as a number, once the values are known to be usable."""
    z = complex(*shift.tolist())
    if not (math.isfinite(z.real) and math.isfinite(z.imag)) or z.imag == 0:
        raise ValueError(f"z must be finite with Im z != 0, not {z}: T - zI may be singular")
    matrix = {"he_diag": he_diag, "h0_super": h0_super, "h0_sub": h0_sub}
    for name, argument in matrix.items() if check_finite else ():
        distinct = argument[:1] if argument.stride(0) == 0 else argument
        if not (distinct.sum().isfinite() or distinct.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity")
    return z
