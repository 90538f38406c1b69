"""Indices and masks keep their values in a step on fakes, where they decide shapes.

How many edges of a graph are left without its self-loops, or how many rows a mask chooses, follows
from the integers and booleans that a model is given. PyTorch's fakes keep the value of a tensor of
one element, as a constant beside the fake: an operator on constants alone is computed for real, and
any other operator forgets them. Here, small tensors of integers and booleans are such constants.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

# So that what is computed of them, as a mask of every pair, stays small as well.
_LARGEST_GIVEN = 10_000
_LARGEST_COMPUTED = 1 << 24
# They read shapes alone, and kernels of fakes return the tensors that they make as mere shapes.
_MADE_LIKE_ANOTHER = frozenset(
    getattr(torch.ops.aten, name).default
    for name in (
        *("new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros"),
        *("empty_like", "full_like", "ones_like", "zeros_like"),
    )
)


def keep_known_values(mode: FakeTensorMode) -> None:
    """Make the mode keep the values of small indices and masks, and of what is computed of them.

    Methods of the one mode are replaced: PyTorch looks up the rules of its higher-order operators
    by the class of the mode, and would find none for a class of our own.
    """
    run = mode.dispatch

    def dispatch(func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = run(func, types, args, kwargs)
        if func in _MADE_LIKE_ANOTHER and isinstance(out, FakeTensor):
            out.constant = None
        return out

    def may_turn_const(tensor: Tensor) -> bool:
        return (
            tensor.numel() <= _LARGEST_COMPUTED
            and tensor.layout == torch.strided
            and tensor.device.type != "meta"
            and not mode.is_our_fake(tensor)
        )

    mode.dispatch = dispatch  # type: ignore[method-assign]
    mode.may_turn_const = may_turn_const  # type: ignore[method-assign, assignment]


def fake_of(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A fake of the tensor, with its values if it is a small index or mask."""
    if not _is_index_or_mask(tensor):
        return cast("Tensor", mode.from_tensor(tensor.detach(), static_shapes=True))
    converter = mode.fake_tensor_converter
    return cast("Tensor", converter.from_real_tensor(mode, tensor.clone(), make_constant=True))


def _is_index_or_mask(tensor: Tensor) -> bool:
    return (
        type(tensor) is Tensor
        and not tensor.dtype.is_floating_point
        and not tensor.dtype.is_complex
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.numel() <= _LARGEST_GIVEN
    )
