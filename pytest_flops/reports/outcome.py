"""`Outcome`: what one test found out about one budget; what travels from a worker to the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test's finding. Outcomes of one `subject` are joined into one entry of the report.

    Attributes:
        subject: The report entry it belongs to: `budgets/resnet_bk.yaml::resnet-bk-baseline` for
            the items of a budget file, the test's node id for a marked test.
        budget: The budget's name.
        test: The node id of the test that found this.
        verdicts: Every comparison made, red and green.
        measurement: What was counted; `None` when the test counted nothing.
        scaling: One plain record per sweep, as `scaling.Sweep.to_dict` makes it.
        workload: The workload as a plain record, or `None`.
        location: `file:line:column` of the budget, or `None` for an inline one.
        tolerance: The budget's tolerance, for comparing with another report.
    """

    subject: str
    budget: str
    test: str
    verdicts: tuple[Verdict, ...]
    measurement: Measurement | None = None
    scaling: tuple[Mapping[str, Any], ...] = field(default=())
    workload: Mapping[str, Any] | None = None
    location: str | None = None
    tolerance: Fraction = Fraction(0)

    @property
    def passed(self) -> bool:
        """Whether every verdict is green."""
        return all(verdict.passed for verdict in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON and for a `TestReport` of pytest-xdist."""
        return {
            "subject": self.subject,
            "budget": self.budget,
            "test": self.test,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "measurement": self.measurement.to_dict() if self.measurement else None,
            "scaling": [dict(sweep) for sweep in self.scaling],
            "workload": dict(self.workload) if self.workload is not None else None,
            "location": self.location,
            "tolerance": str(self.tolerance),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_dict`."""
        measurement = record["measurement"]
        return cls(
            subject=record["subject"],
            budget=record["budget"],
            test=record["test"],
            verdicts=tuple(Verdict.from_dict(verdict) for verdict in record["verdicts"]),
            measurement=Measurement.from_dict(measurement) if measurement else None,
            scaling=tuple(record["scaling"]),
            workload=record["workload"],
            location=record["location"],
            tolerance=Fraction(record["tolerance"]),
        )
