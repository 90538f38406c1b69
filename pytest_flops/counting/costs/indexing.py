"""Accumulation by index: 1 FLOP per element that is accumulated; reading by index is free."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from pytest_flops.counting.costs.elements import (
    first_tensor,
    has_no_values,
    per_input,
    weight_of,
    weighted,
)
from pytest_flops.counting.costs.table import Rules, named

_MEAN, _MAX = 1, 2  # as embedding_bag numbers sum, mean and max

# Gradients of copies: what was copied twice is accumulated.
_COPIES = ("reflection_pad", "replication_pad", "upsample_nearest", "_upsample_nearest_exact")
_COPIES_BACKWARD = " ".join(f"{copy}{d}d_backward" for copy in _COPIES for d in (1, 2, 3))


_QUANTISED_BAGS = """
    embedding_bag_byte embedding_bag_4bit embedding_bag_byte_rowwise_offsets
    embedding_bag_4bit_rowwise_offsets embedding_bag_2bit_rowwise_offsets
    """


def _accumulated(self: Tensor, elements: int, reduce: str = "sum") -> int | None:
    """1 per element (complex: a sum 2, a product 6); a mean divides the results."""
    each = weight_of(self, 1, 6 if reduce in ("prod", "multiply") else 2)
    return None if each is None else each * (elements + (reduce == "mean") * self.numel())


def _index_put(self: Tensor, indices: Sequence[Tensor | None], accumulate: bool) -> int | None:
    """One addition per element of `self[indices]`, to which the values are broadcast."""
    if not accumulate:
        return 0
    if any(index is not None and _is_mask(index) and _is_unknown(index) for index in indices):
        return None  # how many elements a mask chooses, only its values can tell
    return _accumulated(self, _chosen(self, indices))


def _chosen(self: Tensor, indices: Sequence[Tensor | None]) -> int:
    """Elements of `self[indices]`: indices are broadcast, and choose whole slices of the rest."""
    shapes: list[tuple[int, ...]] = []
    rest, dim = list(self.shape), 0
    for index in indices:
        if index is None:
            dim += 1
        elif _is_mask(index):
            shapes.append((int(index.count_nonzero()),))
            del rest[dim : dim + index.dim()]
        else:
            shapes.append(tuple(index.shape))
            del rest[dim]
    rows: Sequence[int] = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return prod(rows) * prod(rest)


def _is_mask(index: Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _is_unknown(mask: Tensor) -> bool:
    """Whether the mask has no values; a fake has some where they follow from the step's inputs."""
    return has_no_values(mask) and getattr(mask, "constant", None) is None


def _put(self: Tensor, source: Tensor, accumulate: bool) -> int | None:
    """One addition per value where it accumulates."""
    return _accumulated(self, source.numel()) if accumulate else 0


def _index_add(source: Tensor, alpha: Any) -> int | None:
    """`self[index] += alpha * source`."""
    return weighted(source, 1, 2) if alpha == 1 else weighted(source, 2, 8)


def _scatter(self: Tensor, index: Tensor, reduce: str | None = None) -> int | None:
    """A copy, unless it is told how to reduce: as many elements as the index has."""
    return 0 if reduce is None else _accumulated(self, index.numel(), reduce)


def _histogram(
    out: Any, weight: Tensor | None = None, weights: Tensor | None = None, density: bool = False
) -> int:
    """Counting is free; a weight is added to its bin, and a density divides."""
    added = [weighted(each, 1) or 0 for each in (weight, weights) if each is not None]
    return sum(added) + density * first_tensor(out).numel()


def _embedding_bag(out: Any, indices: Tensor, mode: int, per_sample_weights: Tensor | None) -> int:
    """Every row looked up is added to its bag, times its weight if it has one; a mean divides."""
    bags = first_tensor(out)
    looked_up = indices.numel() * bags.shape[-1]
    divided = bags.numel() if mode == _MEAN else 0
    return looked_up * (1 + (per_sample_weights is not None)) + divided


def _embedding_bag_backward(
    grad: Tensor,
    indices: Tensor,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: Tensor | None,
) -> int:
    """Every row looked up accumulates the gradient of its bag; of a maximum, one row does.

    A mean divides the bag's, a weight and a frequency scale the row's.
    """
    if mode == _MAX:
        return grad.numel()
    scaled = (per_sample_weights is not None) + scale_grad_by_freq
    divided = grad.numel() if mode == _MEAN else 0
    return indices.numel() * grad.shape[-1] * (1 + scaled) + divided


RULES: Rules = {
    "_embedding_bag _embedding_bag_forward_only": _embedding_bag,
    named("quantized", _QUANTISED_BAGS): _embedding_bag,
    "_embedding_bag_backward _embedding_bag_dense_backward": _embedding_bag_backward,
    # A row's weight has the product of its bag's gradient with the row for a gradient.
    "_embedding_bag_per_sample_weights_backward": lambda weight, indices: (
        2 * indices.numel() * weight.shape[-1]
    ),
    # every row looked up accumulates a gradient
    "embedding_dense_backward": lambda grad_output, scale_grad_by_freq: weighted(
        grad_output, 1 + scale_grad_by_freq
    ),
    "index_add": _index_add,
    "index_reduce": lambda self, source, reduce: _accumulated(self, source.numel(), reduce),
    "index_put _index_put_impl _unsafe_index_put": _index_put,
    "put": _put,
    "scatter_add": lambda self, index: _accumulated(self, index.numel()),
    "scatter scatter_reduce": _scatter,
    "segment_reduce": lambda out, data, reduce: _accumulated(out, data.numel(), reduce),
    "_segment_reduce_backward": per_input(1, of="data"),
    "_unsafe_masked_index_put_accumulate": per_input(1, 2, of="values"),
    "unfold_backward": per_input(1, 2, of="grad_in"),
    "col2im": per_input(1, 2),
    "_coalesce": per_input(1, 2),  # values of one place are added up
    "bincount histogram _histogramdd_from_bin_cts _histogramdd_from_bin_tensors": _histogram,
    _COPIES_BACKWARD: per_input(1, 2, of="grad_output"),
}
