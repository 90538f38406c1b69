"""Accumulation by index: 1 FLOP per element that is accumulated; reading by index is free."""

from __future__ import annotations

from pytest_flops.counting.costs.elements import first_tensor, per_input, weighted
from pytest_flops.counting.costs.table import FREE, Call, enter, rule

_MEAN = 1  # as embedding_bag numbers sum, mean and max

# Gradients of copies: what was copied twice is accumulated.
_COPIES = ("reflection_pad", "replication_pad", "upsample_nearest", "_upsample_nearest_exact")

enter(
    embedding_dense_backward=per_input(1, of="grad_output"),
    _embedding_bag_dense_backward=per_input(1, of="grad"),
    index_add=per_input(1, 2, of="source"),
    index_reduce=per_input(1, 2, of="source"),
    scatter_add=per_input(1, 2, of="src"),
    scatter_reduce=per_input(1, 2, of="src"),
    segment_reduce=per_input(1, of="data"),
    _segment_reduce_backward=per_input(1, of="data"),
    _unsafe_masked_index_put_accumulate=per_input(1, 2, of="values"),
    unfold_backward=per_input(1, 2, of="grad_in"),
    col2im=per_input(1, 2),
    _coalesce=FREE,
    **{
        f"{copy}{d}d_backward": per_input(1, 2, of="grad_output")
        for copy in _COPIES
        for d in (1, 2, 3)
    },
)


@rule("index_put", "_index_put_impl", "_unsafe_index_put", "put")
def index_put(call: Call) -> int | None:
    """One addition per value where it accumulates."""
    return weighted(call.either("values", "source"), 1, 2) if call.argument("accumulate") else 0


@rule("scatter")
def scatter(call: Call) -> int | None:
    """A copy, unless it is told how to reduce."""
    if call.either("reduce") is None:
        return 0
    return weighted(call.argument("self"), 1, 2) and int(call.argument("index").numel())


@rule(
    *("bincount", "histogram"),
    *("_histogramdd_from_bin_cts", "_histogramdd_from_bin_tensors"),
)
def histogram(call: Call) -> int:
    """Counting is free; a weight is added to its bin, and a density divides."""
    weights = call.either("weights", "weight")
    divided = first_tensor(call.out).numel() if call.either("density") else 0
    return divided if weights is None else divided + (weighted(weights, 1) or 0)


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(call: Call) -> int:
    """Every row looked up is added to its bag, times its weight if it has one; a mean divides."""
    bags, *_ = call.out
    looked_up = call.argument("indices").numel() * call.argument("weight").shape[-1]
    is_weighted = call.argument("per_sample_weights") is not None
    return int(looked_up * (1 + is_weighted) + (call.argument("mode") == _MEAN) * bags.numel())


@rule("_embedding_bag_backward")
def embedding_bag_backward(call: Call) -> int:
    """Every row looked up accumulates a gradient."""
    return int(call.argument("indices").numel() * call.argument("grad").shape[-1])


@rule("_embedding_bag_per_sample_weights_backward")
def embedding_bag_weights_backward(call: Call) -> int:
    """A row's weight has the product of its bag's gradient with the row for a gradient."""
    return int(2 * call.argument("indices").numel() * call.argument("weight").shape[-1])
