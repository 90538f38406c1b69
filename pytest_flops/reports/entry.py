"""`Entry`: all that a run found about one subject, joined from the outcomes of its tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.components import natural
from pytest_flops.counting.count import QUANTITIES
from pytest_flops.counting.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_flops.reports.outcome import Outcome

GRAVEST_FIRST = ("error", "limit", "recorded", "scaling", "parity")


@dataclass(frozen=True, slots=True)
class Entry:
    """One subject of a report.

    Attributes:
        subject: `budgets/file.yaml::name`, or the node id of a marked test.
        budget: The budget's name.
        tests: The node ids that found this, sorted.
        verdicts: Every comparison, in the order of the budget's text.
        measurement: What was counted; `None` when nothing was.
        scaling: One plain record per sweep, as `Sweep.to_dict` makes it.
        workload: The workload as a plain record.
        location: `file:line:column` of the budget.
        tolerance: How far above its base a count may go, as a fraction.
    """

    subject: str
    budget: str
    tests: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    measurement: Measurement | None = None
    scaling: tuple[Mapping[str, Any], ...] = ()
    workload: Mapping[str, Any] | None = None
    location: str | None = None
    tolerance: Fraction = Fraction(0)

    @property
    def passed(self) -> bool:
        """Whether something was compared and every comparison is green."""
        return bool(self.verdicts) and all(verdict.passed for verdict in self.verdicts)

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The red verdicts."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    @property
    def key(self) -> tuple[str, str]:
        """What tells entries apart; a test with two markers has two entries."""
        return self.subject, self.budget

    @property
    def title(self) -> str:
        """The budget's name; with the test's where a marked test holds the budget of a file."""
        own = self.location is None or self.subject.endswith(f"::{self.budget}")
        return self.budget if own else f"{self.budget} in {self.subject.rpartition('::')[2]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "subject": self.subject,
            "budget": self.budget,
            "passed": self.passed,
            "location": self.location,
            "tolerance": str(self.tolerance),
            "tests": list(self.tests),
            "workload": dict(self.workload) if self.workload is not None else None,
            "measurement": self.measurement.to_dict() if self.measurement else None,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "scaling": [dict(sweep) for sweep in self.scaling],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Entry:
        """The inverse of `to_dict`."""
        measurement = record["measurement"]
        return cls(
            subject=record["subject"],
            budget=record["budget"],
            tests=tuple(record["tests"]),
            verdicts=tuple(Verdict.from_dict(verdict) for verdict in record["verdicts"]),
            measurement=Measurement.from_dict(measurement) if measurement else None,
            scaling=tuple(record["scaling"]),
            workload=record["workload"],
            location=record["location"],
            tolerance=Fraction(record["tolerance"]),
        )


def entries_of(outcomes: Iterable[Outcome]) -> Iterator[Entry]:
    """The entry that each outcome alone makes.

    A test may count several things; from its second on, each is a subject of its own.
    """
    counted: dict[tuple[str, str, str], list[Measurement]] = {}
    for outcome in outcomes:
        seen = counted.setdefault((outcome.subject, outcome.budget, outcome.test), [])
        if outcome.measurement is not None and outcome.measurement not in seen:
            seen.append(outcome.measurement)
        number = seen.index(outcome.measurement) + 1 if outcome.measurement else 1
        yield Entry(
            subject=outcome.subject if number == 1 else f"{outcome.subject} (count {number})",
            budget=outcome.budget,
            tests=(outcome.test,),
            verdicts=outcome.verdicts,
            measurement=outcome.measurement,
            scaling=outcome.scaling,
            workload=outcome.workload,
            location=outcome.location,
            tolerance=outcome.tolerance,
        )


def join_entries(parts: Iterable[Entry]) -> tuple[Entry, ...]:
    """One entry per subject and budget, sorted; the order of `parts` does not matter.

    A subject measured twice with different results gets a red verdict that says so: counts are
    deterministic, so two of them cannot both be right.
    """
    ordered = sorted(parts, key=lambda entry: (entry.key, entry.tests))
    return tuple(_join(list(group)) for _, group in groupby(ordered, key=lambda entry: entry.key))


def _join(parts: list[Entry]) -> Entry:
    first = parts[0]
    measurements = [part.measurement for part in parts if part.measurement is not None]
    verdicts = {verdict for part in parts for verdict in part.verdicts}
    if any(other != measurements[0] for other in measurements):
        verdicts.add(_conflict(first.budget, measurements))
    return replace(
        first,
        tests=tuple(sorted({test for part in parts for test in part.tests})),
        verdicts=tuple(sorted(verdicts, key=_place)),
        measurement=measurements[0] if measurements else None,
        scaling=_distinct(sweep for part in parts for sweep in part.scaling),
        workload=next(iter(_distinct(part.workload for part in parts)), None),
        location=min((part.location for part in parts if part.location), default=None),
        tolerance=min(part.tolerance for part in parts),
    )


def _conflict(budget: str, measurements: list[Measurement]) -> Verdict:
    found = sorted({f"{m.count.total:,} FLOP ({m.source}, {m.rules})" for m in measurements})
    story = f"{budget!r} was measured more than once with different results: {', '.join(found)}"
    return Verdict(kind="error", passed=False, message=story)


def _distinct(records: Iterable[Mapping[str, Any] | None]) -> tuple[Mapping[str, Any], ...]:
    by_text = {json.dumps(record, sort_keys=True): record for record in records if record}
    return tuple(by_text[text] for text in sorted(by_text))


def _place(verdict: Verdict) -> tuple[Any, ...]:
    """Where a verdict stands in its entry: by kind, line, component, quantity."""
    quantity = QUANTITIES.index(verdict.quantity) if verdict.quantity in QUANTITIES else -1
    return (
        GRAVEST_FIRST.index(verdict.kind),
        natural(verdict.location or ""),
        natural(verdict.component or ""),
        quantity,
        repr(verdict),
    )
