"""`roofline`: what each call computes and moves, for a bound on the time of the step.

It has no value of its own, and so no limit. What it finds stands in the `calls` of its details, of
which `counting.roofline` makes the bound for any device. They are lists: the path of the module,
the phase, the type of a product's operands (empty of what is no product), the FLOPs as counted, as
many of them as a device has to compute, the bytes, and how many calls are alike.
"""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import OpOverload

from pytest_flops.counting import metrics
from pytest_flops.counting.costs.elements import first_tensor
from pytest_flops.counting.costs.table import bound
from pytest_flops.counting.metrics.bytes import traffic_of
from pytest_flops.counting.metrics.full_precision import is_product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.metric import Costs
    from pytest_flops.counting.metrics import Call, Price

_KINDS = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}


class Counter(metrics.Counter):
    """The calls that compute or move something."""

    def __init__(self) -> None:
        # A list, since threads append to it at the same time.
        self._calls: list[tuple[int, str, str, int, int, int]] = []

    def of_operator(self, func: Any) -> Price | None:
        """Nothing; each call is kept."""
        traffic = traffic_of(func)
        if traffic is None:
            return None
        # Of fused causal attention a kernel need not compute what the mask hides.
        skips_half = (
            bound(lambda is_causal=False: is_causal, func) if isinstance(func, OpOverload) else None
        )
        multiplies = is_product(func)

        def price(call: Call) -> int:
            flops, moved = call.flops or 0, traffic(call)
            kind, computed = "", flops
            if flops and multiplies:
                kind = _kind_of(func, call)
                if skips_half and skips_half(call.args, call.kwargs, call.out):
                    computed = flops // 2
            if flops or moved:
                self._calls.append((call.module, call.phase, kind, flops, computed, moved))
            return 0

        return price

    def finished(self, costs: Costs, paths: Mapping[int, str]) -> Costs:
        """With `calls` in the details, alike ones once: what they are, and how many."""
        tally = Tally(self._calls.copy())
        calls = [
            [paths[module], *call, times]
            for (module, *call), times in sorted(tally.items(), key=lambda item: item[0])
        ]
        return replace(costs, details={"calls": calls})


def _kind_of(func: Any, call: Call) -> str:
    """The type of a product's operands, by the name of its peak in a device's file."""
    dtype = str(first_tensor(call.args).dtype).removeprefix("torch.")
    kind = "float8" if dtype.startswith("float8") else _KINDS.get(dtype, dtype)
    return "tf32" if kind == "float32" and _allows_tf32(func) else kind


def _allows_tf32(func: Any) -> bool:
    """Whether PyTorch's settings let a GPU compute this product of float32 in TF32."""
    if "convolution" in str(func):
        settings: Any = torch.backends.cudnn
        return bool(settings.conv.fp32_precision == "tf32")
    return torch.get_float32_matmul_precision() != "highest"
