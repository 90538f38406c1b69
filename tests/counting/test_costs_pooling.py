"""Pooling costs 1 per element under the window of every output element."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

from pytest_flops.counting.meter.meter import FLOPsMeter


def image(*sizes: int) -> torch.Tensor:
    """2 images of 3 channels."""
    return torch.ones(2, 3, *sizes, requires_grad=True)


# Along one dimension, the elements under its windows.
POOLS = {
    # 2 windows of 2
    "plain": (F.max_pool2d, 5, {"kernel_size": 2}, 4),
    # 3 windows of 3
    "overlapping": (F.max_pool2d, 5, {"kernel_size": 3, "stride": 1}, 9),
    # begin at -1, 1, 3
    "padded": (F.max_pool2d, 5, {"kernel_size": 3, "stride": 2, "padding": 1}, 2 + 3 + 2),
    # -1, 1, 3; 0, 2, 4; 1, 3, 5; 2, 4, 6; 3, 5, 7
    "dilated": (
        F.max_pool2d,
        7,
        {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2},
        2 + 3 + 3 + 3 + 2,
    ),
    # begin at 0, 2, 4 of 6
    "ceiled": (
        F.max_pool2d,
        6,
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        3 + 3 + 2,
    ),
    "mean that counts padding": (
        F.avg_pool2d,
        5,
        {"kernel_size": 3, "stride": 2, "padding": 1},
        3 + 3 + 3,
    ),
    "mean that does not": (
        F.avg_pool2d,
        5,
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        2 + 3 + 2,
    ),
    # begin at -1, 1, 3, 5 of 6, and end with the padding at 7
    "ceiled mean that counts padding": (
        F.avg_pool2d,
        6,
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        3 + 3 + 3 + 2,
    ),
    # 0 to 2, 1 to 4, 3 to 5
    "adaptive mean": (F.adaptive_avg_pool2d, 5, {"output_size": 3}, 2 + 3 + 2),
    "adaptive maximum": (F.adaptive_max_pool2d, 5, {"output_size": 3}, 2 + 3 + 2),
    "adaptive mean of everything": (F.adaptive_avg_pool2d, 5, {"output_size": 1}, 5),
    # every element twice
    "adaptive mean of more": (F.adaptive_avg_pool2d, 2, {"output_size": 4}, 4),
}


@pytest.mark.parametrize(("pool", "size", "options", "along"), POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_pool_costs_what_lies_under_its_windows(pool, size, options, along, dims):
    pool = getattr(F, pool.__name__.replace("2d", f"{dims}d"))
    images = image(*[size] * dims)
    with FLOPsMeter() as meter:
        out = pool(images, **options)
        out.backward(torch.ones_like(out))
    assert not meter.uncounted
    under = 2 * 3 * along**dims
    assert meter.count.forward == under
    # a mean's gradient is shared, a maximum's goes to one place
    assert meter.count.backward == (under if "avg" in pool.__name__ else out.numel())
    with torch.inference_mode(), FLOPsMeter() as meter:
        pool(images, **options)
    assert meter.count.forward == under


def test_sides_of_an_image_may_differ():
    with FLOPsMeter() as meter:
        F.avg_pool2d(image(4, 6), (2, 3))
        F.adaptive_avg_pool2d(image(4, 6), (4, 1))
    # 2x2 windows of 2x3; 4 windows of 1x6
    assert meter.count.forward == 6 * (4 * 6) + 6 * (4 * 6)


def test_integers_are_free():
    with FLOPsMeter() as meter:
        F.max_pool2d(torch.ones(1, 1, 4, 4, dtype=torch.int64), 2)
    assert not meter.uncounted
    assert meter.count.forward == 0


def test_a_model_may_be_exported_inside_the_meter_with_sizes_that_vary():
    """Symbols stand for the sizes, and counting must not ask for their numbers."""
    model = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2, padding=1), nn.AdaptiveAvgPool2d(3))
    varies = torch.export.Dim.AUTO
    with FLOPsMeter():
        exported = torch.export.export(
            model, (torch.ones(2, 3, 32, 32),), dynamic_shapes=({0: varies, 2: varies},)
        )
    assert len(exported.range_constraints) == 2
    assert exported.module()(torch.ones(4, 3, 16, 32)).shape == (4, 3, 3, 3)
