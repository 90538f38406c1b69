"""Pooling: 1 FLOP per element under the window of every output element.

Padding is no element, but that of a mean which counts it (`count_include_pad`) is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

from torch import Tensor

from pytest_flops.counting.costs.elements import first_tensor, is_exact, per_input, weighted
from pytest_flops.counting.costs.table import Formula, Formulas, Rules

# A maximum has one gradient per output element, which is added at its place.
_BACKWARD_OF_MAXIMUM = """
    max_pool2d_with_indices_backward max_pool3d_with_indices_backward
    mkldnn_max_pool2d_backward mkldnn_max_pool3d_backward
    fractional_max_pool2d_backward fractional_max_pool3d_backward
    adaptive_max_pool2d_backward adaptive_max_pool3d_backward
    """


@lru_cache
def _in_windows(
    size: int, windows: int, kernel: int, stride: int, padding: int, dilation: int, padded: bool
) -> int:
    """Elements under all windows along one dimension of `size` elements."""
    low, high = (-padding, size + padding) if padded else (0, size)
    elements = 0
    for start in range(-padding, windows * stride - padding, stride):
        first, after = (-((start - end) // dilation) for end in (low, high))
        elements += max(min(after, kernel) - max(first, 0), 0)
    return elements


@lru_cache
def _in_adaptive_windows(size: int, windows: int) -> int:
    """Window i covers `floor(i n / m)` to `ceil((i + 1) n / m)`."""
    return sum(-(-(i + 1) * size // windows) - i * size // windows for i in range(windows))


def _pool(dims: int) -> Formula:
    """Of images `(..., *sizes)`: along every dimension the elements under its windows."""

    def cost(
        out: Any,
        self: Tensor,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int] = (1,),
        count_include_pad: bool = False,
        grad_output: Tensor | None = None,
    ) -> int:
        windows = first_tensor(out) if grad_output is None else grad_output
        sizes = self.shape[-dims:], windows.shape[-dims:]
        given = kernel_size, stride or kernel_size, padding, dilation
        along = zip(*sizes, *(_of_each_dimension(dims, each) for each in given), strict=True)
        if _are_symbols(*sizes):
            return windows.numel() * prod(_of_each_dimension(dims, kernel_size))
        under = prod(_in_windows(*each, count_include_pad) for each in along)
        return _of_all_images(self, dims, under)

    return cost


def _adaptive_pool(dims: int) -> Formula:
    """Of images `(..., *sizes)`, whose windows cover them."""

    def cost(out: Any, self: Tensor, grad_output: Tensor | None = None) -> int:
        windows = first_tensor(out) if grad_output is None else grad_output
        sizes = self.shape[-dims:], windows.shape[-dims:]
        if _are_symbols(*sizes):
            return self.numel()
        under = prod(_in_adaptive_windows(*each) for each in zip(*sizes, strict=True))
        return _of_all_images(self, dims, under)

    return cost


def _are_symbols(*shapes: Sequence[int]) -> bool:
    """Whether sizes are symbols (`torch.export`). To ask for their numbers would fix them."""
    return not all(isinstance(size, int) for shape in shapes for size in shape)


def _of_each_dimension(dims: int, given: Sequence[int]) -> Sequence[int]:
    """One number stands for all dimensions."""
    return given if len(given) == dims else [*given] * dims


def _of_all_images(images: Tensor, dims: int, under: int) -> int:
    return prod(images.shape[:-dims]) * under * (not is_exact(images))


def _fractional_pool(out: tuple[Tensor, Tensor], kernel_size: Sequence[int]) -> int | None:
    """Windows that are placed at random, and lie in the image."""
    return weighted(out[0], prod(kernel_size))


RULES: Rules = {
    "avg_pool1d quantized_max_pool1d": _pool(1),
    # backward every element under the window gets its share of the gradient
    "avg_pool2d avg_pool2d_backward": _pool(2),
    "avg_pool3d avg_pool3d_backward": _pool(3),
    "max_pool2d_with_indices quantized_max_pool2d mkldnn_max_pool2d": _pool(2),
    "max_pool3d_with_indices quantized_max_pool3d mkldnn_max_pool3d": _pool(3),
    "quantized::max_pool1d": Formulas(_pool(1), names={"self": "qx"}),
    "quantized::max_pool2d": Formulas(_pool(2), names={"self": "qx"}),
    "adaptive_avg_pool1d": _adaptive_pool(1),
    "_adaptive_avg_pool2d _adaptive_avg_pool2d_backward adaptive_max_pool2d": _adaptive_pool(2),
    "mkldnn_adaptive_avg_pool2d mkldnn_adaptive_avg_pool2d_backward": _adaptive_pool(2),
    "_adaptive_avg_pool3d _adaptive_avg_pool3d_backward adaptive_max_pool3d": _adaptive_pool(3),
    "fractional_max_pool2d fractional_max_pool3d": _fractional_pool,
    _BACKWARD_OF_MAXIMUM: per_input(1, of="grad_output"),
}
