"""How an entry stands: how much of each limit is used, which verdict matters most, what is next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.budgets.wording import subject
from pytest_flops.reports.text import percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report

_GRAVEST = ("error", "limit", "recorded", "scaling", "parity")
_STATES = {
    "error": ("could not be judged", "could not be judged", "could not be judged"),
    "limit": ("over its limit", "is over its limit", "are over their limits"),
    "recorded": ("costs more than recorded", "costs more than recorded", "cost more than recorded"),
    "scaling": ("grows too fast", "grows too fast", "grow too fast"),
    "parity": ("the counters disagree", "fails its parity check", "fail their parity checks"),
}


@dataclass(frozen=True, slots=True)
class Use:
    """How much of what is allowed a count uses.

    Attributes:
        verdict: The comparison, a `limit` or a `recorded` one.
        actual: FLOPs counted.
        allowed: FLOPs allowed.
    """

    verdict: Verdict
    actual: int
    allowed: int

    @property
    def share(self) -> float:
        """Counted over allowed; infinite where nothing was allowed and something counted."""
        if self.allowed:
            return self.actual / self.allowed
        return math.inf if self.actual else 1.0

    @property
    def percent(self) -> str:
        """The share for people."""
        return percent(self.actual, self.allowed) if self.allowed else f"{self.actual:,} of 0"

    @property
    def slack(self) -> int:
        """FLOPs left; negative when over."""
        return self.allowed - self.actual

    @property
    def about(self) -> str:
        """The component, if any, and the quantity."""
        return subject(self.verdict)


def uses(entry: Entry, kind: str = "limit") -> list[Use]:
    """Every limit of an entry and its use, the fullest first."""
    found = [
        Use(verdict, int(verdict.actual), int(verdict.allowed))
        for verdict in entry.verdicts
        if verdict.kind == kind and verdict.actual is not None and verdict.allowed is not None
    ]
    return sorted(found, key=lambda use: (use.verdict.passed, -use.share))


def fullest(entry: Entry) -> Use | None:
    """The limit nearest to its end, or furthest beyond it."""
    return next(iter(uses(entry)), None)


def gravest(entry: Entry) -> Verdict | None:
    """The red verdict to tell first: the one furthest over, of the kind that matters most."""
    return min(entry.failures, key=_gravity, default=None)


def _gravity(verdict: Verdict) -> tuple[int, float]:
    over = (verdict.actual or 0) / verdict.allowed if verdict.allowed else 0.0
    return _GRAVEST.index(verdict.kind), -over


def worst_first(entries: Iterable[Entry]) -> list[Entry]:
    """The order of reading: red before green, then the fullest limit first."""

    def place(entry: Entry) -> tuple[bool, int, float, tuple[str, str]]:
        grave = gravest(entry)
        use = fullest(entry)
        kind = _GRAVEST.index(grave.kind) if grave else 0
        return entry.passed, kind, -(use.share if use else 0.0), entry.key

    return sorted(entries, key=place)


def state(entry: Entry) -> str:
    """The entry's outcome in words: `within budget`, `over its limit`, ..."""
    grave = gravest(entry)
    if grave is not None:
        return _STATES[grave.kind][0]
    return "within budget" if entry.verdicts else "nothing was compared"


def headline(report: Report) -> str:
    """The whole report in one sentence."""
    if not report.entries and not report.errors and not report.missing:
        return "Red: nothing was measured."
    if report.passed:
        return f"Green: {_all(len(report.entries))}."
    reasons = [*_red_budgets(report), *_red_run(report)]
    return f"Red: {', and '.join(reasons)}."


def _all(number: int) -> str:
    return "the one budget holds" if number == 1 else f"all {number:,} budgets hold"


def _red_budgets(report: Report) -> list[str]:
    kinds = {grave.kind for entry in report.red if (grave := gravest(entry))}
    number, of = len(report.red), len(report.entries)
    if not number:
        return []
    one, many = _STATES[kinds.pop()][1:] if len(kinds) == 1 else ("is red", "are red")
    who = "the one budget" if of == 1 else f"{number:,} of {of:,} budgets"
    return [f"{who} {one if number == 1 else many}"]


def _red_run(report: Report) -> list[str]:
    reasons = []
    if report.errors:
        reasons.append(_several(len(report.errors), "error of the run itself"))
    if report.missing:
        reasons.append(f"{_several(len(report.missing), 'test')} delivered nothing")
    if not report.complete and not report.missing:
        reasons.append("the run did not come to its end")
    return reasons


def _several(number: int, noun: str) -> str:
    first, _, rest = noun.partition(" ")
    return f"{number:,} {first}{'' if number == 1 else 's'}{rest and ' '}{rest}"
