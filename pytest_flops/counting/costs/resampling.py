"""What resampling an image at other positions costs: grid sampling and antialiased resizing.

Interpolating between two values, `a + t * (b - a)`, is 3 FLOPs. From there: bilinear 3
interpolations, trilinear 7, bicubic 5 of four points each (7 FLOPs a piece). How cubic weights are
made from a position is not counted, as it is made once for all channels.
"""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pytest_flops.counting.costs.formulas import Args, Cost, Kwargs

_LINEAR, _NEAREST = 0, 1  # interpolation_mode, as PyTorch numbers it

# FLOPs per sampled value, by interpolation mode: bilinear, nearest, bicubic.
_VALUE = {2: (9, 0, 35), 3: (21, 0, 0)}
# Per sampled value and coordinate, the gradient of the position: the differences of neighbours,
# interpolated over the other coordinates; times the value's gradient, and summed over channels.
# Bilinear: 2 differences, 1 interpolation; trilinear: 4 and 3; bicubic: as the value.
_SLOPE = {2: (2 + 3 + 2, 0, 35 + 2), 3: (4 + 9 + 2, 0, 0)}
# Per coordinate: from -1..1 to pixels (2), and, to interpolate, the part behind the point.
_POSITION, _FRACTION = 2, 1


def grid_sample(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """`grid_sampler(x, grid, mode, ...)`; the kernel of cuDNN is bilinear."""
    grid, dims = args[1], args[0].dim() - 2
    mode = args[2] if len(args) > 2 else _LINEAR
    positions = grid.numel() * (_POSITION + (mode != _NEAREST) * _FRACTION)
    return int(out.numel() * _VALUE[dims][mode] + positions)


def grid_sample_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`grid_sampler_backward(grad, x, grid, mode, ..., wanted)`.

    A gradient is spread over the neighbours as the value was made from them; the nearest one's is
    accumulated. The gradient of a position is scaled from pixels.
    """
    gradient, grid, mode, wanted = args[0], args[2], args[3], args[6]
    return _gradients(gradient, grid, mode, wanted)


def cudnn_grid_sample_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`cudnn_grid_sampler_backward(x, grid, grad)`."""
    return _gradients(args[2], args[1], _LINEAR, (True, True))


def _gradients(gradient: Tensor, grid: Tensor, mode: int, wanted: Sequence[bool]) -> int:
    dims = gradient.dim() - 2
    spread = wanted[0] * max(_VALUE[dims][mode], 1)
    moved = wanted[1] * dims * _SLOPE[dims][mode]
    scaled = wanted[1] * (mode != _NEAREST) * grid.numel()
    return int(gradient.numel() * (spread + moved) + scaled)


def affine_grid(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """Every position of the output, with a 1 appended, times `theta`: (n, d, d + 1)."""
    return int(2 * out.numel() * args[0].shape[-1])


def antialiased(points: int) -> Cost:
    """Resizing with a filter of `points` taps, as many times wider as the image is made smaller.

    Rows first, then columns, 2 FLOPs per tap. Taps beyond the border count as taps.
    """

    def cost(args: Args, _kwargs: Kwargs, out: Any) -> int:
        return _two_passes(args[0].shape, out.shape, points)

    return cost


def antialiased_backward(points: int) -> Cost:
    """`(grad, output_size, input_size, ...)`: every tap hands its share of the gradient back."""

    def cost(args: Args, _kwargs: Kwargs, _out: Any) -> int:
        return _two_passes(args[2], args[0].shape, points)

    return cost


def _two_passes(before: Sequence[int], after: Sequence[int], points: int) -> int:
    rows, columns = (
        2 * ceil(points * max(old / new, 1)) for old, new in zip(before[2:], after[2:], strict=True)
    )
    narrowed = prod(before[:3]) * after[3]
    return int(narrowed * columns + prod(after) * rows)
