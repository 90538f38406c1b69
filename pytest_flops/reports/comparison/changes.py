"""Rows of change against a base, for the pages: the largest first, each with its diverging bar."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.blame import one_per_family
from pytest_flops.budgets.units import format_exact
from pytest_flops.counting.components import parent_of, segments
from pytest_flops.reports.pages.text import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flops.budgets.budget import Location
    from pytest_flops.reports.comparison.comparison import BudgetChange, Change, Comparison, Status


FOREIGN = (
    "the base has no budget and no file in common with this report, so nothing was held against "
    "it; is it another project's report?"
)


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One component, or the whole workload, in one quantity.

    Attributes:
        change: Before and after.
        bar: Length of its bar in percent of the longest; its side is the sign of the difference.
    """

    change: Change
    bar: float


def regressions(comparison: Comparison) -> list[tuple[str, Location | None]]:
    """One message per budget that is dearer than allowed or no longer measured; and its place."""
    if comparison.foreign:
        return [(FOREIGN, None)]
    return [(_story(b), b.location) for b in comparison.budgets if b.regressed]


def _story(budget: BudgetChange) -> str:
    if budget.status == "unmeasured":
        return f"the budget {budget.budget!r} was measured in the base and is not any more"
    grown = [change for change in leading(budget) if change.regressed]
    more = f"; {len(grown) - 3:,} more components" if len(grown) > 3 else ""
    listed = "; ".join(_growth(change) for change in grown[:3])
    return f"the budget {budget.budget!r} costs more than its base: {listed}{more}"


def _growth(change: Change) -> str:
    about = " ".join(word for word in (change.component, change.quantity) if word)
    base, head = format_exact(change.base or 0), format_exact(change.head or 0)
    return f"{about} from {base} to {head} FLOP ({relative(change)})"


def relative(change: Change) -> str:
    """The difference in percent of the base, signed; `new` or `gone` without one side."""
    if change.base is None:
        return "new"
    if change.head is None:
        return "gone"
    if not change.base:
        return "from 0"
    sign = "+" if change.difference >= 0 else "-"
    return sign + percent(abs(change.difference), change.base)


def changed(budget: BudgetChange) -> list[Change]:
    """What is not the same: regressions first, then the largest, the deepest of equals first."""
    found = [change for change in budget.changes if change.status != "same" and change.difference]
    return sorted(found, key=_place)


def leading(budget: BudgetChange) -> list[Change]:
    """One change per component, most often its total; not what came or went with its parent.

    What is the same of several components is one change.
    """
    here = {change.component: change.status for change in budget.changes}
    by_component = sorted(
        (change for change in changed(budget) if not _told_by_parent(change, here)),
        key=lambda change: change.component or "",
    )
    groups = groupby(by_component, key=lambda change: change.component)
    return one_per_family(sorted((_total_or_largest(group) for _, group in groups), key=_place))


def rows(changes: Iterable[Change]) -> list[ChangeRow]:
    """The changes with their bars."""
    listed = list(changes)
    longest = max((abs(change.difference) for change in listed), default=0)
    return [ChangeRow(c, 100 * abs(c.difference) / longest if longest else 0.0) for c in listed]


def _told_by_parent(change: Change, statuses: Mapping[str | None, Status]) -> bool:
    """Whether all of the parent came or went too, so that its line says enough."""
    if change.status not in ("added", "removed") or not change.component:
        return False
    return statuses.get(parent_of(change.component, statuses)) == change.status


def _total_or_largest(group: Iterable[Change]) -> Change:
    """The total, unless it hides that a phase regressed: then the phase that grew most."""
    listed = list(group)
    total = next((change for change in listed if change.quantity == "total"), None)
    if total is not None and (total.regressed or not any(c.regressed for c in listed)):
        return total
    return max(listed, key=lambda change: (change.regressed, abs(change.difference)))


def _place(change: Change) -> tuple[bool, int, int, str]:
    depth = len(segments(change.component)) if change.component else 0
    return not change.regressed, -abs(change.difference), -depth, change.component or ""
