"""`Budget` records from data that the schema accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget, Limit, ScalingLimit
from pytest_flops.budgets.units import parse_amount, parse_percent
from pytest_flops.counting.metric import unit_of
from pytest_flops.counting.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.files.document import Document


def build_budget(name: str, record: dict[str, Any], document: Document | None = None) -> Budget:
    """One budget, from its record of the budget file format and the document that has it."""
    return Budget(
        name=name,
        workload=Workload(**record["workload"]) if "workload" in record else None,
        limits=tuple(_limits(record.get("limits", {}), document)),
        tolerance=parse_percent(record.get("tolerance", "0%")),
        scaling=tuple(_scaling(record.get("scaling", {}), document)),
        location=document.place(("budgets", name), at_key=True) if document else None,
    )


def _limits(
    record: dict[str, Any], document: Document | None, pattern: str | None = None
) -> Iterator[Limit]:
    for key, value in record.items():
        if key == "components":
            for each, bounds in value.items():
                yield from _limits(bounds, document, each)
            continue
        yield Limit(
            quantity=key,
            allowed=parse_amount(value, unit_of(key)),
            written=str(value),
            pattern=pattern,
            location=document.value_place(record, key) if document else None,
        )


def _scaling(record: dict[str, Any], document: Document | None) -> Iterator[ScalingLimit]:
    for dimension, limit in record.items():
        sizes = tuple(limit["sizes"])
        place = document.key_place(record, dimension) if document else None
        yield ScalingLimit(**{**limit, "dimension": dimension, "sizes": sizes, "location": place})
