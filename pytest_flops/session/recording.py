"""`--flops-update` and `--flops-ratchet`: this run's counts become the recorded ones."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError, BudgetFileError
from pytest_flops.budgets.files.lock import SUFFIX, lock_file_of
from pytest_flops.budgets.files.update import difference, lowered, recorded_from, update_lock
from pytest_flops.budgets.units import format_flops
from pytest_flops.options import is_yaml
from pytest_flops.reports.report import SessionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.budgets.files.lock import Key, Records
    from pytest_flops.reports.entry import Entry
    from pytest_flops.session.session import Session

Place = tuple["Path", "Key"]
"""Where a record stands: a lock file, and the key in it."""

_LATER_COUNT = re.compile(r" \(count [0-9]+\)$")


def keep_records(session: Session, *, ended: bool, whole_suite: bool) -> Iterator[SessionError]:
    """Write the records into the lock files; yield the run's errors.

    Only what every test counted soundly is written, and nothing of a run that was cut short. What
    a run did not get to stays recorded, unless the run was of the whole suite and found it stale.
    """
    if not ended:
        session.notes.append("nothing was recorded: the run did not come to its end")
        return
    counted: dict[Path, Records] = defaultdict(dict)
    broken = {
        test
        for entry in session.entries
        if any(verdict.kind == "error" for verdict in entry.verdicts)
        for test in entry.tests
    }
    for (lock, key), entries in _by_place(session).items():
        found = _recorded(entries, broken)
        if isinstance(found, str):
            message = f"nothing was recorded for {key[1]!r}: {found}"
            yield SessionError(message, entries[0].location)
        elif found is not None:
            counted[lock][key] = found
    dropped = stale_records(session) if whole_suite and session.settings.update else {}
    for lock in sorted({*counted, *dropped}):
        yield from _write(session, lock, counted[lock], dropped.get(lock, ()))


def tests_not_recorded(session: Session) -> list[str]:
    """The counts of this run that have no record, of marked tests with a budget of their own."""
    records = session.catalog.records
    return [
        entries[0].subject
        for (lock, key), entries in _by_place(session).items()
        if key[0] == "tests" and entries[0].measurement and key not in records(lock)
    ]


def stale_records(session: Session) -> dict[Path, list[Key]]:
    """The records whose budget or test is gone, by lock file, after a run of the whole suite.

    Looked at are the folders of the files that the run read. A file of budgets or tests that is
    there and was not read, for instance since a library for it is missing, keeps its records.
    """
    rootdir, catalog = session.settings.rootdir, session.catalog
    budgets = catalog.budgets
    read = {*budgets, *(rootdir / file for file in session.test_files)}
    live = {_place_of_test(session, test) for test in session.tests if _is_own(session, test)}
    live |= {
        (lock_file_of(file), ("budgets", name)) for file, names in budgets.items() for name in names
    }
    counted = {
        place for place, all_of_it in _by_place(session).items() if all(e.passed for e in all_of_it)
    }

    def is_gone(lock: Path, key: Key) -> bool:
        section, name = key
        first = lock, (section, _LATER_COUNT.sub("", name) if section == "tests" else name)
        # A test that passed without its later count has fewer counts than when it was recorded.
        return first not in live or (first in counted and (lock, key) not in counted)

    stale: dict[Path, list[Key]] = {}
    for folder in sorted({file.parent for file in read if file.parent.is_dir()}):
        sources = {file for file in folder.iterdir() if file.suffix == ".py" or is_yaml(file)}
        unread = {lock_file_of(file) for file in sources - read}
        for lock in sorted({*folder.glob(f"*{SUFFIX}")} - unread):
            with suppress(BudgetFileError):  # another tool's; that of a file we read is sound
                gone = [key for key in catalog.records(lock) if is_gone(lock, key)]
                stale |= {lock: gone} if gone else {}
    return stale


def _by_place(session: Session) -> dict[Place, list[Entry]]:
    """What was found, by the place of its record."""
    found: dict[Place, list[Entry]] = defaultdict(list)
    for entry in session.entries:
        if entry.location is not None:
            lock = lock_file_of(session.catalog.file_of(entry.location))
            found[lock, ("budgets", entry.budget)].append(entry)
        elif _is_own(session, entry.tests[0]):
            found[_place_of_test(session, entry.subject)].append(entry)
    return found


def _is_own(session: Session, test: str) -> bool:
    """Whether it is a marked test with a budget of its own, since its markers name none."""
    return test in session.tests and session.tests[test].location is None


def _place_of_test(session: Session, test: str) -> Place:
    file, _, name = test.partition("::")
    return lock_file_of(session.settings.rootdir / file), ("tests", name)


def _recorded(entries: list[Entry], broken: Collection[str]) -> Recorded | str | None:
    """What to record, or why nothing; `None` if nothing was counted."""
    if any(test in broken for entry in entries for test in entry.tests):
        return "it could not be judged whole"
    in_order = sorted(entries, key=lambda entry: entry.tests)
    counted = [entry.measurement for entry in in_order if entry.measurement is not None]
    if any(other.count != counted[0].count for other in counted):
        return "several tests counted it with different results"
    return recorded_from(counted[0]) if counted else None


def _write(
    session: Session, lock: Path, counted: Records, dropped: Collection[Key]
) -> Iterator[SessionError]:
    update, shown = session.settings.update, session.catalog.shown(lock)

    def changed(old: Records) -> Records:
        kept = {key: record for key, record in old.items() if key not in dropped}
        if update:
            return kept | counted
        return kept | {key: lowered(old[key], now) for key, now in counted.items() if key in old}

    try:
        old = update_lock(lock, shown, changed)
    except BudgetError as error:
        yield SessionError(str(error))
    else:
        session.notes += _told(shown, old, changed(old), "updated" if update else "lowered")


def _told(shown: str, old: Records, new: Records, changed: str) -> Iterator[str]:
    added = [
        f"{key[1]} (total {format_flops(new[key].count.total)})" for key in sorted({*new} - {*old})
    ]
    gone = [name for _, name in sorted({*old} - {*new})]
    if added:
        yield f"recorded in {shown}: {', '.join(added)}"
    for key in sorted({*new} & {*old}):
        if new[key] != old[key]:
            yield f"{changed} in {shown}: {key[1]}: {difference(old[key], new[key])}"
    if gone:
        yield f"dropped from {shown}, since they are gone: {', '.join(gone)}"
    if old and old == new:
        yield f"{shown} holds these counts already; it was not changed"
