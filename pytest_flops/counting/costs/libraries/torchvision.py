"""Operators of torchvision: suppression of boxes, regions of interest, deformable convolution.

Values between pixels are interpolated, as in `resampling`: 9 FLOPs each. Where they are, all
channels share, so that is not counted.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil, floor
from typing import Any

from torch import Tensor

from pytest_flops.counting.costs.elements import (
    first_tensor,
    has_no_values,
    per_input,
    wanted,
    weighted,
)
from pytest_flops.counting.costs.products import convolution
from pytest_flops.counting.costs.resampling import BILINEAR, BILINEAR_SLOPE
from pytest_flops.counting.costs.table import Formula, Formulas, Rules


def _suppression(dets: Tensor) -> int:
    """The area of every box, 3; the intersection over union of every pair.

    Two corners (4), two sides (2) that are not negative (2), their product (1); both areas less the
    intersection (2), and the quotient (1).
    """
    boxes = dets.shape[0]
    return 3 * boxes + 12 * (boxes * (boxes - 1) // 2)


def _align(*, backward: bool = False) -> Formula:
    """Every element is the mean of samples: interpolated, summed, and divided once.

    Without a ratio, there is a sample for every pixel of a region: how many, only values tell.
    """

    def cost(
        out: Any,
        rois: Tensor,
        spatial_scale: float,
        pooled_height: int,
        pooled_width: int,
        sampling_ratio: int,
        aligned: bool = True,
        grad: Tensor | None = None,
    ) -> int | None:
        pooled = first_tensor(out) if grad is None else grad
        if sampling_ratio > 0:
            samples = pooled.numel() * sampling_ratio**2
        elif has_no_values(rois):
            return None
        else:
            least = 0 if aligned else 1
            samples = pooled[:1].numel() * sum(
                ceil(max((bottom - top) * spatial_scale, least) / pooled_height)
                * ceil(max((right - left) * spatial_scale, least) / pooled_width)
                for _, left, top, right, bottom in rois.tolist()
            )
        return samples * (BILINEAR + (not backward)) + pooled.numel()

    return cost


def _maximum(
    out: tuple[Tensor, ...],
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
) -> int | None:
    """1 per pixel of every bin and channel. A region begins and ends at a pixel."""

    def along(begin: float, end: float, bins: int, size: int) -> int:
        first = round(begin * spatial_scale)
        length = max(round(end * spatial_scale) - first + 1, 1)
        return _in_bins(first, 0.0, length / bins, bins, size)

    if has_no_values(rois):
        return None
    *_, height, width = input.shape
    return out[0].shape[1] * sum(
        along(top, bottom, pooled_height, height) * along(left, right, pooled_width, width)
        for _, left, top, right, bottom in rois.tolist()
    )


def _position_sensitive_mean(
    out: Any,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    input: Tensor | None = None,
    grad: Tensor | None = None,
    height: int = 0,
    width: int = 0,
) -> int | None:
    """1 per pixel of every bin and channel of the result; backward each has its share.

    Corners are rounded before they are scaled.
    """

    def along(begin: float, end: float, bins: int, size: int) -> int:
        first = round(begin) * spatial_scale
        length = max(round(end + 1) * spatial_scale - first, 0.1)
        return _in_bins(0, first, length / bins, bins, size)

    if has_no_values(rois):
        return None
    if input is not None:
        *_, height, width = input.shape
    pooled = first_tensor(out) if grad is None else grad
    return pooled.shape[1] * sum(
        along(top, bottom, pooled_height, height) * along(left, right, pooled_width, width)
        for _, left, top, right, bottom in rois.tolist()
    )


def _in_bins(offset: int, first: float, length: float, bins: int, size: int) -> int:
    """Pixels of `size` under all bins of one `length`, along one dimension."""
    edges = [first + i * length for i in range(bins + 1)]
    return sum(
        max(min(ceil(end) + offset, size) - max(floor(begin) + offset, 0), 0)
        for begin, end in pairwise(edges)
    )


def _sampled(input: Tensor, weight: Tensor, result: Tensor) -> int:
    """Values that are interpolated: one per channel, tap and position of the result."""
    taps = weight[0, 0].numel()
    return input.shape[0] * input.shape[1] * taps * result[0, 0].numel()


def _deformable(out: Tensor, input: Tensor, weight: Tensor, offset: Tensor, use_mask: bool) -> int:
    """A convolution of values that are interpolated, and times the mask; positions are moved."""
    sampled = _sampled(input, weight, out) * (BILINEAR + use_mask)
    return convolution(out, input, weight, transposed=False) + sampled + offset.numel()


def _deformable_backward(
    grad: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, use_mask: bool
) -> int:
    """Of the weight, whose values are interpolated again; of the values, and from these the others.

    The image's is spread as the values were made; an offset's has the slope of every value, times
    its gradient, summed; a mask's has the value again, times its gradient, summed.
    """
    product = convolution(grad, input, weight, transposed=False)
    of_input, of_weight, of_offset, of_mask = wanted(input, weight, offset, mask)
    of_mask = of_mask and use_mask
    per_value = of_weight * (BILINEAR + use_mask)
    per_value += of_input * (BILINEAR + use_mask)
    per_value += of_offset * (2 * BILINEAR_SLOPE + use_mask)
    per_value += of_mask * (BILINEAR + 2)
    products = product * (of_weight + (of_input or of_offset or of_mask))
    return products + per_value * _sampled(input, weight, grad)


RULES: Rules = {
    "torchvision::nms": _suppression,
    "torchvision::roi_align torchvision::ps_roi_align": _align(),
    "torchvision::_roi_align_backward torchvision::_ps_roi_align_backward": _align(backward=True),
    "torchvision::roi_pool": _maximum,
    # a maximum has one gradient per element, which is added at its place
    "torchvision::_roi_pool_backward": per_input(1, of="grad"),
    "torchvision::ps_roi_pool torchvision::_ps_roi_pool_backward": _position_sensitive_mean,
    "torchvision::deform_conv2d": Formulas(_deformable, lambda out: weighted(out, 1)),
    "torchvision::_deform_conv2d_backward": Formulas(
        _deformable_backward, lambda grad, bias: bias.requires_grad * grad.numel()
    ),
}
