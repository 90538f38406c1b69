"""`Verdict`: one comparison, its outcome and its words; every output reads this one object."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_flops.budgets.budget import Location

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.metric import Quantity

Kind = Literal["limit", "recorded", "scaling", "parity", "error"]

KINDS_BY_SEVERITY: tuple[Kind, ...] = ("error", "scaling", "limit", "recorded", "parity")
"""The order of telling: growth over a size says more than what it came to at one size."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was held against what, and whether it passed. Plain types only: it travels as JSON.

    Attributes:
        kind: `limit` (a written bound), `recorded` (the recorded count plus tolerance), `scaling`
            (an exponent), `parity` (analytic against metered), or `error`: nothing could be
            compared, so it cannot pass (a pattern without a match, a count of nothing, ...).
        passed: Whether the gate lets this through.
        quantity: What was compared; `None` for an error.
        component: The component's path; `None` for the whole workload.
        actual: What was counted, in the quantity's unit; for `scaling` an exponent.
        allowed: The largest value that passes, in the same unit.
        written: The limit as its author wrote it; for `recorded`, the tolerance.
        recorded: The recorded count of a `recorded` verdict, before tolerance.
        pattern: The component pattern that brought this component here.
        dimension: The swept dimension of a scaling verdict.
        location: Where the limit stands; `None` for one given in Python.
        message: For an error, the whole story; otherwise a remark to add, or empty.
        parts: For a red limit or recorded verdict: what makes up most of the excess or of the
            cost, as (component path, FLOPs, FLOPs above the recorded count or None) rows, largest
            first. Components that are alike are one row, `layer_0..11.moe x 12`.
        cause: What made it red, in a phrase; empty where nothing is known of it.
        warned: Whether it passed, and uses more of its limit than the budget's `warn`.
    """

    kind: Kind
    passed: bool
    quantity: Quantity | None = None
    component: str | None = None
    actual: float | None = None
    allowed: float | None = None
    written: str | None = None
    recorded: int | None = None
    pattern: str | None = None
    dimension: str | None = None
    location: Location | None = None
    message: str = ""
    parts: tuple[tuple[str, int, int | None], ...] = field(default=())
    cause: str = ""
    warned: bool = False

    @classmethod
    def error(cls, message: str, **about: Any) -> Verdict:
        """Nothing could be compared, so it cannot pass; `about` are further fields."""
        return cls("error", passed=False, message=message, **about)

    @property
    def about(self) -> str:
        """What it is of, in words: `lm_head forward`, `total`; empty where that is not known."""
        return " ".join(word for word in (self.component, self.quantity) if word)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        location = str(self.location) if self.location else None
        parts = [list(part) for part in self.parts]
        return {**asdict(self), "location": location, "parts": parts}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`."""
        parts = tuple((path, flops, above) for path, flops, above in record["parts"])
        return cls(**{**record, "location": Location.parse(record["location"]), "parts": parts})
