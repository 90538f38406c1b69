"""Communication between processes: what reduces costs 1 per element reduced; the rest copies."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs.elements import weighted
from pytest_flops.counting.costs.table import FREE, Rules, named

_REDUCE = """
    allreduce_ allreduce_coalesced_ reduce_ reduce_scatter_ _reduce_scatter_base_
    reduce_scatter_tensor_coalesced_
    """
_FUNCTIONAL_REDUCE = """
    all_reduce all_reduce_ all_reduce_coalesced all_reduce_coalesced_ reduce_scatter_tensor
    reduce_scatter_tensor_out reduce_scatter_tensor_coalesced
    """
_COPY = """
    _allgather_base_ allgather_ allgather_coalesced_ allgather_into_tensor_coalesced_ alltoall_
    alltoall_base_ barrier broadcast_ check_for_nan gather_ monitored_barrier_ recv_
    recv_any_source_ scatter_ send
    """
_FUNCTIONAL_COPY = """
    all_gather_into_tensor all_gather_into_tensor_coalesced all_gather_into_tensor_out
    all_to_all_single batch_p2p_ops broadcast broadcast_ irecv isend wait_tensor
    _wrap_tensor_autograd
    """


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


RULES: Rules = {
    named("c10d", _REDUCE): _reduced,
    named("_c10d_functional", _FUNCTIONAL_REDUCE): _reduced,
    "_c10d_functional_autograd::reduce_scatter_tensor": _reduced,
    named("c10d", _COPY): FREE,
    named("_c10d_functional", _FUNCTIONAL_COPY): FREE,
    named("_c10d_functional_autograd", "all_gather_into_tensor all_to_all_single"): FREE,
    named("fsdp", "all_gather_copy_in chunk_cat split_with_sizes_copy copy_"): FREE,
    "_dtensor::shard_dim_alltoall": FREE,
}
