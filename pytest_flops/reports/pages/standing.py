"""How an entry stands: how much of each limit is used, which verdict matters most, what is next."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import printable
from pytest_flops.budgets.judging.blame import one_per_family
from pytest_flops.budgets.judging.wording import headline as verdict_headline
from pytest_flops.budgets.judging.wording import subject
from pytest_flops.counting.components import common_ancestor
from pytest_flops.reports.entry import GRAVEST_FIRST
from pytest_flops.reports.pages.text import percent, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.report import Report

_NAME = 60
_KINDS_OF_USE = ("limit", "recorded", "scaling")
_STATES = {
    "error": ("could not be judged", "could not be judged", "could not be judged"),
    "limit": ("over its limit", "is over its limit", "are over their limits"),
    "recorded": ("costs more than recorded", "costs more than recorded", "cost more than recorded"),
    "scaling": ("grows too fast", "grows too fast", "grow too fast"),
    "parity": ("the counters disagree", "fails its parity check", "fail their parity checks"),
}
_FAULTS = {
    "regression": ("budget costs more than its base", "budgets cost more than their base"),
    "stale": ("budget is measured by no test", "budgets are measured by no test"),
    "error": ("error of the run itself", "errors of the run itself"),
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
    """The red verdict to tell first: the one furthest over, of the kind that matters most.

    Limits are what they are for their own reasons, so the share of one tells how far over it is.
    Recorded counts are parts of one whole, so FLOPs tell. Of components that are alike it is one
    verdict.
    """
    grave = min(entry.failures, key=_gravity, default=None)
    if grave is None:
        return None
    # Of the others only those that may be alike are compared: this is asked for again and again.
    as_grave = (verdict for verdict in entry.failures if _figures(verdict) == _figures(grave))
    return one_per_family(as_grave, parts=())[0]


def less_grave(entry: Entry) -> list[Verdict]:
    """The other red verdicts."""
    grave = gravest(entry)
    return [verdict for verdict in one_per_family(entry.failures, parts=()) if verdict != grave]


def _figures(verdict: Verdict) -> tuple[object, ...]:
    return verdict.kind, verdict.quantity, verdict.actual, verdict.allowed


def _gravity(verdict: Verdict) -> tuple[int, float]:
    actual, allowed = verdict.actual or 0, verdict.allowed or 0
    if verdict.kind == "recorded":
        over = actual - allowed
    else:
        over = actual / allowed if allowed else math.inf
    return GRAVEST_FIRST.index(verdict.kind), -over


def worst_first(entries: Iterable[Entry]) -> list[Entry]:
    """The order of reading: red before green, then the fullest limit first."""

    def place(entry: Entry) -> tuple[bool, int, float, tuple[str, str]]:
        grave = gravest(entry)
        use = fullest(entry)
        kind = GRAVEST_FIRST.index(grave.kind) if grave else 0
        return entry.passed, kind, -(use.share if use else 0.0), entry.key

    return sorted(entries, key=place)


def state(entry: Entry) -> str:
    """The entry's outcome in words: `within budget`, `over its limit`, ..."""
    grave = gravest(entry)
    if grave is not None:
        return _STATES[grave.kind][0]
    if not entry.verdicts:
        return "nothing was compared"
    if any(verdict.kind in _KINDS_OF_USE and _is_above(verdict) for verdict in entry.verdicts):
        return "over, as expected"
    return "within budget" if holds_something(entry) else entry.verdicts[0].message


def holds_something(entry: Entry) -> bool:
    """Whether anything was compared; a budget that is not recorded yet has remarks alone."""
    return any(verdict.allowed is not None for verdict in entry.verdicts)


def _is_above(verdict: Verdict) -> bool:
    both = verdict.actual is not None and verdict.allowed is not None
    return both and (verdict.actual or 0) > (verdict.allowed or 0)


def headline(report: Report) -> str:
    """The whole report in one sentence."""
    if not report.entries and not report.errors and not report.missing:
        return "Red: nothing was measured."
    if report.passed:
        idle = sum(not holds_something(entry) for entry in report.entries)
        but = f", but {idle} of {len(report.entries)} holds nothing yet" if idle else ""
        return f"Green: {_all(len(report.entries))}{but}."
    reasons = [*_red_budgets(report), *_red_run(report)]
    return f"Red: {', and '.join(reasons)}."


def story(entry: Entry) -> str:
    """Why an entry is red, in one sentence: its gravest verdict, and what grew most."""
    grave = gravest(entry)
    if grave is None:
        return state(entry)
    grown = culprit(grave)
    return f"{verdict_headline(grave)}; {grown} grew most" if grown else verdict_headline(grave)


def culprit(verdict: Verdict) -> str | None:
    """The component that holds all that grew, or else the one that grew most, if it is known."""
    grown = [path for path, _, above in verdict.parts if above]
    if not grown:
        return None
    common = common_ancestor(grown) or ""
    found = common if len(common) > len(verdict.component or "") else grown[0]
    return None if found == verdict.component else shorten(printable(found), _NAME)


def _all(number: int) -> str:
    return "the one budget holds" if number == 1 else f"all {number:,} budgets hold"


def _red_budgets(report: Report) -> list[str]:
    kinds = {grave.kind for entry in report.red if (grave := gravest(entry))}
    number, of = len(report.red), len(report.entries)
    if not number:
        return []
    one, many = _STATES[kinds.pop()][1:] if len(kinds) == 1 else ("is red", "are red")
    who = "the one budget" if of == 1 else f"{number:,} of {of:,} budgets"
    return [f"{who} {one}{_because(report.red[0])}" if number == 1 else f"{who} {many}"]


def _because(entry: Entry) -> str:
    """What exactly, and why, of the only red entry."""
    grave = gravest(entry)
    if grave is None or grave.kind in ("error", "parity"):
        return ""
    about = shorten(printable(subject(grave)), _NAME)
    grown = culprit(grave)
    return f": {about}, because {grown} grew" if grown else f": {about}"


def _red_run(report: Report) -> list[str]:
    kinds: Counter[str] = Counter(error.kind for error in report.errors)
    reasons = [_counted(kinds[kind], *words) for kind, words in _FAULTS.items() if kinds[kind]]
    if report.missing:
        reasons.append(
            _counted(len(report.missing), "test delivered nothing", "tests delivered nothing")
        )
    if not report.complete and not report.missing:
        reasons.append("the run did not come to its end")
    return reasons


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
