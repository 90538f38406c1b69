"""Resampling an image at other positions: upsampling, grid sampling, antialiased resizing.

Interpolating between two values, `a + t * (b - a)`, is 3 FLOPs. From there: bilinear 3
interpolations, trilinear 7, bicubic 5 of four points each (7 FLOPs a piece). How cubic weights are
made from a position is not counted, as it is made once for all channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

from torch import Tensor

from pytest_flops.counting.costs.elements import per_input, per_output
from pytest_flops.counting.costs.table import Rules

# A sampled value; its gradient by one coordinate: two differences of neighbours, interpolated over
# the other coordinate, times the gradient of the value, summed over channels.
BILINEAR, BILINEAR_SLOPE = 9, 2 + 3 + 2

_LINEAR, _NEAREST = 0, 1  # interpolation_mode, as PyTorch numbers it

# FLOPs per sampled value, by interpolation mode: bilinear, nearest, bicubic.
_VALUE = {2: (BILINEAR, 0, 35), 3: (21, 0, 0)}
# Per sampled value and coordinate, the gradient of the position: the differences of neighbours,
# interpolated over the other coordinates; times the value's gradient, and summed over channels.
# Bilinear: 2 differences, 1 interpolation; trilinear: 4 and 3; bicubic: as the value.
_SLOPE = {2: (BILINEAR_SLOPE, 0, 35 + 2), 3: (4 + 9 + 2, 0, 0)}
# Per coordinate: from -1..1 to pixels (2), and, to interpolate, the part behind the point.
_POSITION, _FRACTION = 2, 1


def _antialiased(before: Sequence[int], after: Sequence[int], points: int) -> int:
    """Resizing with a filter of `points` taps, as many times wider as the image is made smaller.

    Rows first, then columns, 2 FLOPs per tap. Taps beyond the border count as taps.
    """
    rows, columns = (
        2 * ceil(points * max(old / new, 1)) for old, new in zip(before[2:], after[2:], strict=True)
    )
    narrowed = prod(before[:3]) * after[3]
    return narrowed * columns + prod(after) * rows


def _grid_sample(out: Tensor, grid: Tensor, interpolation_mode: int = _LINEAR) -> int:
    """Every value is interpolated, at a position that all channels share."""
    per_coordinate = _POSITION if interpolation_mode == _NEAREST else _POSITION + _FRACTION
    per_value = _VALUE[grid.shape[-1]][interpolation_mode]
    return out.numel() * per_value + grid.numel() * per_coordinate


def _grid_sample_backward(
    grad_output: Tensor,
    grid: Tensor,
    interpolation_mode: int = _LINEAR,
    output_mask: Sequence[bool] = (True, True),
) -> int:
    """The gradient of the image and of the positions.

    A gradient is spread over the neighbours as the value was made from them; the nearest one's is
    accumulated. The gradient of a position is scaled from pixels.
    """
    of_image, of_grid = output_mask
    dims = grad_output.dim() - 2
    spread = of_image * max(_VALUE[dims][interpolation_mode], 1)
    moved = of_grid * dims * _SLOPE[dims][interpolation_mode]
    scaled = of_grid * (interpolation_mode != _NEAREST) * grid.numel()
    return grad_output.numel() * (spread + moved) + scaled


RULES: Rules = {
    "upsample_linear1d": per_output(3),  # one interpolation; back again the same
    "upsample_linear1d_backward": per_input(3, of="grad_output"),
    "upsample_bilinear2d": per_output(9),  # three
    "upsample_bilinear2d_backward": per_input(9, of="grad_output"),
    "upsample_trilinear3d": per_output(21),  # seven
    "upsample_trilinear3d_backward": per_input(21, of="grad_output"),
    "upsample_bicubic2d": per_output(35),  # five of four points each
    "upsample_bicubic2d_backward": per_input(35, of="grad_output"),
    # backward every tap hands its share of the gradient back
    "_upsample_bilinear2d_aa": lambda self, out: _antialiased(self.shape, out.shape, 2),
    "_upsample_bilinear2d_aa_backward": lambda input_size, grad_output: _antialiased(
        input_size, grad_output.shape, 2
    ),
    "_upsample_bicubic2d_aa": lambda self, out: _antialiased(self.shape, out.shape, 4),
    "_upsample_bicubic2d_aa_backward": lambda input_size, grad_output: _antialiased(
        input_size, grad_output.shape, 4
    ),
    # every position of the output, with a 1 appended, times `theta`: (n, d, d + 1)
    "affine_grid_generator": lambda out, theta: 2 * out.numel() * theta.shape[-1],
    "grid_sampler_2d grid_sampler_3d cudnn_grid_sampler": _grid_sample,
    "grid_sampler_2d_backward grid_sampler_3d_backward": _grid_sample_backward,
    "cudnn_grid_sampler_backward": _grid_sample_backward,
}
