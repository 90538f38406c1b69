"""`bk_core`: the diagonal of `(T - zI)^-1` of tridiagonal matrices, as one PyTorch operator.

`torch.ops.pytest_flops.bk_core` has a CPU and a CUDA path, a fake (meta) implementation, an
autograd formula, a vmap rule and a FLOP formula, and so have the operators of its backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from pytest_flops.resnet_bk.bk_core import cpu as bk_cpu
from pytest_flops.resnet_bk.bk_core.arguments import (
    as_shift,
    check_diagonal,
    check_rule,
    checked_shift,
    per_row,
)
from pytest_flops.resnet_bk.bk_core.flops import backward_flops, forward_flops
from pytest_flops.resnet_bk.bk_core.gradient import diagonal_gradient, hybrid_gradient

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import Gradient


def bk_core(
    he_diag: Tensor,
    h0_super: Tensor,
    h0_sub: Tensor,
    z: complex | Tensor,
    *,
    gradient: Gradient = "exact",
    grad_blend: float = 0.5,
    check_finite: bool = True,
) -> Tensor:
    """Real and imaginary part of `diag((T - zI)^-1)`, with T tridiagonal and real, in O(N).

    Accurate at any N where `h0_super * h0_sub >= 0`: then no pivot is smaller than `|Im z|`.
    Computed in complex128 on the CPU and in float32 or better on CUDA, whatever comes in; inside
    autocast too.

    Args:
        he_diag: Diagonal of T, `(B, N)`, floating point.
        h0_super: Superdiagonal `(N-1,)`, shared by the rows, or `(B, N-1)`.
        h0_sub: Subdiagonal, likewise.
        z: The shift, `Im z != 0`: a number, or a complex tensor without dimensions, which may
            require a gradient (on CUDA, reading it synchronises: keep it on the CPU).
        gradient: `exact`, or an approximation of the diagonal's gradient alone: `diagonal` or
            `hybrid`.
        grad_blend: Share of hypothesis-7 in `hybrid`, in [0, 1].
        check_finite: Refuse NaN and infinity in the matrix. On CUDA the check waits for the device;
            with False such an element spoils its own row only.

    Returns:
        `(B, N, 2)` in the dtype of `he_diag`; float32 for half and bfloat16.

    Raises:
        ValueError: An argument has a wrong shape, dtype, device or value; the message names it.
            (Values are checked where there are any: not on meta or fake tensors.)
    """
    check_diagonal(he_diag)
    check_rule(gradient, grad_blend, h0_super, h0_sub, z)
    dtype = torch.float64 if he_diag.dtype == torch.float64 else torch.float32
    arguments = (
        he_diag.to(dtype),
        per_row("h0_super", h0_super, he_diag).to(dtype),
        per_row("h0_sub", h0_sub, he_diag).to(dtype),
        as_shift(z),
    )
    differentiable = torch.is_grad_enabled() and any(a.requires_grad for a in arguments)
    keep_state = gradient == "exact" and differentiable and he_diag.device.type == "cpu"
    features: Tensor
    features, _ = torch.ops.pytest_flops.bk_core(
        *arguments, gradient, float(grad_blend), check_finite, keep_state
    )
    return features


def _couplings(h0_super: Tensor, h0_sub: Tensor) -> Tensor:
    """`k_i = b_i c_i`, float64 `(B, N)`, with a 0 at the end; expanded if all rows are the same."""
    batch, count = h0_super.shape
    shared = h0_super.stride(0) == 0 and h0_sub.stride(0) == 0
    rows = slice(0, 1) if shared else slice(None)
    b, c = h0_super[rows].to(torch.float64), h0_sub[rows].to(torch.float64)
    couplings = b.new_zeros(b.shape[0], count + 1)
    torch.mul(b, c, out=couplings[:, :-1])
    return couplings.expand(batch, -1)


@torch.library.custom_op("pytest_flops::bk_core", mutates_args=(), device_types="cpu")
def _forward(  # noqa: PLR0917 - an operator's schema
    he_diag: Tensor,
    h0_super: Tensor,
    h0_sub: Tensor,
    shift: Tensor,
    gradient: str,  # noqa: ARG001 - for autograd
    grad_blend: float,  # noqa: ARG001 - for autograd
    check_finite: bool,
    keep_state: bool,
) -> tuple[Tensor, Tensor]:
    """Features `(B, N, 2)`, and the state of the exact backward in the layout of `cpu.state_shape`.

    The state is empty unless `keep_state`: CUDA and the approximate gradients need none.
    """
    z = checked_shift(he_diag, h0_super, h0_sub, shift, check_finite)
    state = _empty_state(he_diag, keep_state)
    if he_diag.numel() == 0:
        return he_diag.new_empty(*he_diag.shape, 2), state
    kept = torch.view_as_complex(state) if keep_state else None
    green = bk_cpu.green(he_diag, _couplings(h0_super, h0_sub), z, kept)
    return torch.view_as_real(green.contiguous()), state


@_forward.register_kernel("cuda")
def _(
    he_diag: Tensor, h0_super: Tensor, h0_sub: Tensor, shift: Tensor, *others: Any
) -> tuple[Tensor, Tensor]:
    from pytest_flops.resnet_bk.bk_core import triton as bk_triton  # only where there is CUDA

    _gradient, _grad_blend, check_finite, keep_state = others
    z = checked_shift(he_diag, h0_super, h0_sub, shift, check_finite)
    state = _empty_state(he_diag, keep_state)
    if he_diag.numel() == 0:
        return he_diag.new_empty(*he_diag.shape, 2), state
    return bk_triton.green(he_diag, h0_super, h0_sub, z), state


def _empty_state(he_diag: Tensor, keep_state: bool) -> Tensor:
    batch, length = he_diag.shape
    kept, chunk, lanes = bk_cpu.state_shape(batch, length)
    shape = (kept, chunk, lanes if keep_state else 0, 2)
    return he_diag.new_empty(shape, dtype=torch.float64)


@_forward.register_fake
def _(he_diag: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *_, keep_state = others
    return he_diag.new_empty(*he_diag.shape, 2), _empty_state(he_diag, keep_state)


@torch.library.custom_op("pytest_flops::bk_core_backward", mutates_args=(), device_types="cpu")
def _exact_backward(  # noqa: PLR0917 - an operator's schema
    incoming: Tensor,
    state: Tensor,
    he_diag: Tensor,
    h0_super: Tensor,
    h0_sub: Tensor,
    shift: Tensor,
    off_diagonals: bool,
    shift_too: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the diagonal, both off-diagonals and, row by row, of (Re z, Im z).

    A state that was not kept is computed again. The gradients of the off-diagonals and of z are
    empty unless asked for.
    """
    gradients = _empty_gradients(he_diag, off_diagonals, shift_too)
    if he_diag.numel() == 0:
        return gradients
    h = torch.view_as_complex(incoming.contiguous()).conj_physical()
    k = _couplings(h0_super, h0_sub)
    kept = torch.view_as_complex(state)
    if not state.numel():
        kept = kept.new_empty(bk_cpu.state_shape(*he_diag.shape))
        bk_cpu.green(he_diag, k, complex(*shift.tolist()), kept)
    to_diagonal, to_couplings = bk_cpu.exact_gradient(kept, k, h, off_diagonals)
    for_diagonal, for_super, for_sub, for_shift = gradients
    for_diagonal.copy_(to_diagonal.real.neg())
    if off_diagonals:
        slope = to_couplings[:, :-1].real
        for_super.copy_(slope * h0_sub)
        for_sub.copy_(slope * h0_super)
    if shift_too:
        total = to_diagonal.sum(1, dtype=torch.complex128)
        for_shift.copy_(torch.view_as_real(total.conj_physical()))
    return gradients


@_exact_backward.register_kernel("cuda")
def _(
    incoming: Tensor, _state: Tensor, he_diag: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from pytest_flops.resnet_bk.bk_core import triton as bk_triton  # only where there is CUDA

    h0_super, h0_sub, shift, off_diagonals, shift_too = others
    gradients = _empty_gradients(he_diag, off_diagonals, shift_too)
    if he_diag.numel() == 0:
        return gradients
    z = complex(*shift.tolist())
    to_alpha, slope = bk_triton.exact_gradient(
        he_diag, h0_super, h0_sub, z, incoming, off_diagonals
    )
    for_diagonal, for_super, for_sub, for_shift = gradients
    for_diagonal.copy_(to_alpha[..., 0])
    if off_diagonals:
        torch.mul(slope[:, :-1], h0_sub, out=for_super)
        torch.mul(slope[:, :-1], h0_super, out=for_sub)
    if shift_too:
        total = to_alpha.sum(1, dtype=torch.float64)
        for_shift.copy_(torch.stack([-total[:, 0], total[:, 1]], dim=1))
    return gradients


def _empty_gradients(
    he_diag: Tensor, off_diagonals: bool, shift_too: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, length = he_diag.shape
    couplings = (batch, max(length - 1, 0) if off_diagonals else 0)
    return (
        he_diag.new_empty(batch, length),
        he_diag.new_empty(couplings),
        he_diag.new_empty(couplings),
        he_diag.new_zeros((batch, 2 if shift_too else 0), dtype=torch.float64),
    )


@_exact_backward.register_fake
def _(
    _incoming: Tensor, _state: Tensor, he_diag: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *_, off_diagonals, shift_too = others
    return _empty_gradients(he_diag, off_diagonals, shift_too)


@torch.library.custom_op("pytest_flops::bk_core_approximate_backward", mutates_args=())
def _approximate_backward(
    incoming: Tensor, features: Tensor, gradient: str, grad_blend: float
) -> Tensor:
    """The gradient of the diagonal by the rule `diagonal` or `hybrid`."""
    g = torch.view_as_complex(incoming.contiguous())
    green = torch.view_as_complex(features.contiguous())
    if gradient == "diagonal":
        return diagonal_gradient(g, green)
    return hybrid_gradient(g, green, grad_blend)


@_approximate_backward.register_fake
def _(_incoming: Tensor, features: Tensor, *_rule: Any) -> Tensor:
    return features.new_empty(features.shape[:2])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    he_diag, h0_super, h0_sub, shift, ctx.gradient, ctx.grad_blend, _, _ = inputs
    features, state = output
    ctx.mark_non_differentiable(state)
    ctx.set_materialize_grads(False)
    if ctx.gradient == "exact":
        ctx.save_for_backward(state, he_diag, h0_super, h0_sub, shift)
    else:
        ctx.save_for_backward(features)


def _differentiate(ctx: Any, incoming: Tensor | None, _state: None) -> tuple[Tensor | None, ...]:
    switches = (None, None, None, None)
    if incoming is None:
        return None, None, None, None, *switches
    if ctx.gradient != "exact":
        (features,) = ctx.saved_tensors
        rule = (ctx.gradient, ctx.grad_blend)
        approximate = torch.ops.pytest_flops.bk_core_approximate_backward
        return approximate(incoming, features, *rule), None, None, None, *switches
    _, *off_diagonals, shift_too = ctx.needs_input_grad[:4]
    for_diagonal, for_super, for_sub, for_shift = torch.ops.pytest_flops.bk_core_backward(
        incoming, *ctx.saved_tensors, any(off_diagonals), shift_too
    )
    return (
        for_diagonal,
        for_super if off_diagonals[0] else None,
        for_sub if off_diagonals[1] else None,
        for_shift.sum(0) if shift_too else None,
        *switches,
    )


def _refuse_double_backward(_ctx: Any, *_incoming: Tensor | None) -> None:
    raise RuntimeError(
        "double backward not supported: bk_core's gradient has no derivative of its own"
    )


_forward.register_autograd(_differentiate, setup_context=_save)
_exact_backward.register_autograd(_refuse_double_backward)
_approximate_backward.register_autograd(_refuse_double_backward)


_STATE_LANES = 2
"""The dimension of the state that grows with the number of rows."""


def _merge(x: Tensor, mapped: int | None, dim: int, size: int) -> Tensor:
    """Merge the mapped dimension of x (or `size` copies of x) into the front of `dim`."""
    moved = x.movedim(mapped, dim) if mapped is not None else x.unsqueeze(dim)
    shape = [*moved.shape]
    shape[dim] = size
    return moved.expand(shape).flatten(dim, dim + 1)


def _one_by_one(operator: Any, size: int, in_dims: Any, args: Any) -> tuple[Any, Any]:
    """Call the operator once for each sample, where z is mapped: each has its own shift."""
    results = [
        operator(*(x if d is None else x.select(d, i) for x, d in zip(args, in_dims, strict=True)))
        for i in range(size)
    ]
    stacked = tuple(torch.stack(outputs) for outputs in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


@_forward.register_vmap
def _(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    tensors, shift, rest = args[:3], args[3], args[4:]
    if in_dims[3] is not None:
        return _one_by_one(_forward, info.batch_size, in_dims, args)
    rows = [_merge(x, d, 0, info.batch_size) for x, d in zip(tensors, in_dims[:3], strict=True)]
    features, state = _forward(*rows, shift, *rest)
    lanes = (info.batch_size, state.shape[_STATE_LANES] // info.batch_size)
    batch = (info.batch_size, features.shape[0] // info.batch_size)
    mapped = features.unflatten(0, batch), state.unflatten(_STATE_LANES, lanes)
    return mapped, (0, _STATE_LANES)


@_exact_backward.register_vmap
def _(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    size = info.batch_size
    if in_dims[5] is not None:
        return _one_by_one(_exact_backward, size, in_dims, args)
    merged = (0, _STATE_LANES, 0, 0, 0)
    rows = [_merge(x, d, m, size) for x, d, m in zip(args[:5], in_dims[:5], merged, strict=True)]
    gradients = _exact_backward(*rows, *args[5:])
    return tuple(x.unflatten(0, (size, x.shape[0] // size)) for x in gradients), (0,) * 4


@_approximate_backward.register_vmap
def _(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    size = info.batch_size
    rows = [_merge(x, d, 0, size) for x, d in zip(args[:2], in_dims[:2], strict=True)]
    result = _approximate_backward(*rows, *args[2:])
    return result.unflatten(0, (size, result.shape[0] // size)), 0


@register_flop_formula(torch.ops.pytest_flops.bk_core)
def _forward_flop(he_diag: tuple[int, int], *_args: Any, **_kwargs: Any) -> int:
    return forward_flops(*he_diag)


@register_flop_formula(torch.ops.pytest_flops.bk_core_backward)
def _exact_backward_flop(
    _incoming: Any,
    _state: Any,
    he_diag: tuple[int, int],
    _h0_super: Any,
    _h0_sub: Any,
    _shift: Any,
    off_diagonals: bool,
    shift_too: bool,
    **_kwargs: Any,
) -> int:
    return backward_flops(*he_diag, off_diagonals=off_diagonals, shift=shift_too)


@register_flop_formula(torch.ops.pytest_flops.bk_core_approximate_backward)
def _approximate_backward_flop(
    _incoming: Any, features: tuple[int, int, int], gradient: Gradient, *_args: Any, **_kwargs: Any
) -> int:
    batch, length, _ = features
    return backward_flops(batch, length, gradient)
