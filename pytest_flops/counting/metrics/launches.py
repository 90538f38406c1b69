"""`launches`: operator calls that do work, which is to move bytes or to compute.

They are operators and not kernels: one operator may launch several kernels, and on a GPU a
`_foreach_` operator over a thousand tensors launches a few. Here each is one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.metrics.bytes import Counter as ByOperator
from pytest_flops.counting.metrics.bytes import moved_by

if TYPE_CHECKING:
    from pytest_flops.counting.metrics import Call


class Counter(ByOperator):
    """1 for a call that computes or moves something, 0 for a view and what only allocates."""

    def cost(self, call: Call) -> int:
        """Whether it does work."""
        return 1 if call.flops or moved_by(call) else 0
