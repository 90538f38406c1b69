"""Records written into a lock file: merged with what is there, atomically, nothing lost."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.errors import BudgetError, BudgetFileError
from pytest_flops.budgets.files.folding import folded
from pytest_flops.budgets.files.lock import above_zero, lock_text, read_lock
from pytest_flops.budgets.units import format_apart
from pytest_flops.counting.components import innermost
from pytest_flops.counting.count import PHASES, FLOPsCount
from pytest_flops.counting.metric import FLOPS, METRICS, Costs, quantities_of, unit_of
from pytest_flops.counting.text import some
from pytest_flops.files import delete, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pytest_flops.budgets.files.lock import Records
    from pytest_flops.counting.measurement import Measurement

_NAMED = 5


def recorded_from(measurement: Measurement) -> Recorded:
    """What to record of a measurement: all that costs something."""
    return Recorded(
        count=measurement.count,
        components={path: cost for path, cost in measurement.components.items() if cost.total},
        operations={name: cost for name, cost in measurement.operations.items() if cost.total},
        metrics={
            name: Costs(
                above_zero(costs.whole),
                {path: kept for path, c in costs.components.items() if (kept := above_zero(c))},
                _explaining(costs.details),
            )
            for name, costs in measurement.metrics.items()
        },
    )


def _explaining(details: Mapping[str, Any]) -> dict[str, Any]:
    """What of a metric's details a later red verdict is told with, without zeros."""
    kept = {name: details[name] for name in ("kinds", "modules", "operations") if name in details}
    version = {"torch": details["torch"]} if "torch" in details else {}
    return version | {
        name: {each: value for each, value in values.items() if value}
        for name, values in kept.items()
    }


def lowered(recorded: Recorded, counted: Recorded) -> Recorded:
    """The record with every count that fell; a component that is gone falls out of it."""
    return Recorded(
        count=_smaller(recorded.count, counted.count),
        components=_smaller_each(recorded.components, counted.components),
        operations=_smaller_each(recorded.operations, counted.operations),
        metrics={
            name: _smaller_costs(costs, counted.metrics[name])
            for name, costs in recorded.metrics.items()
            if name in counted.metrics
        },
    )


def update_lock(path: Path, file: str, change: Callable[[Records], Records]) -> Records:
    """Write a lock file with its records changed; one that would hold no record is deleted.

    Args:
        path: The lock file, there or not.
        file: Its name in messages.
        change: Makes the new records of those that are in the file now, which may not be those
            that this run was held against: another run may have written meanwhile.

    Returns:
        The records that were in the file.

    Raises:
        BudgetError: The file cannot be read or written, e.g. a directory, read-only, of a newer
            version, on a full disk. It is as it was.
    """
    try:
        with _alone_in(path.resolve().parent):
            content = path.read_bytes() if path.is_file() else None
            old = read_lock(path, file)
            new = change(old)
            if not new and old:
                delete(path)
            elif new and lock_text(new) != lock_text(old):
                _write(path, lock_text(new), content)
    except BudgetFileError as error:
        raise BudgetError(f"{file} was not updated: {error}") from None
    except OSError as error:
        reason = error.strerror or error
        raise BudgetError(f"{file} was not updated: {reason}; what was there is intact") from None
    return old


def difference(old: Recorded, new: Recorded) -> str:
    """What changed between two records, e.g. `forward 9 FLOP -> 10 FLOP, ...; in layer_{0..3}`."""
    metrics = [FLOPS, *(METRICS[name] for name in {**old.metrics, **new.metrics})]
    figures = [
        _arrow(quantity, old.of(quantity), new.of(quantity))
        for metric in metrics
        for quantity in quantities_of(metric)
        if old.of(quantity) != new.of(quantity)
    ]
    components = _changed(old.components, new.components)
    operations = _changed(old.operations, new.operations)
    places = list(folded(dict.fromkeys(innermost(components), 0))) or operations
    if not places:
        return ", ".join(figures) or "the same in total"
    return f"{', '.join(figures) or 'the same in total'}; in {some(places, _NAMED)}"


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs from updating lock files of a folder meanwhile.

    Without it, of two runs that read a file at once, the second to write would undo the first. The
    system takes the lock back when a process dies. Windows has no such lock on a folder: there, two
    updates of one file in the same instant may lose one of them.
    """
    try:
        from fcntl import LOCK_EX, flock
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network's file system may have no locks either
            flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str, old: bytes | None) -> None:
    # A rename would replace a read-only file as well: its folder alone has to be writable.
    writable = old is None or (path.stat().st_mode & 0o222 and os.access(path, os.W_OK))
    if not writable:
        raise OSError("it is read-only")
    # JSON spells a character that UTF-8 cannot as Python's escapes do.
    write_atomically(path, text.encode("utf-8", "backslashreplace"), replacing=old)


def _arrow(quantity: str, old: int, new: int) -> str:
    show = format_apart(old, new, unit_of(quantity))
    return f"{quantity} {show(old)} -> {show(new)}"


def _changed(old: Mapping[str, FLOPsCount], new: Mapping[str, FLOPsCount]) -> list[str]:
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def _smaller(one: FLOPsCount, other: FLOPsCount) -> FLOPsCount:
    return FLOPsCount(*(min(one.of(phase), other.of(phase)) for phase in PHASES))


def _smaller_costs(recorded: Costs, counted: Costs) -> Costs:
    def smaller(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
        return {phase: min(value, other.get(phase, 0)) for phase, value in one.items()}

    if not recorded.is_comparable_to(counted):
        return recorded
    parts, whole = recorded.components.items(), smaller(recorded.whole, counted.whole)
    return Costs(
        whole,
        {p: smaller(v, counted.components[p]) for p, v in parts if p in counted.components},
        recorded.details if whole == recorded.whole else counted.details,
    )


def _smaller_each(
    recorded: Mapping[str, FLOPsCount], counted: Mapping[str, FLOPsCount]
) -> dict[str, FLOPsCount]:
    return {
        name: _smaller(cost, counted[name]) for name, cost in recorded.items() if name in counted
    }
