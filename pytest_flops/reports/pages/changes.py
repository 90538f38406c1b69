"""What changed since the base, the largest difference first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.budgets.units import format_apart
from pytest_flops.counting.metric import FLOPS, TOTAL, is_total, metric_of, unit_of
from pytest_flops.reports.comparison.wording import leading
from pytest_flops.reports.pages.summary import cause, worst

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flops.reports.comparison.comparison import BudgetChange, Change, Comparison
    from pytest_flops.reports.pages.card import Card
    from pytest_flops.reports.pages.waterfall import Waterfall

_OTHERS = {
    "removed": ("budget is no longer held", "budgets are no longer held"),
    "added": ("budget is new", "budgets are new"),
    "left out": ("budget was left out of this run", "budgets were left out of this run"),
    "without a count": ("budget holds growth alone", "budgets hold growth alone"),
    "same": ("budget costs the same, to the last FLOP", "budgets cost the same, to the last FLOP"),
}
"""By status of a budget without figures to show: what one or several of them are."""


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One quantity of one budget; its bar's `length` is in percent of the longest."""

    card: Card
    change: Change
    length: float

    @property
    def amounts(self) -> tuple[str, str]:
        """Before and now, in every digit where they would look alike."""
        base, head = self.change.base or 0, self.change.head or 0
        show = format_apart(base, head, unit_of(self.change.quantity))
        return show(base), show(head)

    @property
    def about(self) -> str:
        """What of the budget it is, if that is not the FLOPs in whole."""
        component, quantity = self.change.component, self.change.quantity
        if component is None and is_total(quantity):
            return "" if quantity == TOTAL else metric_of(quantity).name
        return self.change.about


@dataclass(frozen=True, slots=True)
class Changes:
    """All that changed: the rows, and in words what has no figures, with the names of some."""

    rows: Sequence[ChangeRow]
    others: Sequence[tuple[str, Sequence[str]]]

    @property
    def most(self) -> Card | None:
        """The budget whose total changed most, of those that cost more than allowed if any do."""
        totals = [row for row in self.rows if not row.about]
        totals.sort(key=lambda row: not row.change.regressed)
        return totals[0].card if totals else None

    @property
    def waterfall(self) -> Waterfall | None:
        """How it came from its base to where it is now."""
        return self.most.waterfall if self.most else None

    @property
    def cause(self) -> str:
        """What made it red, if it is and that is known."""
        verdict = worst(self.most.entry) if self.most else None
        return cause(verdict) if verdict else ""


def changes_of(cards: Sequence[Card], comparison: Comparison) -> Changes:
    """What each budget costs more or less in whole, by metric, the largest difference first."""
    found = [
        (card, change)
        for card in cards
        if card.change
        for change in _of_the_whole(card.change) or leading(card.change)[:1]
    ]
    found.sort(key=lambda pair: _largest_first(pair[1]))
    longest: dict[str, int] = {}
    for _, change in found:
        longest.setdefault(metric_of(change.quantity).name, abs(change.difference))
    rows = [
        ChangeRow(card, change, 100 * abs(change.difference) / longest[name])
        for card, change in found
        for name in [metric_of(change.quantity).name]
    ]
    return Changes(rows, [*_others(comparison)])


def _of_the_whole(budget: BudgetChange) -> list[Change]:
    return [
        change
        for change in budget.changes
        if change.component is None and is_total(change.quantity) and change.difference
    ]


def _largest_first(change: Change) -> tuple[bool, str, int]:
    metric = metric_of(change.quantity)
    return metric is not FLOPS, metric.name, -abs(change.difference)


def _others(comparison: Comparison) -> Iterator[tuple[str, Sequence[str]]]:
    for status, (one, many) in _OTHERS.items():
        names = [budget.budget for budget in comparison.budgets if budget.status == status]
        if names:
            words = f"{len(names):,} {one if len(names) == 1 else many}"
            yield words, [] if status == "same" else names
