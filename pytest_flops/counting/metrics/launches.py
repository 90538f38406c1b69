"""`launches`: operator calls that do work, which is to move bytes or to compute.

They are operators and not kernels: one operator may launch several kernels, and on a GPU a
`_foreach_` operator over a thousand tensors launches a few. Here each is one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flops.counting import metrics
from pytest_flops.counting.metrics.bytes import traffic_of

if TYPE_CHECKING:
    from pytest_flops.counting.metrics import Price


class Counter(metrics.Counter):
    """1 for a call that computes or moves something, 0 for a view and what only allocates."""

    def of_operator(self, func: Any) -> Price | None:
        """Whether a call does work."""
        traffic = traffic_of(func)
        return traffic and (lambda call: 1 if call.flops or traffic(call) else 0)
