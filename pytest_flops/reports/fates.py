"""What became of each test that holds a budget, and of each budget of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pytest_flops.budgets.budget import Location

if TYPE_CHECKING:
    from collections.abc import Iterable


NOWHERE = Location("", 0, 0)

Fate = Literal["measured", "failed", "skipped", "unreached", "elsewhere", "deselected", "unnamed"]
"""The best first.

`failed`: before anything was counted. `unreached`: the run was cut short. `elsewhere`: another
plugin took the test out, as those do that split a suite into shards. `deselected`: pytest did
(`-k`, `-m`, `--deselect`), or nobody asked for it. `unnamed`: a budget that no test names.
"""
NOT_RUN = ("elsewhere", "deselected", "unnamed")
_FATES: tuple[Fate, ...] = get_args(Fate)


@dataclass(frozen=True, slots=True)
class BudgetTest:
    """A collected test that holds a budget: a marked one, or an item of a budget file.

    Attributes:
        test: Its node id.
        budget: The budget's name; the node id where the marker names none.
        location: Where the budget stands; `None` for one given in Python.
        reason: Why it was skipped or left out.
    """

    test: str
    budget: str
    location: Location | None
    fate: Fate
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KnownBudget:
    """A budget of the files this run read, and the best that became of the tests that name it."""

    name: str
    location: Location | None
    fate: Fate

    @property
    def is_stale(self) -> bool:
        """Whether no test measured it, and none that was skipped would have."""
        return self.fate in NOT_RUN


def best_of_tests(tests: Iterable[BudgetTest]) -> tuple[BudgetTest, ...]:
    """Each test once, sorted, with the best that became of it in any shard or worker."""
    best: dict[str, BudgetTest] = {}
    for test in sorted(tests, key=lambda each: (_FATES.index(each.fate), each.reason)):
        best.setdefault(test.test, test)
    return tuple(best[test] for test in sorted(best))


def best_of_budgets(known: Iterable[KnownBudget]) -> tuple[KnownBudget, ...]:
    """Each budget once, sorted, with the best that became of it in any shard."""
    best: dict[tuple[Location, str], KnownBudget] = {}
    for budget in sorted(known, key=lambda each: _FATES.index(each.fate)):
        best.setdefault((budget.location or NOWHERE, budget.name), budget)
    return tuple(best[key] for key in sorted(best))


def with_fates(
    budgets: Iterable[tuple[str, Location | None]], tests: Iterable[BudgetTest]
) -> list[KnownBudget]:
    """The budgets of files, given as name and place, and what became of each."""
    fates: dict[Location | None, Fate] = {}
    for test in sorted(tests, key=lambda each: _FATES.index(each.fate)):
        fates.setdefault(test.location, test.fate)
    return [KnownBudget(name, place, fates.get(place, "unnamed")) for name, place in budgets]
