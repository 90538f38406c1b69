"""A roofline as text: one line per component, and what the whole step can be at best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.budgets.units import format_amount, format_flops
from pytest_flops.counting.components import depth, segments
from pytest_flops.counting.metric import BYTE, TIME
from pytest_flops.counting.text import in_columns

if TYPE_CHECKING:
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.roofline.roofline import Bound, Roofline

_HEAD = ["component", "FLOPs", "bytes", "FLOP/B", "bound", "computing"]


def roofline_text(
    found: Roofline,
    measurement: Measurement,
    *,
    levels: int | None,
    over: float,
    nanoseconds: int | None,
) -> str:
    """The table, down to so many levels of components, and lines below it.

    Components are left out whose bound is less than `over` so many percent of the whole's.

    `nanoseconds` is how long a step took that somebody measured.

    Raises:
        FasterThanTheBoundError: The device cannot be that fast.
    """
    rows = [_HEAD, _row("total", found.whole)]
    rows += [
        _row("  " * len(segments(path)) + path, bound)
        for path, bound in found.components.items()
        if bound.seconds and (levels is None or depth(path) <= levels)
        if 100 * bound.seconds >= over * found.whole.seconds
    ]
    phases = ", ".join(f"{phase} {_time(bound.seconds)}" for phase, bound in found.phases.items())
    of_products = sum(found.products.values())
    products = ", ".join(
        f"{100 * flops / of_products:.1f} % {kind}" for kind, flops in found.products.items()
    )
    lines = [
        *in_columns(rows),
        f"on {found.device.name} this is not faster than {_time(found.whole.seconds)}",
        f"phases: {phases}",
        *([f"products: {products}"] if products else []),
        *measurement.remarks(),
    ]
    if nanoseconds is not None:
        mfu, share = found.mfu(nanoseconds / 1e9), found.whole.seconds * 1e9 / nanoseconds
        lines.append(
            f"a step of {format_amount(nanoseconds, TIME)}: MFU {100 * mfu:.1f} %; the bound is "
            f"{share:.2f} of it"
        )
    return "\n".join(lines)


def _row(name: str, bound: Bound) -> list[str]:
    return [
        name,
        format_flops(bound.flops),
        format_amount(bound.moved, BYTE),
        f"{bound.intensity:.1f}",
        _time(bound.seconds),
        f"{100 * bound.compute_share:.0f} %",
    ]


def _time(seconds: float) -> str:
    return format_amount(round(seconds * 1e9), TIME)
