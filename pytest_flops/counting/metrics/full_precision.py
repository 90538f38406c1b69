"""`full_precision`: FLOPs of products whose result is float32 or float64.

0 says that autocast, or a model in bfloat16, reaches every product. A forgotten autocast and a
float32 island show here, and nowhere in the FLOPs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import flop_registry

from pytest_flops.counting import metrics
from pytest_flops.counting.costs import attention, products
from pytest_flops.counting.costs.elements import first_tensor
from pytest_flops.counting.costs.flex_attention import FLEX_ATTENTION
from pytest_flops.counting.metrics.bytes import registered_price

if TYPE_CHECKING:
    from pytest_flops.counting.metrics import Call, Price

_FULL = (torch.float32, torch.float64, torch.complex64, torch.complex128)


class Counter(metrics.Counter):
    """The FLOPs of products in full precision; by `is_product`."""

    def of_operator(self, func: Any) -> Price | None:
        """The FLOPs of a product whose result is in full precision."""
        registered = registered_price("full_precision", func)
        return registered or (_of_product if is_product(func) else None)


def _of_product(call: Call) -> int:
    in_full = first_tensor(call.out, call.args).dtype in _FULL
    return (call.flops or 0) if in_full else 0


_PRODUCTS = {*FLEX_ATTENTION} | {
    getattr(torch.ops.aten, name)
    for name in " ".join((*products.RULES, *attention.RULES)).split()
    if hasattr(torch.ops.aten, name)  # some came with later versions
}


def is_product(func: Any) -> bool:
    """Whether an operator is a matrix product, a convolution or attention."""
    packet = getattr(func, "overloadpacket", func)
    return packet in flop_registry or packet in _PRODUCTS  # anybody may register one
