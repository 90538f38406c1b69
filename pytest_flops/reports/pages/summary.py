"""An entry in short: how it stands, which verdict matters most, and how full each limit is."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_flops.budgets.judging.causes import causes, severity, share
from pytest_flops.budgets.judging.wording import exponent, told
from pytest_flops.budgets.units import format_amount, format_flops
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import (
    FLOPS,
    METRICS,
    QUANTITIES,
    TOTAL,
    quantities_of,
    quantity_of,
    unit_of,
)
from pytest_flops.counting.text import percent, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.reports.comparison.comparison import BudgetChange
    from pytest_flops.reports.entry import Entry

Tone: TypeAlias = Literal["red", "close", "green"]
Against: TypeAlias = "Mapping[tuple[str, str], BudgetChange]"
"""What became of each entry since the base, by its key; empty without a base."""

NO_BASE: Against = MappingProxyType({})

_FAILURES = {
    "error": "could not be judged",
    "limit": "over its limit",
    "recorded": "costs more than recorded",
    "scaling": "grows too fast",
    "parity": "the counters disagree",
}
"""How an entry stands, by kind of its worst verdict."""

_REGRESSIONS = {
    "unmatched": "new, and held against nothing",
    "unmeasured": "not measured any more",
}
"""By status of a budget that is red against its base, unless it costs more than that."""

_CLOSE = "close to its limit"

# A wrong prefix of a unit is a factor of 1,000. A hundred finds one also where the limit was meant
# to be a tenth of the figure, and is more room than a limit has that is meant to hold something.
_HOLDS_NOTHING = 100


def uses(entry: Entry, kind: str = "limit") -> list[Verdict]:
    """The verdicts of one kind that have figures: those over first, those close, the fullest."""
    found = [v for v in entry.verdicts if v.kind == kind and None not in (v.actual, v.allowed)]
    return sorted(found, key=lambda v: (v.passed, not v.warned, -share(v)))


def fullest(entry: Entry) -> Verdict | None:
    """The limit nearest to its end, or furthest beyond it."""
    return next(iter(uses(entry)), None)


def title(entry: Entry) -> str:
    """The entry's name, and what the figures are of: operators of CUDA, one rank of many."""
    workload, remarks = entry.workload, []
    if workload and workload.mesh:
        remarks.append(f"rank {workload.rank:,} of {math.prod(workload.mesh.values()):,}")
    if workload and workload.like == "cuda":
        remarks.append("as on CUDA")
    return f"{entry.title} ({', '.join(remarks)})" if remarks else entry.title


def cause(verdict: Verdict) -> str:
    """What made a verdict red, if its own figures do not say as much."""
    return "" if verdict.kind == "scaling" and verdict.component else verdict.cause


def told_first(entry: Entry) -> Verdict | None:
    """What the one bar of an entry is of: its worst verdict, or its fullest limit if it is green.

    Without figures, as an error has none, there is no bar.
    """
    found = worst(entry)
    if found is None:
        return fullest(entry)
    return found if found.kind in ("limit", "recorded", "scaling") else None


def limit_used(entry: Entry) -> str | None:
    """How much of what is told first is used: `99.9 % of lm_head forward`."""
    verdict = told_first(entry)
    return " of ".join(use(verdict)) if verdict else None


def use(verdict: Verdict) -> tuple[str, str]:
    """How much of its bound a verdict uses, and of what: `99.9 %`, `lm_head forward`."""
    about = verdict.about
    if verdict.kind == "scaling":
        return f"{growth(verdict)}, allowed {exponent(verdict.allowed or 0)},", about
    return used(verdict), f"recorded {about}" if verdict.kind == "recorded" else about


def growth(verdict: Verdict) -> str:
    """What grows how, of a scaling verdict: `seq_len^1.99`."""
    return f"{verdict.dimension}^{exponent(verdict.actual or 0)}"


def remarks(entry: Entry) -> Iterator[str]:
    """What no red verdict says: limits that are close or out of reach, work not counted."""
    nearest: dict[tuple[str | None, str | None], Verdict] = {}
    for limit in uses(entry):  # of the components that a pattern matches, the fullest
        nearest.setdefault((limit.pattern, limit.quantity), limit)
    if close := [limit for limit in nearest.values() if limit.warned]:
        yield f"{_CLOSE}: {some([f'{v.about} at {used(v)} of {_allowed(v)}' for v in close])}"
    if entry.measurement:
        said = [verdict.message for verdict in entry.verdicts]
        for assumption in entry.measurement.assumptions:
            if not any(assumption in message for message in said):
                yield assumption
    number = entry.measurement.child_processes if entry.measurement else 0
    if number:
        processes = "1 child process" if number == 1 else f"{number:,} child processes"
        yield f"{processes} started meanwhile; what they computed is counted by nobody"
    far = [v for v in nearest.values() if 0 < (v.actual or 0) * _HOLDS_NOTHING < (v.allowed or 0)]
    if far:
        furthest = min(far, key=share)
        actual, allowed = int(furthest.actual or 1), int(furthest.allowed or 0)
        limit_of = f"{furthest.about}, {furthest.written or f'{allowed:,}'},"
        more = f", and {len(far) - 1} more likewise" if far[1:] else ""
        yield (
            f"the limit of {limit_of} is {allowed // actual:,} times the count and holds nothing"
            f"{more}: is the unit right?"
        )


def _allowed(limit: Verdict) -> str:
    return format_amount(int(limit.allowed or 0), unit_of(limit.quantity or TOTAL))


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


def used(verdict: Verdict) -> str:
    """The share for people: `99.9 %`."""
    actual, allowed = int(verdict.actual or 0), int(verdict.allowed or 0)
    return percent(actual, allowed) if allowed else f"{actual:,} of 0"


def worst(entry: Entry) -> Verdict | None:
    """The red verdict to tell first: of the most severe kind, the one furthest over."""
    return next((cause.verdict for cause in causes(entry.failures)), None)


def worst_first(entries: Iterable[Entry], against: Against = NO_BASE) -> list[Entry]:
    """The order of reading: red before green, the worst verdict first, then the fullest limit.

    What its base alone makes red follows what is red by itself.
    """

    def place(entry: Entry) -> tuple[object, ...]:
        found, limit = worst(entry), fullest(entry)
        gravity = severity(found) if found else ()
        return (
            tone(entry, against) != "red",
            entry.passed,
            gravity,
            not entry.warned,
            -share(limit) if limit else 0.0,
            entry.key,
        )

    return sorted(entries, key=place)


def status(entry: Entry, against: Against = NO_BASE) -> str:
    """How the entry stands, in words: `within budget`, `over its limit`, ..."""
    found = worst(entry)
    if found is not None:
        return _FAILURES[found.kind]
    if _is_regressed(entry, against):
        return _REGRESSIONS.get(against[entry.key].status, "costs more than its base")
    if not entry.verdicts:
        return "metered, and held to nothing" if entry.metered else "nothing was compared"
    if any(_is_excused(verdict) for verdict in entry.verdicts):
        return "over, as expected"
    if entry.warned:
        return _CLOSE
    return "within budget" if holds_something(entry) else entry.verdicts[0].message


def _is_regressed(entry: Entry, against: Against) -> bool:
    return entry.key in against and against[entry.key].regressed


def holds_something(entry: Entry) -> bool:
    """Whether anything was compared; a budget that is not recorded yet has remarks alone."""
    return any(verdict.allowed is not None for verdict in entry.verdicts)


def _is_excused(verdict: Verdict) -> bool:
    """Whether a green verdict is over: its test is expected to fail."""
    if verdict.kind == "parity" or verdict.actual is None or verdict.allowed is None:
        return False
    return verdict.actual > verdict.allowed


def summary(entry: Entry) -> list[str]:
    """Why an entry is red: what made its worst verdict red, if that is known, and its figures."""
    found = worst(entry)
    return told(found) if found else [status(entry)]


def tone(entry: Entry, against: Against = NO_BASE) -> Tone:
    """How an entry stands, in one word, by which pages choose a colour and a sign."""
    if not entry.passed or _is_regressed(entry, against):
        return "red"
    return "close" if entry.warned else "green"
