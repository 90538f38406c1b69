"""Autocast on fake tensors of the CPU, by the rules of CUDA's.

`torch.autocast("cuda")` does nothing without a GPU, and the CPU's autocast computes less in float32
than CUDA's: softmax, norms, exponentials and sums stay in half precision there. What CUDA's does
beyond the CPU's is read from the dispatcher, which holds the kernels of both in every build, and
done as `aten/src/ATen/autocast_mode.h` says. What it promotes to the widest type of its arguments
(`index_put`, `addcmul`, ...) stays as on the CPU.
"""

# ruff: noqa: SLF001 - the dispatcher has no public face

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch._ops import OpOverload
from torch.utils._pytree import tree_any, tree_map

from pytest_flops.counting.replacing import replaced

# Of CUDA's: what is cast to half precision, to the widest type, or asked for another result.
_NOT_IN_FLOAT32 = """
    _convolution convolution cudnn_convolution cudnn_convolution_transpose _cudnn_rnn
    _scaled_dot_product_flash_attention _thnn_fused_gru_cell _thnn_fused_lstm_cell gru_cell
    lstm_cell rnn_relu_cell rnn_tanh_cell addmv addr mv chain_matmul einsum linalg_multi_dot
    addcdiv addcmul atan2 bilinear cross dot vdot index_put scatter_add tensordot norm
    """.split()  # noqa: SIM905 - a list of these would be a page
_AUTOCAST = DispatchKeySet(DispatchKey.AutocastCPU)


@contextmanager
def autocast_like_cuda(library: Any, is_ours: Callable[[object], bool]) -> Iterator[None]:
    """While active, CUDA's autocast is the CPU's in this thread, and casts `is_ours` as CUDA's.

    Rules that libraries register for their own operators are not among them.
    """
    registered = torch._C._dispatch_get_registrations_for_dispatch_key
    for name in {*registered("AutocastCUDA")} - {*registered("AutocastCPU")}:
        packet, _, overload = name.removeprefix("aten::").partition(".")
        if name.startswith("aten::") and packet not in _NOT_IN_FLOAT32:
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(operator, _in_float32(operator, is_ours), "AutocastCPU")
    here = threading.get_ident()

    def made(
        make: Any, self: Any, device_type: str, dtype: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        if device_type == "cuda" and threading.get_ident() == here:
            device_type, dtype = "cpu", dtype or torch.get_autocast_dtype("cuda")
        make(self, device_type, dtype, *args, **kwargs)

    with replaced(torch.autocast, "__init__", made):
        yield


def _in_float32(operator: OpOverload, is_ours: Callable[[object], bool]) -> Callable[..., Any]:
    """An operator that casts its arguments, or is asked for a float32 if it can be."""
    names = [argument.name for argument in operator._schema.arguments]
    place = names.index("dtype") if "dtype" in names else None

    def cast(value: Any) -> Any:
        return value.float() if _is_cast(value) else value

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            if tree_any(is_ours, (args, kwargs)):
                if place is None:
                    args, kwargs = tree_map(cast, (args, kwargs))
                elif _is_cast(args[0]) and len(args) <= place:
                    kwargs.setdefault("dtype", torch.float32)
            return operator(*args, **kwargs)

    return run


def _is_cast(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
