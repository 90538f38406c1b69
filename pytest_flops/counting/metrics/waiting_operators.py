"""Which operators make the host wait for the device.

A rule names the argument whose values the host reads. Or it is a function, of what tells a tensor
of the device, and of the operator's arguments by the names of its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from pytest_flops.counting.costs.elements import tensors_in
from pytest_flops.counting.costs.table import Args, Kwargs, bound

if TYPE_CHECKING:
    from torch._ops import OpOverload

OfDevice: TypeAlias = Callable[[Any], bool]

# ruff: noqa: SLF001 - the names of many operators begin so

_aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)


def waits_of(
    operator: OpOverload, of_device: OfDevice
) -> Callable[[Args, Kwargs, Any], bool] | None:
    """Whether a call of an operator makes the host wait; `None` if none does."""
    waits = _WAITS.get(operator.overloadpacket)
    if isinstance(waits, str):
        return bound(partial(_reads, of_device), operator, {"value": waits})
    return waits and bound(partial(waits, of_device), operator)


def stands_for_device(tensor: Tensor) -> bool:
    """Whether a tensor is not on a device, but may stand for one there."""
    return tensor.is_cpu or tensor.is_meta


def _reads(of_device: OfDevice, value: Any) -> bool:
    return of_device(value)


def _where(of_device: OfDevice, condition: Tensor, self: Any = None) -> bool:
    """With a condition alone it is `nonzero`, and whole under `torch.inference_mode`."""
    return self is None and of_device(condition)


def _repeat_interleave(of_device: OfDevice, repeats: Any, output_size: int | None) -> bool:
    return output_size is None and of_device(repeats)


def _multinomial(of_device: OfDevice, self: Tensor, num_samples: int, replacement: bool) -> bool:
    # Several samples with replacement are drawn by one kernel, which checks nothing on the host.
    return of_device(self) and not (replacement and num_samples > 1)


def _index(of_device: OfDevice, indices: Sequence[Tensor | None]) -> bool:
    """A mask among the indices: how many elements it takes decides the shape."""
    return any(each.dtype in _MASKS and of_device(each) for each in tensors_in(indices))


def _index_put(
    of_device: OfDevice, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool
) -> bool:
    """As `_index`; but one value of the host, as in `x[mask] = 0`, is filled in by a kernel."""
    fills = values.numel() == 1 and not of_device(values) and not accumulate
    return _index(of_device, indices) and not (fills and len([*tensors_in(indices)]) == 1)


def _to_copy(
    _of_device: OfDevice,
    self: Tensor,
    device: torch.device | None = None,
    non_blocking: bool = False,
) -> bool:
    return device is not None and _leaves_device(self, torch.device(device), non_blocking)


def _copy(_of_device: OfDevice, self: Tensor, src: Tensor, non_blocking: bool) -> bool:
    return _leaves_device(src, self.device, non_blocking)


def _leaves_device(source: Tensor, target: torch.device, non_blocking: bool) -> bool:
    return target.type == "cpu" and not stands_for_device(source) and not non_blocking


_WAITS: dict[Any, str | Callable[..., bool]] = {
    _aten._local_scalar_dense: "self",  # item, float, int, bool, if
    # The shape of the result depends on the values.
    _aten.nonzero: "self",
    _aten.where: _where,
    _aten.masked_select: "mask",
    _aten._unique: "self",
    _aten._unique2: "self",
    _aten.unique_dim: "self",
    _aten.unique_consecutive: "self",
    _aten.unique_dim_consecutive: "self",
    _aten.bincount: "self",
    _aten.repeat_interleave: _repeat_interleave,
    _aten._to_sparse: "self",
    _aten.index: _index,
    _aten._unsafe_index: _index,
    _aten.index_put: _index_put,
    _aten.index_put_: _index_put,
    _aten._index_put_impl_: _index_put,
    # A Python value is the result, or a check of the values comes first.
    _aten.equal: "self",
    _aten.allclose: "self",
    _aten.is_nonzero: "self",
    _aten.multinomial: _multinomial,
    _aten.normal: "std",
    _aten._linalg_check_errors: "info",
    _aten._linalg_eigh: "A",
    _aten._linalg_svd: "A",
    _aten.linalg_eig: "self",
    # The kernel takes a number of the host.
    _aten.masked_fill: "value",
    _aten.masked_fill_: "value",
    _aten._to_copy: _to_copy,
    _aten.copy_: _copy,
}
