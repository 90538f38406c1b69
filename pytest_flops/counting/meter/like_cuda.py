"""A step on fake tensors of the CPU, by the operators that it would run on CUDA.

Few functions of PyTorch choose their operators by the device. Each is decided here by the rules of
PyTorch's sources for CUDA, which are named with it. All callers meet the choice, whatever name they
imported the function by, since it is registered with the dispatcher for as long as a step runs;
only fakes of that step are affected. (A `TorchFunctionMode` would be off inside `Tensor.backward`,
where checkpointing repeats the forward.)

Of batch norms CUDA runs cuDNN's operator, with the same operands as the CPU's, which stays.
Recurrent layers, `ctc_loss` and functions under `torch.inference_mode` stay the CPU's too.
"""

# ruff: noqa: SLF001 - the operators that CUDA runs, and what chooses them, are private

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.optim import optimizer
from torch.utils import _foreach_utils as foreach_utils

from pytest_flops.counting.meter.autocast_like_cuda import autocast_like_cuda
from pytest_flops.counting.replacing import replaced

aten = torch.ops.aten
_FUSED_RMS_NORM = aten._fused_rms_norm.default
_COMPOSITE = DispatchKey.CompositeImplicitAutograd


@contextmanager
def like_cuda(mode: FakeTensorMode, *, on_gpu: bool) -> Iterator[None]:
    """While active, fakes of `mode` run CUDA's operators, and optimizers are `foreach` by default.

    Fakes of tensors `on_gpu` do so by themselves, but for the optimizers. Other threads are not
    affected, but for steps on fakes, of which there is one at a time.
    """
    reference = weakref.ref(mode)  # the dispatcher keeps a kernel until it gets another one

    def is_ours(value: object) -> bool:
        return isinstance(value, FakeTensor) and value.fake_mode is reference()

    with ExitStack() as undo:
        library = undo.enter_context(torch.library._scoped_library("aten", "IMPL"))
        for operator, kernel in _KERNELS.items():
            library.impl(operator, _where(is_ours, kernel, operator), "AutogradCPU")
        # It has a kernel, so the meter does not take it apart. Only real tensors ever reach it.
        library.impl(_FUSED_RMS_NORM, partial(_FUSED_RMS_NORM._op_dk, _COMPOSITE), "CPU")
        if not on_gpu:
            undo.enter_context(autocast_like_cuda(library, is_ours))
        undo.enter_context(_foreach_by_default())
        yield


def _where(
    is_ours: Callable[[object], bool], kernel: Callable[..., Any], operator: OpOverload
) -> Callable[..., Any]:
    """The kernel where the first argument is ours and it wants to; else what the CPU runs."""
    cpu = partial(operator._op_dk, _COMPOSITE)

    def run(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        out = kernel(first, *args, **kwargs) if is_ours(first) else None
        return cpu(first, *args, **kwargs) if out is None else out

    return run


@contextmanager
def _foreach_by_default() -> Iterator[None]:
    """While active, this thread's optimizers choose `foreach` for fakes of the CPU.

    Source: `_default_to_fused_or_foreach` of `torch/optim/optimizer.py`, and of gradient clipping
    `_has_foreach_support`, which also ask for the tensors' class.
    """
    here = threading.get_ident()

    def with_cpu(before: Callable[[], list[str]]) -> list[str]:
        return [*before(), *(["cpu"] if threading.get_ident() == here else [])]

    chooses: Any = optimizer
    kinds: list[list[Any]] = [
        chooses._foreach_supported_types,
        foreach_utils._foreach_supported_types,
    ]
    with replaced(chooses, "_get_foreach_kernels_supported_devices", with_cpu):
        for each in kinds:
            each.append(FakeTensor)
        try:
            yield
        finally:
            for each in kinds:
                each.remove(FakeTensor)


def _attention(  # noqa: PLR0917 - as the schema has them
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Flash, else memory-efficient attention, else the mathematical form.

    Query, key and value are (batch, heads, length, width). Source: `scaled_dot_product_attention`
    of `aten/src/ATen/native/transformers/attention.cpp`, and for the choice `select_sdp_backend` of
    `cuda/sdp_utils.cpp` there. Hopper and Blackwell prefer cuDNN's kernel to flash, over the same
    operands.
    """
    qkv = query, key, value
    out: Tensor
    if attn_mask is None and _takes_flash(*qkv, is_causal=is_causal, grouped=enable_gqa):
        width = query.shape[-1]
        scale = width**-0.5 if scale is None else scale
        padded = [F.pad(x, (0, -width % 8)) if width % 8 else x for x in qkv]
        flash = aten._scaled_dot_product_flash_attention
        out = flash(*padded, dropout_p, is_causal, scale=scale)[0]
        return out[..., :width] if width % 8 else out
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        nothing = torch.scalar_tensor(-torch.inf, dtype=query.dtype, device=query.device)
        attn_mask = torch.where(attn_mask, 0.0, nothing)
    if _takes_efficient(*qkv, attn_mask):
        trains = torch.is_grad_enabled() and any(x.requires_grad for x in qkv)
        bias = None if attn_mask is None else _aligned(attn_mask, query, key)
        efficient = aten._scaled_dot_product_efficient_attention
        out = efficient(*qkv, bias, trains, dropout_p, is_causal, scale=scale)[0]
        return out
    if not _enabled("math"):
        raise RuntimeError(
            "no kernel of CUDA's that is enabled and that like='cuda' knows (flash, efficient, "
            "math) takes this attention"
        )
    math = partial(aten._scaled_dot_product_attention_math, scale=scale, enable_gqa=enable_gqa)
    out = math(*qkv, attn_mask, dropout_p, is_causal)[0]
    return out


def _enabled(kernel: str) -> bool:
    """As `sdpa_kernel` and `torch.backends.cuda` have set it, which needs no GPU."""
    return bool(getattr(torch.backends.cuda, f"{kernel}_sdp_enabled")())


def _takes_flash(
    query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, grouped: bool
) -> bool:
    return (
        _enabled("flash")
        and _fit_kernels(query, key, value, _HALVES, grouped=grouped)
        and query.shape[-1] == key.shape[-1] == value.shape[-1] <= _WIDEST_OF_FLASH
        and not (is_causal and query.shape[-2] != key.shape[-2])
    )


def _takes_efficient(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    alignment = 8 if query.dtype in _HALVES else 4
    return (
        _enabled("mem_efficient")
        and _fit_kernels(query, key, value, _HALVES | {torch.float32}, grouped=False)
        and query.shape[-1] == key.shape[-1]
        and not (query.shape[-1] % alignment or value.shape[-1] % alignment)
        and (mask is None or mask.stride(-1) == 1)
    )


_HALVES = {torch.float16, torch.bfloat16}
_WIDEST_OF_FLASH = 256


def _fit_kernels(
    query: Tensor, key: Tensor, value: Tensor, kinds: set[torch.dtype], *, grouped: bool
) -> bool:
    """What flash and efficient attention both ask for; `grouped` is whether heads may differ."""
    tensors = (query, key, value)
    return (
        all(x.dim() == 4 for x in tensors)
        and len({x.dtype for x in tensors}) == 1
        and query.dtype in kinds
        and query.shape[0] == key.shape[0]
        and key.shape[:3] == value.shape[:3]
        and (grouped or query.shape[1] == key.shape[1])
        and query.shape[2] > 0
        and key.shape[2] > 0
        and all(x.stride(-1) == 1 for x in tensors)
    )


def _aligned(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """The mask for every head, (batch, heads, queries, keys); its rows begin at multiples of 16."""
    if any(stride % 16 for stride in mask.stride()[:-1]):
        keys = mask.shape[-1]
        mask = F.pad(mask, (0, 16 - keys % 16))[..., :keys]
    return mask.expand(*query.shape[:-1], key.shape[-2])


def _dropout(x: Tensor, p: float, train: bool) -> Tensor | None:
    """One operator instead of four. Source: `aten/src/ATen/native/Dropout.cpp`."""
    fused = train and 0 < p < 1 and x.numel() > 0
    return aten.native_dropout(x, p, train)[0] if fused else None


def _softmax(
    run: Callable[..., Tensor], x: Tensor, dim: int, dtype: torch.dtype | None = None
) -> Tensor | None:
    """Of float16 into float32, without a cast. Source: `aten/src/ATen/native/SoftMax.cpp`."""
    casts = x.dtype == torch.float16 and dtype == torch.float32
    return run(x, dim, casts) if casts else None


class _RMSNorm(torch.autograd.Function):
    """`aten._fused_rms_norm`, which on the CPU is a composite, as one operator; likewise backward.

    Source: `tools/autograd/derivatives.yaml`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shape: list[int], weight: Tensor | None, eps: float | None
    ) -> tuple[Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():  # else it is taken apart
            out, rstd = _FUSED_RMS_NORM(x, shape, weight, eps)
        ctx.save_for_backward(x, weight, rstd)
        ctx.shape = shape
        ctx.mark_non_differentiable(rstd)
        return out, rstd

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
        x, weight, rstd = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
        of_x, of_weight = aten._fused_rms_norm_backward(
            gradient, x, ctx.shape, rstd, weight, wanted
        )
        return of_x, None, of_weight, None


# `rms_norm` itself looks first whether the fused operator takes its arguments.
_KERNELS: Mapping[OpOverload, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: _attention,
    aten.dropout.default: _dropout,
    aten.softmax.int: partial(_softmax, aten._softmax),
    aten.log_softmax.int: partial(_softmax, aten._log_softmax),
    _FUSED_RMS_NORM: _RMSNorm.apply,
}
