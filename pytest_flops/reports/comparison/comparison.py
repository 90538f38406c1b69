"""`Comparison`: what a run costs against its base, per budget, component and phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.budgets.budget import Location
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Quantity
    from pytest_flops.reports.comparison.raised import Raised
    from pytest_flops.reports.fates import Fate

Status = Literal[
    "added",
    "unmatched",
    "removed",
    "left out",
    "unmeasured",
    "without a count",
    "grew",
    "fell",
    "same",
]


@dataclass(frozen=True, slots=True)
class Change:
    """One quantity of the workload or of a component, before and after."""

    component: str | None  # `None` is the whole workload
    quantity: Quantity
    base: int | None  # FLOPs before; `None` where the component is new
    head: int | None  # FLOPs now; `None` where the component is gone
    allowed: int | None  # the most that is no regression; `None` without a base
    accepted: bool = False  # allowed only because its author recorded it anew

    @property
    def about(self) -> str:
        """What it is of, in words: `lm_head forward`, `total`."""
        return f"{self.component or ''} {self.quantity}".lstrip()

    @property
    def difference(self) -> int:
        """FLOPs more than before; negative when fewer."""
        return (self.head or 0) - (self.base or 0)

    @property
    def status(self) -> Status:
        """How it changed, whatever the tolerance."""
        if self.base is None:
            return "added"
        if self.head is None:
            return "removed"
        if self.head == self.base:
            return "same"
        return "grew" if self.head > self.base else "fell"

    @property
    def regressed(self) -> bool:
        """Whether it costs more than its base and the tolerance allow."""
        return self.head is not None and self.allowed is not None and self.head > self.allowed

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "component": self.component,
            "quantity": self.quantity,
            "status": self.status,
            "regressed": self.regressed,
            "accepted": self.accepted,
            "base": self.base,
            "head": self.head,
            "difference": self.difference,
            "allowed": self.allowed,
        }


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """One budget before and after.

    Attributes:
        status: `added`; `unmatched` (added, while another is gone that it may be); `removed` (not
            in the new report); `left out` (its tests were deselected); `unmeasured` (there, or
            lost by an incomplete run, but no longer counted); `without a count` (in both, as a test
            of growth alone); `grew`, `fell`, or `same`. A budget
            grew when any of its quantities or components did.
        was: The subject it had in the base, if another.
        in_the_base: What became in the base of the test of an `added` one, if it had it.
        raised: What its author allows more of than in the base.
        changes: Every quantity of the workload, then of each component.
        workload: What changed in the workload, by key, as (before, after).
        base: What the base counted, where both counted something.
    """

    subject: str
    budget: str
    location: Location | None
    status: Status
    was: str | None = None
    in_the_base: Fate | None = None
    raised: tuple[Raised, ...] = ()
    changes: tuple[Change, ...] = ()
    workload: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    base: Measurement | None = None

    @property
    def regressed(self) -> bool:
        """Whether anything costs more than allowed, or is no longer measured."""
        held_by_nothing = self.status in ("unmeasured", "unmatched")
        return held_by_nothing or any(change.regressed for change in self.changes)

    @property
    def accepted(self) -> bool:
        """Whether something is allowed only because its author recorded it anew."""
        return any(change.accepted for change in self.changes)

    @property
    def total(self) -> Change | None:
        """The change of the whole workload's total."""
        return next((c for c in self.changes if (c.component, c.quantity) == (None, "total")), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "subject": self.subject,
            "budget": self.budget,
            "status": self.status,
            "regressed": self.regressed,
            "location": str(self.location) if self.location else None,
            "was": self.was,
            "in_the_base": self.in_the_base,
            "raised": [list(each) for each in self.raised],
            "workload": {key: list(pair) for key, pair in self.workload.items()},
            "changes": [change.to_dict() for change in self.changes],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports side by side.

    Attributes:
        budgets: Every budget of either, sorted by subject.
        foreign: Whether both hold budgets but share neither a budget's name nor a file: the base
            is another project's report, and holds nothing.
        other_tools: Versions and platform that are not the same in both, as (before, after).
        not_compared: The metrics that say nothing between these versions of PyTorch.
    """

    budgets: tuple[BudgetChange, ...]
    base_commit: str | None = None
    foreign: bool = False
    other_tools: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    not_compared: tuple[str, ...] = ()

    @property
    def by_key(self) -> dict[tuple[str, str], BudgetChange]:
        """The budgets by the keys of their entries."""
        return {(budget.subject, budget.budget): budget for budget in self.budgets}

    @property
    def regressed(self) -> bool:
        """Whether any budget regressed, or nothing was held."""
        return self.foreign or any(budget.regressed for budget in self.budgets)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "regressed": self.regressed,
            "foreign": self.foreign,
            "other_tools": {key: list(pair) for key, pair in self.other_tools.items()},
            "not_compared": list(self.not_compared),
            "budgets": [budget.to_dict() for budget in self.budgets],
        }
