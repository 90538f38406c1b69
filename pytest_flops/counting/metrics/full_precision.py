"""`full_precision`: FLOPs of products whose result is float32 or float64.

0 says that autocast, or a model in bfloat16, reaches every product. A forgotten autocast and a
float32 island show here, and nowhere in the FLOPs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import flop_registry

from pytest_flops.counting.costs.elements import first_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flops.counting.metrics import Call, Price

_ON_THE_CPU = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,  # noqa: SLF001
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward,  # noqa: SLF001
)
_FULL = (torch.float32, torch.float64, torch.complex64, torch.complex128)


class Counter:
    """The FLOPs of products in full precision.

    Products are what PyTorch has a formula for, and the CPU's attention, for which it has none.
    """

    def start(self, note: Callable[[int], None]) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to undo."""

    def of_operator(self, func: Any) -> Price | None:
        """The FLOPs of a product whose result is in full precision."""
        packet = getattr(func, "_overloadpacket", None)
        return _of_product if packet in flop_registry or packet in _ON_THE_CPU else None


def _of_product(call: Call) -> int:
    in_full = first_tensor(call.out, call.args).dtype in _FULL
    return (call.flops or 0) if in_full else 0
