"""A comparison in words: a headline, the status of a budget, a line per change, and errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.alike import one_per_family
from pytest_flops.budgets.units import format_change, format_flops
from pytest_flops.counting.components import by_parent, parent_of, segments
from pytest_flops.counting.metric import is_total, metric_of, unit_of
from pytest_flops.counting.text import some
from pytest_flops.reports.report import SessionError, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flops.reports.comparison.comparison import BudgetChange, Change, Comparison, Status
    from pytest_flops.reports.report import Report

_FOREIGN = (
    "the base has no budget and no file in common with this report, so nothing was held against "
    "it; is it another project's report?"
)
_WORST_FIRST: tuple[Status, ...] = (
    "grew",
    "unmatched",
    "unmeasured",
    "removed",
    "added",
    "fell",
    "left out",
    "without a count",
    "same",
)
_STATUS = {
    "removed": "gone",
    "unmatched": "new, and held against nothing",
    "unmeasured": "not measured any more",
    "added": "new",
}
_DETAILS = 12
_IN_A_MESSAGE = 3


def headline(comparison: Comparison) -> str:
    """Whether the base is exceeded, and how many budgets have which status, in one line."""
    if comparison.foreign:
        return f"FLOPs against the base: {_FOREIGN}"
    numbers = Counter(budget.status for budget in comparison.budgets)
    listed = ", ".join(f"{numbers[each]:,} {each}" for each in _WORST_FIRST if numbers[each])
    result = "costs more than its base allows" if comparison.regressed else "no regression"
    return f"FLOPs against the base: {result} ({listed or 'no budgets'})"


def changed_budgets(comparison: Comparison) -> list[BudgetChange]:
    """The budgets that are not the same, regressions first; without those that were not held."""
    alike = ("same", "left out", "without a count")
    changed = [b for b in comparison.budgets if b.raised or b.status not in alike]
    return sorted(changed, key=lambda b: (not b.regressed, _WORST_FIRST.index(b.status)))


def regressions(comparison: Comparison) -> list[SessionError]:
    """An error for each budget that regressed."""
    if comparison.foreign:
        return [SessionError(_FOREIGN, kind="regression")]
    gone = [budget.budget for budget in comparison.budgets if budget.status == "removed"]
    return [
        SessionError(_message(budget, gone), budget.location, "regression")
        for budget in comparison.budgets
        if budget.regressed
    ]


def other_tools(comparison: Comparison) -> str:
    """In one line, what counted the base that did not count this report; empty if nothing."""
    listed = ", ".join(
        f"{key.replace('_', '-')} {before}, here {after}"
        for key, (before, after) in comparison.other_tools.items()
    )
    if not listed:
        return ""
    left_out = ", ".join(comparison.not_compared)
    return (
        f"the base was counted with {listed}: a difference may come from there"
        f"{f'; not compared: {left_out}' if left_out else ''}"
    )


def judge_regressions(report: Report, comparison: Comparison) -> Report:
    """The report with an error for each budget that regressed since the base, and no older ones."""
    kept = [error for error in report.errors if error.kind != "regression"]
    return replace(report, errors=in_order(kept + regressions(comparison)))


def _message(budget: BudgetChange, gone: list[str]) -> str:
    if budget.status == "unmatched":
        return (
            f"the budget {budget.budget!r} is new while this is gone: {some(gone)}. If it is the "
            "same under another name, nothing holds it against the base. Rename it without a "
            "change of its cost, or record it with pytest --flops-update and commit the lock file"
        )
    if budget.status == "unmeasured":
        return f"the budget {budget.budget!r} was measured in the base and is not any more"
    told = leading(replace(budget, changes=tuple(_by_itself(budget.changes))))
    grown = [change for change in told if change.regressed]
    hidden = len(grown) - _IN_A_MESSAGE
    listed = "; ".join(map(line, grown[:_IN_A_MESSAGE]))
    more = f"; and {hidden:,} more" if hidden > 0 else ""
    return f"the budget {budget.budget!r} costs more than its base: {listed}{more}"


def _told_status(budget: BudgetChange) -> str:
    words = _STATUS.get(budget.status, budget.status)
    if budget.in_the_base is None:
        return words
    return f"{words}, and held against nothing: in the base its test was {budget.in_the_base}"


def status(budget: BudgetChange) -> str:
    """How a budget changed: `grew, within its tolerance`, `fell by 10 FLOP (-3.0 %)`, `new`."""
    if budget.status == "grew" and not budget.regressed:
        return f"grew, {'as newly recorded' if budget.accepted else 'within its tolerance'}"
    total = budget.total
    if budget.status == "fell" and total is not None and total.difference:
        return f"fell by {format_flops(-total.difference)} ({relative(total)})"
    return _told_status(budget)


def details(budget: BudgetChange) -> Iterator[tuple[str, str]]:
    """What changed in a budget, one line each: our words, then what holds names of users."""
    if budget.was:
        yield "in the base it is ", budget.was
    for name, before, after in budget.raised:
        yield "allows more: ", f"{name} {before} -> {after}"
    for key, (before, after) in budget.workload.items():
        yield "the workload changed: ", f"{key} {before} -> {after}"
    found = leading(budget)
    yield from (("", line(change)) for change in found[:_DETAILS])
    if len(found) > _DETAILS:
        yield f"and {len(found) - _DETAILS:,} more", ""


def line(change: Change) -> str:
    """One change, e.g. `layer_1 total from 140 to 150 FLOP (+7.1 %)`."""
    unit = unit_of(change.quantity).symbol
    if change.base is None or change.head is None:
        return f"{change.about} {relative(change)}: {change.head or change.base or 0:,} {unit}"
    remark = relative(change)
    if change.difference > 0 and not change.regressed:
        remark += f", {'as newly recorded' if change.accepted else 'within tolerance'}"
    return f"{change.about} from {change.base:,} to {change.head:,} {unit} ({remark})"


def relative(change: Change) -> str:
    """The difference in percent of the base, signed; `new` or `gone` without one side."""
    if change.base is None:
        return "new"
    if change.head is None:
        return "gone"
    return format_change(change.difference, change.base)


def leading(budget: BudgetChange) -> list[Change]:
    """The changes worth a line: regressions first, then the largest, the deepest of equals first.

    A component has one for each metric, most often its total. What came or went with its parent
    has none, and components that changed alike share one.
    """
    statuses = {change.component: change.status for change in budget.changes}
    told = [c for c in budget.changes if c.difference and not _covered_by_parent(c, statuses)]
    by_component = groupby(told, key=lambda each: (each.component, metric_of(each.quantity).name))
    weightiest = [max(changes, key=_weight) for _, changes in by_component]
    return one_per_family(sorted(weightiest, key=_order))


def _by_itself(changes: Sequence[Change]) -> Iterator[Change]:
    """The changes of the whole, and of components that are not what their parts changed by."""
    differences = {(each.component, each.quantity): each.difference for each in changes}
    children = by_parent({each.component: each for each in changes if each.component})
    for change in changes:
        below = children.get(change.component, ())
        parts = [differences.get((part, change.quantity), 0) for part in below]
        if change.component is None or not any(parts) or sum(parts) != change.difference:
            yield change


def _covered_by_parent(change: Change, statuses: Mapping[str | None, Status]) -> bool:
    """Whether all of the parent came or went too, so that its line says enough."""
    if change.status not in ("added", "removed") or not change.component:
        return False
    return statuses.get(parent_of(change.component, statuses)) == change.status


def _weight(change: Change) -> tuple[bool, bool, int]:
    """Largest for the total, unless it hides that a phase regressed: then for that phase."""
    return change.regressed, is_total(change.quantity), abs(change.difference)


def _order(change: Change) -> tuple[bool, int, int, str]:
    # By FLOPs and not by the share of the base: bars of this length stand beside the lines.
    depth = len(segments(change.component)) if change.component else 0
    return not change.regressed, -abs(change.difference), -depth, change.component or ""
