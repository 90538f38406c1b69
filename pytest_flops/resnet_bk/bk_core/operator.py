"""`bk_core`: the diagonal of `(T - zI)^-1` of tridiagonal matrices, as one PyTorch operator.

`torch.ops.pytest_flops.bk_core` has a CPU and a CUDA path, a fake (meta) implementation, an
autograd formula, a vmap rule and a FLOP formula, and so have the operators of its backward.
"""

from __future__ import annotations

from dataclasses import dataclass
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flops.resnet_bk.config import Gradient

SQUARE_FLOOR = 1e-3
"""`|G^2|` is held above this where hypothesis-7 divides by it."""


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


@torch.library.custom_op("pytest_flops::bk_core", mutates_args=(), device_types=("cpu", "cuda"))
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
    if he_diag.is_cuda:
        from pytest_flops.resnet_bk.bk_core import triton as bk_triton  # only where there is CUDA

        return bk_triton.green(he_diag, h0_super, h0_sub, z), state
    kept = torch.view_as_complex(state) if keep_state else None
    green = bk_cpu.green(he_diag, h0_super, h0_sub, z, kept)
    return torch.view_as_real(green.contiguous()), state


def _empty_state(he_diag: Tensor, keep_state: bool) -> Tensor:
    batch, length = he_diag.shape
    kept, chunk, lanes = bk_cpu.state_shape(batch, length)
    shape = (kept, chunk, lanes if keep_state else 0, 2)
    return he_diag.new_empty(shape, dtype=torch.float64)


@_forward.register_fake
def _(he_diag: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *_, keep_state = others
    return he_diag.new_empty(*he_diag.shape, 2), _empty_state(he_diag, keep_state)


@torch.library.custom_op(
    "pytest_flops::bk_core_backward", mutates_args=(), device_types=("cpu", "cuda")
)
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

    The gradients of the off-diagonals and of z are empty unless asked for.
    """
    gradients = _empty_gradients(he_diag, off_diagonals, shift_too)
    if he_diag.numel() == 0:
        return gradients
    matrix = he_diag, h0_super, h0_sub, complex(*shift.tolist())
    if he_diag.is_cuda:
        from pytest_flops.resnet_bk.bk_core import triton as bk_triton  # only where there is CUDA

        to_alpha, slope = bk_triton.exact_gradient(*matrix, incoming, off_diagonals)
    else:
        kept = torch.view_as_complex(state)
        to_alpha, slope = bk_cpu.exact_gradient(*matrix, incoming, off_diagonals, kept)
    for_diagonal, for_super, for_sub, for_shift = gradients
    for_diagonal.copy_(to_alpha.real)
    if off_diagonals:
        torch.mul(slope[:, :-1], h0_sub, out=for_super)
        torch.mul(slope[:, :-1], h0_super, out=for_sub)
    if shift_too:  # alpha is a - z
        total = to_alpha.sum(1, dtype=torch.complex128)
        for_shift.copy_(torch.view_as_real(total.conj_physical().neg()))
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
    g, green = (torch.view_as_complex(x.contiguous()) for x in (incoming, features))
    return approximate_gradient(g, green, gradient, grad_blend)


def approximate_gradient(
    incoming: Tensor, green: Tensor, gradient: str, grad_blend: float
) -> Tensor:
    """An approximate gradient of the diagonal, each element by itself.

    With `g = dL/dRe G + i dL/dIm G`, `diagonal` is `-Re(conj(g) G^2)`, exact for a matrix without
    off-diagonals. `hybrid` is `(1 - blend) * diagonal + blend * hypothesis7`, with hypothesis-7
    `-Re(g / G^2)`, where `|G^2|` is held above `SQUARE_FLOOR`, its phase kept.
    """
    square = green * green
    # Computed and not only marked by the conjugate bit (`conj`): inside a custom operator that
    # `torch.compile` calls, the bit is never resolved.
    diagonal = -(incoming.conj_physical() * square).real
    if gradient == "diagonal":
        return diagonal
    size = square.abs().clamp_min(torch.finfo(square.dtype).tiny)
    held = square * (size.clamp_min(SQUARE_FLOOR) / size)
    hypothesis7 = -(incoming / held).real
    return (1 - grad_blend) * diagonal + grad_blend * hypothesis7


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


def _register_vmap(operator: Any, rows_of: Sequence[int], rows_of_results: Sequence[int]) -> None:
    """Let `vmap` call an operator once, with the rows of all samples.

    Args:
        operator: Its first arguments are tensors with rows, the next one is the shift.
        rows_of: The dimension of each of these tensors that grows with the number of rows.
        rows_of_results: Likewise of the results.
    """
    count = len(rows_of)

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        if in_dims[count] is not None:  # each sample has its own shift
            mapped = list(zip(args, in_dims, strict=True))
            samples = [
                operator(*(x if d is None else x.select(d, i) for x, d in mapped))
                for i in range(size)
            ]
            stacked = tuple(torch.stack(outputs) for outputs in zip(*samples, strict=True))
            return stacked, (0,) * len(stacked)
        tensors = zip(args[:count], in_dims[:count], rows_of, strict=True)
        results = operator(*(_merge(x, d, rows, size) for x, d, rows in tensors), *args[count:])
        parts = zip(results, rows_of_results, strict=True)
        return (
            tuple(x.unflatten(rows, (size, x.shape[rows] // size)) for x, rows in parts),
            tuple(rows_of_results),
        )

    operator.register_vmap(rule)


_register_vmap(_forward, (0, 0, 0), (0, _STATE_LANES))
_register_vmap(_exact_backward, (0, _STATE_LANES, 0, 0, 0), (0, 0, 0, 0))


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
    _incoming: Any, _state: Any, he_diag: tuple[int, int], *others: Any, **_kwargs: Any
) -> int:
    *_, off_diagonals, shift_too = others
    return backward_flops(*he_diag, off_diagonals=off_diagonals, shift=shift_too)


@register_flop_formula(torch.ops.pytest_flops.bk_core_approximate_backward)
def _approximate_backward_flop(
    _incoming: Any, features: tuple[int, int, int], gradient: Gradient, *_args: Any, **_kwargs: Any
) -> int:
    return backward_flops(*features[:2], gradient)


@dataclass(frozen=True)
class BKCoreOnDevice:
    """BK-Core on one device, for tests over all devices; tensors are moved there first."""

    device: str

    def __call__(
        self,
        he_diag: Tensor,
        h0_super: Tensor,
        h0_sub: Tensor,
        z: complex | Tensor,
        **options: Any,
    ) -> Tensor:
        """As `pytest_flops.bk_core`."""
        device = self.device
        return bk_core(he_diag.to(device), h0_super.to(device), h0_sub.to(device), z, **options)
