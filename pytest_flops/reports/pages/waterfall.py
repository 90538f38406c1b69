"""The way of a total from its base to now, component by component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.alike import one_row_if_alike
from pytest_flops.budgets.judging.blame import own_costs
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.reports.comparison.comparison import BudgetChange

_STEPS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a waterfall: what, by how much, and from where to where in percent."""

    name: str
    value: int
    left: float
    width: float

    @property
    def kind(self) -> str:
        """Which way it goes."""
        return "up" if self.value > 0 else "down"


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A total in the base, what each component adds or saves, and the total now.

    The axis begins at `start`: at 0, unless the steps would be too short to be seen. `phases` are
    those that changed.
    """

    base: Bar
    steps: tuple[Bar, ...]
    now: Bar
    start: int
    phases: tuple[str, ...]


def waterfall(budget: BudgetChange) -> Waterfall | None:
    """How a budget's total came from its base to where it is now; `None` if it did not change."""
    total = budget.total
    if total is None or total.base is None or total.head is None or not total.difference:
        return None
    steps = [*_steps(budget, total.base, total.head)]
    levels = [total.base]
    for _, value in steps:
        levels.append(levels[-1] + value)
    low, high = min(levels), max(levels)
    start = max(low - (high - low), 0)

    def bar(name: str, value: int, *ends: int) -> Bar:
        left, right = (100 * (end - start) / (high - start) for end in sorted(ends))
        return Bar(name, value, left, right - left)

    falls = [
        bar(name, value, level, level + value)
        for (name, value), level in zip(steps, levels, strict=False)
    ]
    base = bar("base", total.base, start, total.base)
    now = bar("now", total.head, start, total.head)
    whole = [c for c in budget.changes if c.component is None and c.quantity in PHASES]
    phases = tuple(change.quantity for change in whole if change.difference)
    return Waterfall(base, tuple(falls), now, start, phases)


def _steps(budget: BudgetChange, base: int, head: int) -> Iterator[tuple[str, int]]:
    """The deepest components that cost another amount, the largest difference first; all of it."""
    of = [(c.component, c) for c in budget.changes if c.component and c.quantity == TOTAL]
    then = own_costs({path: change.base or 0 for path, change in of}, base, None)
    now = dict(own_costs({path: change.head or 0 for path, change in of}, head, None))
    changed = [(path, now[path], now[path] - cost) for path, cost in then if now[path] != cost]
    rows = sorted(one_row_if_alike(changed), key=lambda row: -abs(row[2] or 0))
    yield from ((path, more or 0) for path, _, more in rows[:_STEPS])
    if rest := rows[_STEPS:]:
        yield f"{len(rest):,} smaller", sum(more or 0 for *_, more in rest)
