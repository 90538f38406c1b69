"""What an author allows more of than in the base: a higher limit, a higher tolerance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.wording import subject
from pytest_flops.budgets.units import format_percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.entry import Entry

Raised = tuple[str, str, str]
"""What was raised, as it was written before, and now."""


def raised(before: Entry, after: Entry) -> Iterator[Raised]:
    """What a budget allows more of, and the limits and sizes that it has no more."""
    if after.tolerance > before.tolerance:
        yield "tolerance", format_percent(before.tolerance), format_percent(after.tolerance)
    old, new = _limits(before), _limits(after)
    for name, limit in old.items():
        if name not in new:
            yield name, _written(limit), "none"
        elif (new[name].allowed or 0) > (limit.allowed or 0):
            yield name, _written(limit), _written(new[name])
    sizes = {sweep.dimension: sweep.sizes for sweep in after.scaling}
    for sweep in before.scaling:
        left = sizes.get(sweep.dimension, sweep.sizes)  # a dropped sweep has dropped its limits
        if not {*sweep.sizes} <= {*left}:
            yield f"sizes of {sweep.dimension}", _listed(sweep.sizes), _listed(left)


def _limits(entry: Entry) -> dict[str, Verdict]:
    """The limits of an entry by what they are about; a pattern's by the pattern."""
    found: dict[str, Verdict] = {}
    for verdict in entry.verdicts:
        if verdict.kind in ("limit", "scaling") and verdict.allowed is not None:
            about = replace(verdict, component=verdict.pattern or verdict.component)
            found.setdefault(f"limit of {subject(about)}", verdict)
    return found


def _listed(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sizes))


def _written(limit: Verdict) -> str:
    return limit.written or f"{limit.allowed:,}"
