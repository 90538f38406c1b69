"""Accumulation by index: 1 FLOP per element that is accumulated; reading by index is free."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flops.counting.costs.elements import first_tensor, per_input, weighted
from pytest_flops.counting.costs.table import FREE, Formulas, Rules

_MEAN = 1  # as embedding_bag numbers sum, mean and max

# Gradients of copies: what was copied twice is accumulated.
_COPIES = ("reflection_pad", "replication_pad", "upsample_nearest", "_upsample_nearest_exact")
_COPIES_BACKWARD = " ".join(f"{copy}{d}d_backward" for copy in _COPIES for d in (1, 2, 3))


def _put(values: Tensor, accumulate: bool) -> int | None:
    """One addition per value where it accumulates."""
    return weighted(values, 1, 2) if accumulate else 0


def _scatter(self: Tensor, index: Tensor, reduce: str | None = None) -> int | None:
    """A copy, unless it is told how to reduce."""
    return 0 if reduce is None else weighted(self, 1, 2) and index.numel()


def _histogram(
    out: Any, weight: Tensor | None = None, weights: Tensor | None = None, density: bool = False
) -> int:
    """Counting is free; a weight is added to its bin, and a density divides."""
    added = [weighted(each, 1) or 0 for each in (weight, weights) if each is not None]
    return sum(added) + density * first_tensor(out).numel()


def _embedding_bag(
    out: tuple[Tensor, ...],
    weight: Tensor,
    indices: Tensor,
    mode: int,
    per_sample_weights: Tensor | None,
) -> int:
    """Every row looked up is added to its bag, times its weight if it has one; a mean divides."""
    looked_up = indices.numel() * weight.shape[-1]
    divided = out[0].numel() if mode == _MEAN else 0
    return looked_up * (1 + (per_sample_weights is not None)) + divided


RULES: Rules = {
    "_embedding_bag _embedding_bag_forward_only": _embedding_bag,
    "embedding_dense_backward": per_input(1, of="grad_output"),
    "_embedding_bag_dense_backward": per_input(1, of="grad"),
    # Every row looked up accumulates a gradient.
    "_embedding_bag_backward": lambda grad, indices: indices.numel() * grad.shape[-1],
    # A row's weight has the product of its bag's gradient with the row for a gradient.
    "_embedding_bag_per_sample_weights_backward": lambda weight, indices: (
        2 * indices.numel() * weight.shape[-1]
    ),
    "index_add index_reduce": per_input(1, 2, of="source"),
    "index_put _index_put_impl _unsafe_index_put": _put,
    "put": Formulas(_put, names={"values": "source"}),
    "scatter_add scatter_reduce": per_input(1, 2, of="src"),
    "segment_reduce _segment_reduce_backward": per_input(1, of="data"),
    "_unsafe_masked_index_put_accumulate": per_input(1, 2, of="values"),
    "unfold_backward": per_input(1, 2, of="grad_in"),
    "col2im": per_input(1, 2),
    "_coalesce": FREE,
    "scatter": _scatter,
    "bincount histogram _histogramdd_from_bin_cts _histogramdd_from_bin_tensors": _histogram,
    _COPIES_BACKWARD: per_input(1, 2, of="grad_output"),
}
