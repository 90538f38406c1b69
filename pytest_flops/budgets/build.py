"""`Budget` records from data that the schema accepts."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget, Limit, ScalingLimit
from pytest_flops.budgets.files.placed import key_place, plain, value_place
from pytest_flops.budgets.units import parse_amount, parse_percent
from pytest_flops.counting.metric import unit_of
from pytest_flops.counting.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_flops.budgets.budget import Location


def build_budget(name: str, record: Mapping[str, Any], location: Location | None = None) -> Budget:
    """One budget, from its record of the budget file format."""
    return Budget(
        name=name,
        workload=_workload(record["workload"]) if "workload" in record else None,
        limits=tuple(_all_limits(record.get("limits", {}))),
        tolerance=parse_percent(record["tolerance"]) if "tolerance" in record else Fraction(0),
        scaling=tuple(_scaling(record.get("scaling", {}))),
        location=location,
    )


def _workload(record: Mapping[str, Any]) -> Workload:
    return Workload(**{**record, "config": plain(record.get("config", {}))})


def _all_limits(record: Mapping[str, Any]) -> Iterator[Limit]:
    for key, value in record.items():
        if key != "components":
            yield _limit(record, key, None)
            continue
        for pattern, bounds in value.items():
            for quantity in bounds:
                yield _limit(bounds, quantity, pattern)


def _limit(bounds: Mapping[str, Any], quantity: str, pattern: str | None) -> Limit:
    written = bounds[quantity]
    return Limit(
        quantity=quantity,
        allowed=parse_amount(written, unit_of(quantity)),
        written=str(written),
        pattern=pattern,
        location=value_place(bounds, quantity),
    )


def _scaling(record: Mapping[str, Any]) -> Iterator[ScalingLimit]:
    for dimension, limit in record.items():
        yield ScalingLimit(
            dimension=dimension,
            sizes=tuple(limit["sizes"]),
            max_exponent=limit.get("max_exponent"),
            components=plain(limit.get("components", {})),
            tolerance=limit.get("tolerance", 0.0),
            location=key_place(record, dimension),
        )
