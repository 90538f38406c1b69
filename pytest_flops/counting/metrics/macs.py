"""`macs`: multiply-adds of the forward's products, which published tables of models hold.

One is two FLOPs of a matrix product, a convolution or attention; nothing else has any. It is told
beside the FLOPs and never limited.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_flops.counting import metrics
from pytest_flops.counting.metrics.full_precision import is_product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.metric import Costs
    from pytest_flops.counting.metrics import Call, Price

_FUSED = {
    "aten._cudnn_rnn",
    "aten._native_multi_head_attention",
    "aten._transformer_encoder_layer_fwd",
    "aten._trilinear",
    "aten.cudnn_convolution_add_relu",
    "aten.cudnn_convolution_relu",
    "aten.mkldnn_rnn_layer",
    "aten.quantized_gru",
    "aten.quantized_lstm",
    "torchvision.deform_conv2d",
}
"""Products and more in one operator, whose cost is told as one number."""


class Counter(metrics.Counter):
    """Half the FLOPs of products; what fused operators multiply is left out, and told."""

    def __init__(self) -> None:
        self._left_out: set[str] = set()

    def of_operator(self, func: Any) -> Price | None:
        """The multiply-adds of a product."""
        name = str(getattr(func, "overloadpacket", func))
        if name in _FUSED:
            return lambda _call: self._leave_out(name)
        return _multiply_adds if is_product(func) else None

    def _leave_out(self, name: str) -> int:
        self._left_out.add(name)
        return 0

    def finished(self, costs: Costs, paths: Mapping[int, str]) -> Costs:  # noqa: ARG002
        """With the operators that were left out in the details."""
        return replace(costs, details={"left_out": sorted(self._left_out)})


def _multiply_adds(call: Call) -> int:
    return (call.flops or 0) // 2
