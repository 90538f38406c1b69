"""`compare`: hold one report against another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.metric import FLOPS, METRICS, quantities_of
from pytest_flops.reports.comparison.comparison import BudgetChange, Change, Comparison
from pytest_flops.reports.comparison.new_records import is_newly_recorded, records_of
from pytest_flops.reports.comparison.pairs import Pair, pair_entries, share_nothing
from pytest_flops.reports.comparison.raised import raised
from pytest_flops.reports.fates import NOT_RUN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.reports.comparison.comparison import Status
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.fates import Fate
    from pytest_flops.reports.report import Report


def compare(base: Report, head: Report, *, tolerance: Fraction | None = None) -> Comparison:
    """Hold `head` against `base`.

    An increase is accepted where the budget's recorded counts changed between the two and the new
    ones allow it: it stands in the diff of the lock file, for the reviewer to see. `tolerance` is
    how far a count may rise, as a fraction; `None` leaves it to each budget.

    Where something is gone and something else is new, the one may be the other under a new name:
    the new one is red, unless it was recorded, or the base says why it had not run there.
    """
    pairs = pair_entries(base.held, head.held)
    fates, cut_short = _fates(head), bool(head.missing) or not head.complete
    changes = [_budget_change(*pair, tolerance, fates, cut_short=cut_short) for pair in pairs]
    commit = base.environment.get("commit")
    collected = {test.test for test in head.tests}
    foreign = share_nothing(base.held, head.held) and not any(
        collected.intersection(entry.tests) for entry in base.held
    )
    measured = [(old.measurement, new.measurement) for old, new in pairs if old and new]
    left_out = {name for old, new in measured if old and new for name in _not_compared(old, new)}
    return Comparison(
        tuple(_beside_what_is_gone(changes, pairs, base)),
        commit and str(commit),
        foreign,
        tools_changed(base, head),
        tuple(sorted(left_out)),
    )


def _beside_what_is_gone(
    changes: list[BudgetChange], pairs: list[Pair], base: Report
) -> Iterator[BudgetChange]:
    """The changes, of which added ones say what they were in the base, or that nobody knows."""
    not_measured = {test.test: test.fate for test in base.tests if test.fate != "measured"}
    is_one_gone = any(change.status == "removed" for change in changes)
    for change, (_, new) in zip(changes, pairs, strict=True):
        if new is None or change.status != "added":
            yield change
            continue
        fate = next((not_measured[test] for test in new.tests if test in not_measured), None)
        is_known = not is_one_gone or fate or records_of(new)
        yield replace(change, in_the_base=fate, status="added" if is_known else "unmatched")


def tools_changed(base: Report, head: Report) -> dict[str, tuple[str, str]]:
    """What counted the two, where it is not the same: a difference may come from there."""

    def tool(report: Report, key: str) -> str:
        text = str(report.environment.get(key) or "")
        return text.partition("-")[0] if key == "platform" else text  # without the kernel's version

    keys = "torch", "pytest_flops", "platform"
    versions = {key: (tool(base, key), tool(head, key)) for key in keys}
    return {key: pair for key, pair in versions.items() if all(pair) and pair[0] != pair[1]}


_Fates = tuple[dict[str, "Fate"], dict[str, "Fate"]]


def _fates(head: Report) -> _Fates:
    """What became of each test of the new run, and of budgets of files that nobody measured."""
    lost = (known for known in head.budgets_known if known.fate in ("skipped", "unreached"))
    return {t.test: t.fate for t in head.tests}, {known.name: known.fate for known in lost}


def _fate(entry: Entry, fates: _Fates) -> Fate | None:
    """What became of an entry's tests in the new run; `None` if it did not collect any.

    A test of another name may hold the budget now, and be skipped.
    """
    tests, budgets = fates
    found = next((tests[test] for test in entry.tests if test in tests), None)
    return found or (budgets.get(entry.budget) if entry.location is not None else None)


def _budget_change(
    before: Entry | None,
    after: Entry | None,
    tolerance: Fraction | None,
    fates: _Fates,
    *,
    cut_short: bool,
) -> BudgetChange:
    entry = after or before
    assert entry is not None
    was = before.subject if before and after and before.subject != after.subject else None
    change = partial(BudgetChange, entry.subject, entry.budget, entry.location, was=was)
    if before and after and before.measurement is after.measurement is None:
        # As a test of growth alone; one that failed has lost its limits with its sweep.
        judged = all(verdict.kind != "error" for verdict in after.verdicts)
        return change("without a count", raised=tuple(raised(before, after)) if judged else ())
    if before is None or (before.measurement is None and after is not None):
        return change("added")
    if after is None:
        fate = _fate(entry, fates)
        if fate in NOT_RUN:
            return change("left out")
        # A test that was skipped, or was lost, is still there; only nobody measured it.
        lost = fate in ("skipped", "unreached") or cut_short
        return change("unmeasured" if lost else "removed")
    if after.measurement is None:
        return change("unmeasured")
    allowed = 1 + (after.tolerance if tolerance is None else tolerance)
    changes = tuple(_changes(before, after, allowed))
    statuses = {change.status for change in changes}
    status: Status = "grew" if "grew" in statuses else "fell" if "fell" in statuses else "same"
    old, new = (each.workload.to_dict() if each.workload else {} for each in (before, after))
    return change(
        status,
        changes=changes,
        workload=dict(differences(old, new)),
        raised=tuple(raised(before, after)),
        base=before.measurement,
    )


def _changes(before: Entry, after: Entry, allowed: Fraction) -> Iterator[Change]:
    base, head = before.measurement, after.measurement
    if base is None or head is None:
        return
    records = records_of(before), records_of(after)
    # A metric that only one of the two counted is in neither's comparison.
    names = [name for name in head.metrics if name in base.metrics]
    left_out = _not_compared(base, head)
    both = [METRICS[name] for name in names if name not in left_out]
    quantities = [quantity for metric in (FLOPS, *both) for quantity in quantities_of(metric)]
    gone = [path for path in base.components if path not in head.components]
    for component in [None, *head.components, *gone]:
        for quantity in quantities:
            old, new = (each.if_there(quantity, component) for each in (base, head))
            ceiling = None if old is None else int(old * allowed)
            change = Change(component, quantity, old, new, ceiling)
            if change.regressed and is_newly_recorded(component, quantity, head, records, allowed):
                change = replace(change, allowed=change.head, accepted=True)
            yield change


def _not_compared(base: Measurement, head: Measurement) -> set[str]:
    """The metrics that both counted, each with another version of PyTorch, where that matters."""
    both = ((name, costs, base.metrics.get(name)) for name, costs in head.metrics.items())
    return {name for name, new, old in both if old and not new.is_comparable_to(old)}


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What is not the same in two mappings, by its dotted path, as (before, after)."""
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}{key}.")
        elif old != new:
            yield f"{path}{key}", (old, new)
