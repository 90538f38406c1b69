"""Communication between processes: what reduces costs 1 per element reduced; the rest copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs.elements import weighted
from pytest_flops.counting.costs.table import FREE, Rules, named

_NAMESPACES = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "_dtensor")

_OPERATORS = {
    "all_gather": """
        _allgather_base_ allgather_ allgather_coalesced_ allgather_into_tensor_coalesced_
        all_gather_into_tensor all_gather_into_tensor_coalesced all_gather_into_tensor_out
        """,
    "all_reduce": """
        allreduce_ allreduce_coalesced_ all_reduce all_reduce_ all_reduce_coalesced
        all_reduce_coalesced_
        """,
    "all_to_all": "alltoall_ alltoall_base_ all_to_all_single shard_dim_alltoall",
    "barrier": "barrier monitored_barrier_",
    "broadcast": "broadcast broadcast_",
    "gather": "gather_ gather_into_tensor_",
    "recv": "recv_ recv_any_source_ irecv",
    "reduce": "reduce_",
    "reduce_scatter": """
        _reduce_scatter_base_ reduce_scatter_ reduce_scatter_tensor_coalesced_
        reduce_scatter_tensor reduce_scatter_tensor_coalesced reduce_scatter_tensor_out
        """,
    "scatter": "scatter_",
    "send": "send isend",
    "send_recv": "batch_p2p_ops",
}
_NO_COLLECTIVES = "check_for_nan mesh_get_process_group wait_tensor _wrap_tensor_autograd"
_REDUCING = ("all_reduce", "reduce", "reduce_scatter")


def kind_of(namespace: str, operator: str) -> str | None:
    """The kind of collective that an operator is, e.g. `all_gather`; `None` if it is none.

    One that came with a later PyTorch is a kind of its own.
    """
    return _KINDS.get(operator, operator) if namespace in _NAMESPACES else None


def _reduced(
    tensors: Any = None,
    input_tensors: Any = None,
    input_tensor: Any = None,
    inputs: Any = None,
    input: Any = None,
) -> int | None:
    """1 per element that this process gives; the processes share the additions."""
    given = tree_leaves((tensors, input_tensors, input_tensor, inputs, input))
    costs = [weighted(tensor, 1, 2) for tensor in given if isinstance(tensor, Tensor)]
    return None if None in costs else sum(cost or 0 for cost in costs)


_KINDS: Mapping[str, str | None] = {
    **{name: kind for kind, names in _OPERATORS.items() for name in names.split()},
    **dict.fromkeys(_NO_COLLECTIVES.split()),
}

RULES: Rules = {
    **{
        named(namespace, name): _reduced if kind in _REDUCING else FREE
        for name, kind in _KINDS.items()
        for namespace in _NAMESPACES
    },
    named("fsdp", "all_gather_copy_in chunk_cat split_with_sizes_copy copy_"): FREE,
}
