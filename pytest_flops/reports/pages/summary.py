"""A report in short: which verdict matters most, how full each limit is, and the one sentence."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import printable
from pytest_flops.budgets.judging.blame import one_per_family
from pytest_flops.budgets.judging.wording import headline as verdict_headline
from pytest_flops.budgets.judging.wording import subject
from pytest_flops.budgets.units import format_amount, format_flops
from pytest_flops.counting.components import common_ancestor
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import (
    FLOPS,
    METRICS,
    QUANTITIES,
    TOTAL,
    quantities_of,
    quantity_of,
)
from pytest_flops.reports.entry import KINDS_BY_SEVERITY
from pytest_flops.reports.text import percent, shorten, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.fates import Fate
    from pytest_flops.reports.report import Report

_NAME = 60
_FAILURES = {
    "error": ("could not be judged", "could not be judged", "could not be judged"),
    "limit": ("over its limit", "is over its limit", "are over their limits"),
    "recorded": ("costs more than recorded", "costs more than recorded", "cost more than recorded"),
    "scaling": ("grows too fast", "grows too fast", "grow too fast"),
    "parity": ("the counters disagree", "fails its parity check", "fail their parity checks"),
}
"""By kind of the worst verdict: the status of an entry, and what one or several budgets do."""

_FAULTS = {
    "regression": ("budget is red against its base", "budgets are red against their base"),
    "stale": ("budget is measured by no test", "budgets are measured by no test"),
    "checkout": ("run imported another worktree's code", "runs imported another worktree's code"),
    "error": ("error of the run itself", "errors of the run itself"),
    "missing": ("test delivered nothing", "tests delivered nothing"),
}
"""By kind of what is wrong with the run as a whole: what one or several of it are."""

# A wrong prefix of a unit is a factor of 1,000. A hundred finds one also where the limit was meant
# to be a tenth of the figure, and is more room than a limit has that is meant to hold something.
_HOLDS_NOTHING = 100


_LEFT_OUT: dict[Fate, str] = {
    "unreached": "not reached",
    "deselected": "deselected",
    "elsewhere": "taken out by another plugin or a conftest, as shards are",
}


def uses(entry: Entry, kind: str = "limit") -> list[Verdict]:
    """The verdicts of one kind that have figures: those over first, then the fullest."""
    found = [v for v in entry.verdicts if v.kind == kind and None not in (v.actual, v.allowed)]
    return sorted(found, key=lambda verdict: (verdict.passed, -share(verdict)))


def fullest(entry: Entry) -> Verdict | None:
    """The limit nearest to its end, or furthest beyond it."""
    return next(iter(uses(entry)), None)


def title(entry: Entry) -> str:
    """The entry's name, and whose operators the figures are of where they are not the CPU's."""
    like_cuda = entry.workload is not None and entry.workload.like == "cuda"
    return f"{entry.title} (as on CUDA)" if like_cuda else entry.title


def limit_used(entry: Entry) -> str | None:
    """How much of the fullest limit is used: `99.9 % of lm_head forward`."""
    limit = fullest(entry)
    return f"{used(limit)} of {subject(limit)}" if limit else None


def remarks(entry: Entry) -> Iterator[str]:
    """What no verdict says: work that was not counted, limits that nothing can reach."""
    if entry.measurement:
        yield from entry.measurement.assumptions
    number = entry.measurement.child_processes if entry.measurement else 0
    if number:
        processes = "1 child process" if number == 1 else f"{number:,} child processes"
        yield f"{processes} started meanwhile; what they computed is counted by nobody"
    nearest: dict[tuple[str | None, str | None], Verdict] = {}
    for limit in reversed(uses(entry)):  # of the components that a pattern matches, the fullest
        nearest[limit.pattern, limit.quantity] = limit
    far = [v for v in nearest.values() if 0 < (v.actual or 0) * _HOLDS_NOTHING < (v.allowed or 0)]
    if far:
        furthest = min(far, key=share)
        actual, allowed = int(furthest.actual or 1), int(furthest.allowed or 0)
        limit_of = f"{subject(furthest)}, {furthest.written or f'{allowed:,}'},"
        more = f", and {len(far) - 1} more likewise" if far[1:] else ""
        yield (
            f"the limit of {limit_of} is {allowed // actual:,} times the count and holds nothing"
            f"{more}: is the unit right?"
        )


def totals(entry: Entry) -> list[str]:
    """What the whole workload costs, by quantity; dashes where nothing was counted."""
    found = entry.measurement
    return [format_flops(found.count.of(quantity)) if found else "-" for quantity in QUANTITIES]


def by_phase(measurement: Measurement) -> list[tuple[str, list[str]]]:
    """What was counted: by metric, FLOPs first, a value for each phase and the total."""
    rows = []
    for metric in (FLOPS, *(METRICS[name] for name in measurement.metrics)):
        own = quantities_of(metric)
        every = [quantity_of(metric, phase) for phase in (*PHASES, TOTAL)]
        values = [
            format_amount(measurement.of(quantity), metric.unit) if quantity in own else "-"
            for quantity in every
        ]
        rows.append((metric.name, values))
    return rows


def share(verdict: Verdict) -> float:
    """Counted over allowed; infinite where nothing was allowed and something counted."""
    actual, allowed = verdict.actual or 0, verdict.allowed or 0
    if allowed:
        return actual / allowed
    return math.inf if actual else 1.0


def used(verdict: Verdict) -> str:
    """The share for people: `99.9 %`."""
    actual, allowed = int(verdict.actual or 0), int(verdict.allowed or 0)
    return percent(actual, allowed) if allowed else f"{actual:,} of 0"


def worst(entry: Entry) -> Verdict | None:
    """The red verdict to tell first: of the most severe kind, the one furthest over.

    Components that are alike have one verdict, `layer_* (each of 12) forward`.
    """
    found = min(entry.failures, key=_severity, default=None)
    if found is None:
        return None
    # Merging thousands of red verdicts takes long and this is asked for often: only those that are
    # as severe can be alike.
    severity = _severity(found)
    return one_per_family((v for v in entry.failures if _severity(v) == severity), parts=())[0]


def other_failures(entry: Entry) -> list[Verdict]:
    """The red verdicts besides the worst; components that are alike have one."""
    first = worst(entry)
    return [verdict for verdict in one_per_family(entry.failures, parts=()) if verdict != first]


def worst_first(entries: Iterable[Entry]) -> list[Entry]:
    """The order of reading: red before green, the worst verdict first, then the fullest limit."""

    def place(entry: Entry) -> tuple[object, ...]:
        found, limit = worst(entry), fullest(entry)
        severity = _severity(found) if found else ()
        return entry.passed, severity, -share(limit) if limit else 0.0, entry.key

    return sorted(entries, key=place)


def _severity(verdict: Verdict) -> tuple[int, float, float]:
    """Small for what matters most: by kind, then by the share of what is allowed.

    The share and not the difference, so that verdicts of different units can be ranked; the
    difference decides between equal shares.
    """
    difference = (verdict.actual or 0) - (verdict.allowed or 0)
    return KINDS_BY_SEVERITY.index(verdict.kind), -share(verdict), -difference


def status(entry: Entry) -> str:
    """How the entry stands, in words: `within budget`, `over its limit`, ..."""
    found = worst(entry)
    if found is not None:
        return _FAILURES[found.kind][0]
    if entry.metered:
        return "metered, and held to nothing"
    if not entry.verdicts:
        return "nothing was compared"
    if any(_is_excused(verdict) for verdict in entry.verdicts):
        return "over, as expected"
    return "within budget" if holds_something(entry) else entry.verdicts[0].message


def holds_something(entry: Entry) -> bool:
    """Whether anything was compared; a budget that is not recorded yet has remarks alone."""
    return any(verdict.allowed is not None for verdict in entry.verdicts)


def _is_excused(verdict: Verdict) -> bool:
    """Whether a green verdict is over: its test is expected to fail."""
    if verdict.kind == "parity" or verdict.actual is None or verdict.allowed is None:
        return False
    return verdict.actual > verdict.allowed


def summary(entry: Entry) -> str:
    """Why an entry is red, in one sentence: its worst verdict, and what grew most."""
    found = worst(entry)
    if found is None:
        return status(entry)
    grown = what_grew(found)
    return f"{verdict_headline(found)}; {grown} grew most" if grown else verdict_headline(found)


def what_grew(verdict: Verdict) -> str | None:
    """The component that holds all that grew, or else the one that grew most, if it is known."""
    grown = [path for path, _, above in verdict.parts if above]
    if not grown:
        return None
    common = common_ancestor(grown) or ""
    found = common if len(common) > len(verdict.component or "") else grown[0]
    return None if found == verdict.component else shorten(printable(found), _NAME)


def headline(report: Report) -> str:
    """The whole report in one sentence."""
    if report.is_idle_shard and report.passed:
        return "Green: other shards have every test."
    if not report.entries and not report.errors and not report.missing:
        return "Red: nothing was measured."
    if report.passed and not report.held:
        return f"Metered {len(report.entries):,}, and nothing was held."
    if report.passed:
        number = len(report.held)
        hold = "the one budget holds" if number == 1 else f"all {number:,} budgets hold"
        idle = sum(not holds_something(entry) for entry in report.held)
        but = f", but {idle} of {number} hold{'s' if idle == 1 else ''} nothing yet" if idle else ""
        return f"Green: {hold}{but}."
    return f"Red: {', and '.join([*_red_budgets(report), *_faults(report)])}."


def not_measured(report: Report) -> str:
    """In one line, the tests that were skipped or left out; empty if every test was measured."""
    skipped = [f"{t.test} ({t.reason or 'skipped'})" for t in report.tests if t.fate == "skipped"]
    numbers = Counter(test.fate for test in report.tests)
    listed = [some(skipped)] if skipped else []
    listed += [f"{numbers[fate]:,} {words}" for fate, words in _LEFT_OUT.items() if numbers[fate]]
    return printable(f"not measured: {'; '.join(listed)}") if listed else ""


def _red_budgets(report: Report) -> list[str]:
    red, of = report.red, len(report.held)
    if not red:
        return []
    kinds = {found.kind for entry in red if (found := worst(entry))}
    one, many = _FAILURES[kinds.pop()][1:] if len(kinds) == 1 else ("is red", "are red")
    who = "the one budget" if of == 1 else f"{len(red):,} of {of:,} budgets"
    return [f"{who} {one}{_because(red[0])}" if len(red) == 1 else f"{who} {many}"]


def _because(entry: Entry) -> str:
    """What exactly, and why, of the only red entry."""
    found = worst(entry)
    if found is None or found.kind in ("error", "parity"):
        return ""
    about = shorten(printable(subject(found)), _NAME)
    grown = what_grew(found)
    return f": {about}, because {grown} grew" if grown else f": {about}"


def _faults(report: Report) -> list[str]:
    kinds = [*(error.kind for error in report.errors), *["missing"] * len(report.missing)]
    numbers = Counter(kinds)
    faults = [
        f"{number:,} {one if number == 1 else many}"
        for kind, (one, many) in _FAULTS.items()
        if (number := numbers[kind])
    ]
    if not report.complete and not report.missing:
        faults.append("the run did not come to its end")
    return faults
