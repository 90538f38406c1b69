"""Which entry of the new report is which of the base's, though tests and files get other names."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from pytest_flops.reports.entry import Entry

Pair = tuple["Entry | None", "Entry | None"]


def pair_entries(base: Iterable[Entry], head: Iterable[Entry]) -> list[Pair]:
    """The entries of both reports, each with its partner in the other or with `None`.

    Partners have the same test and budget; or else the first of these that only two of those
    without a partner share: the test, the budget's file and name, the name, the workload. A guess
    among several could pair a test with another that was dearer, and hide what it costs now.
    Counts that are equal in every component hide nothing, so they may be shared by many.
    """
    pairs: list[Pair] = []
    gone, new = list(base), list(head)
    for trait in (_key, _subject, _place, _name, _workload):
        pairs += _partners(gone, new, trait, several=False)
    pairs += _partners(gone, new, _counts, several=True)
    pairs += [(entry, None) for entry in gone] + [(None, entry) for entry in new]
    return sorted(pairs, key=lambda pair: next(entry.key for entry in reversed(pair) if entry))


def share_nothing(base: Iterable[Entry], head: Iterable[Entry]) -> bool:
    """Whether they are of two projects: no file, name or workload is in both.

    A report without entries is a start, and no other project's.
    """
    both = [
        {trait(entry) for entry in entries for trait in (_file, _name, _workload)} - {None}
        for entries in (base, head)
    ]
    return all(both) and both[0].isdisjoint(both[1])


def _partners(
    gone: list[Entry], new: list[Entry], trait: Callable[[Entry], Hashable], *, several: bool
) -> list[Pair]:
    """Take from both lists those that share a trait which is not `None`."""
    found: list[Pair] = []
    before, after = _by(trait, gone), _by(trait, new)
    for value in before.keys() & after.keys():
        if several or len(before[value]) == len(after[value]) == 1:
            found += zip(before[value], after[value], strict=False)
    taken = {id(entry) for pair in found for entry in pair}
    gone[:] = [entry for entry in gone if id(entry) not in taken]
    new[:] = [entry for entry in new if id(entry) not in taken]
    return found


def _by(
    trait: Callable[[Entry], Hashable], entries: Iterable[Entry]
) -> dict[Hashable, list[Entry]]:
    found: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        value = trait(entry)
        if value is not None:
            found[value].append(entry)
    return found


def _key(entry: Entry) -> Hashable:
    return entry.key


def _file(entry: Entry) -> Hashable:
    return entry.subject.partition("::")[0]


def _subject(entry: Entry) -> Hashable:
    return entry.subject


def _place(entry: Entry) -> Hashable:
    return (entry.location.file, entry.budget) if entry.location else None


def _name(entry: Entry) -> Hashable:
    """The budget's name; a test that brings its own budget is called as in its file."""
    named = entry.location is not None
    return named, entry.budget if named else entry.subject.partition("::")[2]


def _workload(entry: Entry) -> Hashable:
    return repr(_sorted(entry.workload.to_dict())) if entry.workload else None


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _sorted(each)) for key, each in value.items())
    return value


def _counts(entry: Entry) -> Hashable:
    found = entry.measurement
    return (found.count, frozenset(found.components.items())) if found else None
