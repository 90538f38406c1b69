"""`Entry`: what tests found about one subject; from one test, or joined from several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.verdict import KINDS_BY_SEVERITY, Verdict
from pytest_flops.counting.components import natural
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import QUANTITIES
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.fates import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flops.scaling.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Entry:
    """One subject of a report.

    A judge makes one for each thing that its test counts; it travels on the test's report as a
    plain record, and `join_entries` joins those of one subject and budget.

    Attributes:
        subject: `budgets/file.yaml::name` for the items of a budget file, the node id of a marked
            test, or `NODE ID (count 2)` for the second thing that such a test counts.
        tests: The node ids that found this, sorted.
        verdicts: Every comparison, red and green; in the order of the budget's text once joined.
        measurement: What was counted; `None` when nothing was.
        workload: What the count is of; `None` for a test that brings its own model.
        location: Where the budget stands; `None` for one given in Python.
        tolerance: How far above its base a count may go, as a fraction.
        metered: Whether `--flops` alone counted it, so that nothing is held and no verdict is made.
    """

    subject: str
    budget: str
    tests: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    measurement: Measurement | None = None
    scaling: tuple[Sweep, ...] = ()
    workload: Workload | None = None
    location: Location | None = None
    tolerance: Fraction = Fraction(0)
    metered: bool = False

    @property
    def passed(self) -> bool:
        """Whether something was compared and every comparison is green; or nothing is held."""
        compared = bool(self.verdicts) or self.metered
        return compared and all(verdict.passed for verdict in self.verdicts)

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The red verdicts."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    @property
    def warned(self) -> tuple[Verdict, ...]:
        """The green verdicts that are close to their limits."""
        return tuple(verdict for verdict in self.verdicts if verdict.warned)

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
            "location": str(self.location) if self.location else None,
            "tolerance": str(self.tolerance),
            "tests": list(self.tests),
            "workload": self.workload.to_dict() if self.workload else None,
            "measurement": self.measurement.to_dict() if self.measurement else None,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "scaling": [sweep.to_dict() for sweep in self.scaling],
            **({"metered": True} if self.metered else {}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Entry:
        """The inverse of `to_dict`."""
        measurement, workload = record["measurement"], record["workload"]
        return cls(
            subject=record["subject"],
            budget=record["budget"],
            tests=tuple(record["tests"]),
            verdicts=tuple(Verdict.from_dict(verdict) for verdict in record["verdicts"]),
            measurement=Measurement.from_dict(measurement) if measurement else None,
            scaling=_sweeps(record["scaling"]),
            workload=Workload(**workload) if workload else None,
            location=Location.parse(record["location"]),
            tolerance=Fraction(record["tolerance"]),
            metered=record.get("metered", False),
        )


def _sweeps(records: list[Mapping[str, Any]]) -> tuple[Sweep, ...]:
    if not records:
        return ()
    # Not imported with this module: most runs sweep nothing, and polynomials take long to import.
    from pytest_flops.scaling.sweep import Sweep

    return tuple(Sweep.from_dict(record) for record in records)


def join_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """One entry per subject and budget, sorted; the order given does not matter.

    A subject measured twice with different results gets a red verdict that says so: counts are
    deterministic, so two of them cannot both be right.
    """
    return tuple(_joined(group) for group in of_one_subject(entries))


def of_one_subject(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The entries of each subject and budget together, sorted."""
    ordered = sorted(entries, key=lambda entry: (entry.key, entry.tests))
    return [list(group) for _, group in groupby(ordered, key=lambda entry: entry.key)]


def different_results(entries: Iterable[Entry]) -> str:
    """The held measurements of one subject in words, where they differ; else empty."""
    found = [e.measurement for e in entries if e.measurement is not None and not e.metered]
    if all(other == found[0] for other in found):
        return ""
    return ", ".join(sorted({f"{m.count.total:,} FLOP ({m.source}, {m.rules})" for m in found}))


def _joined(entries: list[Entry]) -> Entry:
    first = entries[0]
    verdicts = {verdict for entry in entries for verdict in entry.verdicts}
    different = different_results(entries)
    if different:
        message = f"{first.budget!r} was measured more than once with different results: "
        verdicts.add(Verdict.error(message + different))
    sweeps = {sweep for entry in entries for sweep in entry.scaling}
    return replace(
        first,
        tests=tuple(sorted({test for entry in entries for test in entry.tests})),
        verdicts=tuple(sorted(verdicts, key=_place)),
        measurement=next((e.measurement for e in entries if e.measurement is not None), None),
        scaling=tuple(sorted(sweeps, key=repr)),
        workload=min((e.workload for e in entries if e.workload), key=repr, default=None),
        location=min((entry.location for entry in entries if entry.location), default=None),
        tolerance=min(entry.tolerance for entry in entries),
        metered=all(entry.metered for entry in entries),
    )


def _place(verdict: Verdict) -> tuple[Any, ...]:
    """Where a verdict stands in its entry: by kind, line, component, quantity."""
    kind = KINDS_BY_SEVERITY.index(verdict.kind)
    quantity = QUANTITIES.index(verdict.quantity) if verdict.quantity in QUANTITIES else -1
    component = natural(verdict.component or "")
    return kind, verdict.location or NOWHERE, component, quantity, repr(verdict)
