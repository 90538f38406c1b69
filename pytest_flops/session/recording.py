"""`--flops-update` and `--flops-ratchet`: this run's counts become the budgets' recorded ones."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.files.update import lowered, recorded_from, update_recorded
from pytest_flops.reports.report import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.reports.entry import Entry
    from pytest_flops.session.session import Gate

Counts = dict[str, "Recorded"]


def keep_records(gate: Gate, *, ended: bool) -> Iterator[SessionError]:
    """Write the recorded counts into the budget files; yield the session's errors.

    Only budgets whose every test counted soundly are written, and none of a run that was cut
    short: what is recorded is never dropped because a run did not get to it.
    """
    if not ended:
        gate.notes.append("nothing was recorded: the run did not come to its end")
        return
    for file, by_name in _by_file(gate).items():
        counts: Counts = {}
        for name, of_budget in by_name.items():
            found = _recorded(of_budget)
            if isinstance(found, str):
                message = f"nothing was recorded for {name!r}: {found}"
                yield SessionError(message, of_budget[0].location)
            elif found is not None:
                counts[name] = found
        yield from _write(gate, file, counts)


def _by_file(gate: Gate) -> dict[Path, dict[str, list[Entry]]]:
    """The entries of budgets that stand in files and were counted."""
    found: dict[Path, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in gate.entries:
        if entry.location is not None:
            found[gate.catalog.file_of(entry.location)][entry.budget].append(entry)
    return found


def _recorded(entries: list[Entry]) -> Recorded | str | None:
    """What to record of a budget, or why nothing; `None` if no test counted it."""
    if any(verdict.kind == "error" for entry in entries for verdict in entry.verdicts):
        return "it could not be judged whole"
    in_order = sorted(entries, key=lambda entry: entry.tests)
    counted = [entry.measurement for entry in in_order if entry.measurement is not None]
    if any(other.count != counted[0].count for other in counted):
        return "several tests counted it with different results"
    return recorded_from(counted[0]) if counted else None


def _write(gate: Gate, file: Path, counts: Counts) -> Iterator[SessionError]:
    changes = counts if gate.settings.update else _fallen(gate, file, counts)
    if not changes:
        return
    shown = gate.catalog.shown(file)
    try:
        changed = update_recorded(
            file, changes, expected=gate.catalog.digests.get(file), name=shown
        )
    except BudgetError as error:
        yield SessionError(str(error))
        return
    word = "recorded" if gate.settings.update else "lowered"
    if changed:
        gate.notes.append(f"{word} in {shown}: {', '.join(sorted(changes))}")
    else:
        gate.notes.append(f"{shown} holds these counts already; it was not changed")


def _fallen(gate: Gate, file: Path, counts: Mapping[str, Recorded]) -> Counts:
    """The records, lowered to what was counted now; a budget without one stays without."""
    budgets = gate.catalog.load(file)
    return {
        name: lowered(record, now)
        for name, now in counts.items()
        if (record := budgets[name].recorded) is not None
    }
