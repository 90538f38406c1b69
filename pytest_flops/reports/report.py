"""`Report`: everything one run found; JSON, HTML, Markdown and the terminal all read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_flops.budgets.budget import Location
from pytest_flops.counting.metric import described, learn
from pytest_flops.counting.text import some
from pytest_flops.reports.entry import Entry, join_entries
from pytest_flops.reports.fates import (
    NOWHERE,
    BudgetTest,
    Fate,
    KnownBudget,
    best_of_budgets,
    best_of_tests,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FORMAT = "pytest-flops report"
VERSION = 1

_NOT_MEASURED: dict[Fate, str] = {
    "unnamed": "the budget {name!r} is named by no test: mark a test with "
    "@pytest.mark.flops_budget({name!r}); or give it a workload, unless it has one, and let pytest "
    "collect its file (testpaths); or delete it. A file of tests that is skipped whole "
    "(importorskip) names nothing",
    "deselected": "the budget {name!r} was not measured: every test that names it was deselected",
}


@dataclass(frozen=True, slots=True)
class SessionError:
    """Something wrong with the run as a whole, which no single test could find.

    Its kind is `regression` for a budget that costs more than its base; `stale` for one that no
    test measured, which a merge judges anew; or `error`.
    """

    message: str
    location: Location | None = None
    kind: Literal["error", "regression", "stale", "checkout"] = "error"

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found; `schema.json` describes each field."""

    entries: tuple[Entry, ...] = ()
    errors: tuple[SessionError, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    missing: tuple[str, ...] = ()
    budgets_known: tuple[KnownBudget, ...] = ()
    tests: tuple[BudgetTest, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether something was measured, all of it is green, and nothing is missing."""
        sound = self.complete and not self.missing and not self.errors
        return sound and bool(self.entries or self.is_idle_shard) and not self.red

    @property
    def is_idle_shard(self) -> bool:
        """Whether it had nothing to measure, since other shards have all of its tests."""
        fates = {test.fate for test in self.tests}
        return "elsewhere" in fates <= {"elsewhere", "deselected"} and not self.entries

    @property
    def held(self) -> tuple[Entry, ...]:
        """The entries but those that `--flops` alone metered."""
        return tuple(entry for entry in self.entries if not entry.metered)

    @property
    def red(self) -> tuple[Entry, ...]:
        """The entries that did not pass."""
        return tuple(entry for entry in self.entries if not entry.passed)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        metrics = described()
        return {
            "format": FORMAT,
            "version": VERSION,
            "passed": self.passed,
            "complete": self.complete,
            "missing": list(self.missing),
            "errors": [as_record(error) for error in self.errors],
            "budgets_known": [as_record(known) for known in self.budgets_known],
            "tests": [as_record(test) for test in self.tests],
            "entries": [entry.to_dict() for entry in self.entries],
            **({"metrics": metrics} if metrics else {}),
            "environment": dict(self.environment),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Report:
        """The inverse of `to_dict`."""
        learn(record.get("metrics", {}))
        return cls(
            entries=tuple(Entry.from_dict(entry) for entry in record["entries"]),
            errors=tuple(SessionError(**placed(error)) for error in record["errors"]),
            environment=record["environment"],
            complete=record["complete"],
            missing=tuple(record["missing"]),
            budgets_known=tuple(KnownBudget(**placed(known)) for known in record["budgets_known"]),
            # Reports of earlier releases do not list their tests.
            tests=tuple(BudgetTest(**placed(test)) for test in record.get("tests", ())),
        )


def as_record(found: SessionError | KnownBudget | BudgetTest) -> dict[str, Any]:
    """Plain types only."""
    return asdict(found) | {"location": str(found.location) if found.location else None}


def placed(record: Mapping[str, Any]) -> dict[str, Any]:
    """What `as_record` made, ready for the constructor."""
    return {**record, "location": Location.parse(record["location"])}


def build_report(
    entries: Iterable[Entry],
    *,
    errors: Iterable[SessionError] = (),
    environment: Mapping[str, Any] | None = None,
    complete: bool = True,
    missing: Iterable[str] = (),
    budgets_known: Iterable[KnownBudget] = (),
    tests: Iterable[BudgetTest] = (),
    whole_suite: bool = False,
) -> Report:
    """Join what tests found into the run's report; the order of anything given does not matter.

    `whole_suite` says that every test was there: then a budget that nobody measured is an error.
    """
    known, fates = best_of_budgets(budgets_known), best_of_tests(tests)
    if whole_suite:
        # One shard may call a budget stale that another has measured: only this call counts.
        errors = [error for error in errors if error.kind != "stale"]
        errors += [*_not_measured(known), *_left_to_nobody(fates)]
    return Report(
        entries=join_entries(entries),
        errors=in_order(errors),
        environment={key: _plain(value) for key, value in (environment or {}).items()},
        complete=complete,
        missing=tuple(sorted(set(missing))),
        budgets_known=known,
        tests=fates,
    )


def _plain(value: object) -> str | list[str] | None:
    """What other packages add to the environment, as the schema has it."""
    if value is None or isinstance(value, str):
        return value
    return [str(each) for each in value] if isinstance(value, list | tuple) else str(value)


def in_order(errors: Iterable[SessionError]) -> tuple[SessionError, ...]:
    """Each error once, sorted by location."""
    return tuple(sorted(set(errors), key=lambda e: (e.location or NOWHERE, e.message, e.kind)))


def _not_measured(known: Iterable[KnownBudget]) -> Iterator[SessionError]:
    for budget in known:
        if message := _NOT_MEASURED.get(budget.fate):
            yield SessionError(message.format(name=budget.name), budget.location, "stale")


def _left_to_nobody(tests: Iterable[BudgetTest]) -> Iterator[SessionError]:
    left = [test.test for test in tests if test.fate == "elsewhere"]
    if left:
        one = "this test was" if len(left) == 1 else f"these {len(left):,} tests were"
        message = f"{one} left to another shard, whose report is not here: {some(left)}"
        yield SessionError(message, kind="stale")


def to_json(report: Report) -> str:
    """The report as JSON: the same text for the same report, keys in a fixed order."""
    return json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n"
