"""To learn the shape of a result, DTensor runs the operator on fakes of the whole tensors.

PyTorch: before it runs an operator on what this rank holds, `ShardingPropagator` runs it once more
under a `FakeTensorMode`, on fake tensors of the global shapes, and keeps what that says. A dispatch
mode sees both. Nobody computes the first, so no mode is told of it.
Seen in: 2.11 to 2.14.
May go when: `test_a_rank_of_tensor_parallel_counts_its_shards` passes without it.
"""

from __future__ import annotations

import sys
from functools import cache, wraps
from typing import Any

from torch.utils._python_dispatch import _disable_current_modes


@cache
def hide_shape_propagation() -> None:
    """Hide it from every dispatch mode, for good: modes that count are no part of an answer.

    Called when the first DTensor is met, since importing its package takes a second.
    """
    module = sys.modules["torch.distributed.tensor._sharding_prop"]
    before = module.ShardingPropagator._propagate_tensor_meta_non_cached  # noqa: SLF001

    @wraps(before)
    def ours(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return before(*args, **kwargs)

    module.ShardingPropagator._propagate_tensor_meta_non_cached = ours  # noqa: SLF001
