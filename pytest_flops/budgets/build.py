"""`Budget` records from data that the schema accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget, Limit, ScalingLimit
from pytest_flops.budgets.units import parse_amount, parse_percent, parse_share
from pytest_flops.counting.metric import METRICS, TOTAL, quantity_of, unit_of
from pytest_flops.counting.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flops.budgets.budget import Location
    from pytest_flops.budgets.files.document import Document

    Place = Callable[..., Location | None]


def build_budget(name: str, record: dict[str, Any], document: Document | None = None) -> Budget:
    """One budget, from its record of the budget file format and the document that has it."""

    def place(*keys: str, at_key: bool = False) -> Location | None:
        return document.place(("budgets", name, *keys), at_key=at_key) if document else None

    return Budget(
        name=name,
        workload=_workload(record["workload"]) if "workload" in record else None,
        limits=tuple(_limits(record.get("limits", {}), place)),
        tolerance=parse_percent(record.get("tolerance", "0%")),
        warn=parse_share(record["warn"]) if "warn" in record else None,
        scaling=tuple(_scaling(record.get("scaling", {}), place)),
        location=place(at_key=True),
    )


def _workload(record: dict[str, Any]) -> Workload:
    if "step" not in record:
        return Workload(**record)
    return Workload(**{**record, "model": record["step"], "step": True})


def _limits(record: dict[str, Any], place: Place, *above: str) -> Iterator[Limit]:
    for key, value in record.items():
        if key == "components":
            for pattern, bounds in value.items():
                yield from _limits(bounds, place, key, pattern)
            continue
        metric = METRICS.get(key)
        by_phase = isinstance(value, dict)
        for phase, amount in value.items() if by_phase else [(TOTAL, value)]:
            quantity = quantity_of(metric, phase) if metric else key
            yield Limit(
                quantity=quantity,
                allowed=parse_amount(amount, unit_of(quantity)),
                written=str(amount),
                pattern=above[-1] if above else None,
                location=place("limits", *above, key, *([phase] if by_phase else [])),
            )


def _scaling(record: dict[str, Any], place: Place) -> Iterator[ScalingLimit]:
    for dimension, limit in record.items():
        given = {**limit, "sizes": tuple(limit["sizes"])}
        location = place("scaling", dimension, at_key=True)
        yield ScalingLimit(dimension, **given, location=location)
