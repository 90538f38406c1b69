"""What the page says of a budget in a few figures: its size, its growth, the scale of its bar."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.alike import one_per_family
from pytest_flops.budgets.judging.causes import share
from pytest_flops.budgets.units import format_amount, format_flops
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import (
    PARAMETERS,
    TOTAL,
    quantity_of,
)
from pytest_flops.counting.text import percent
from pytest_flops.reports.pages.summary import uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.entry import Entry

_OPERATORS = 5
_PARAMETERS = quantity_of(PARAMETERS, TOTAL)
_ROOM, _WIDEST = 1.25, 4.0
"""How many times what is allowed bars are wide at least and, whatever is over, at most."""


def short_title(entry: Entry) -> str:
    """The title without the file of a test, which stands beside it."""
    name = entry.title if entry.location else entry.title.partition("::")[2]
    return name or entry.title


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """The workload's size in a few words: parameters, FLOPs by input, the dearest operators."""
    found = entry.measurement
    if found is None:
        return
    whole = found.count.total
    if found.counts(_PARAMETERS):
        yield PARAMETERS.name, format_amount(found.of(_PARAMETERS), PARAMETERS.unit)
    for what, number in (entry.workload.inputs if entry.workload else {}).items():
        yield f"per {what}", format_flops(whole // number)
    costs = {name: sum(map(cost.of, PHASES)) for name, cost in found.operations.items()}
    dearest = sorted((name for name in costs if costs[name]), key=lambda name: -costs[name])
    if dearest:
        listed = [f"{name} {percent(costs[name], whole)}" for name in dearest[:_OPERATORS]]
        yield "dearest operators", ", ".join(listed)


def grows(entry: Entry) -> list[Verdict]:
    """How the whole grows over each dimension that is held, or what grows too fast over it."""

    def order(verdict: Verdict) -> tuple[bool, bool]:
        return verdict.passed, (verdict.component, verdict.quantity) != (None, TOTAL)

    found: dict[str | None, Verdict] = {}
    for verdict in sorted(uses(entry, "scaling"), key=order):
        found.setdefault(verdict.dimension, verdict)
    return [*found.values()]


def alike(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The rows of a table: one for all components that cost the same and are allowed the same."""
    return one_per_family(replace(verdict, parts=(), cause="") for verdict in verdicts)


def widest(verdicts: Iterable[Verdict]) -> float:
    """How many times what is allowed the bars of a table are wide."""
    return min(max([_ROOM, *map(share, verdicts)]), _WIDEST)
