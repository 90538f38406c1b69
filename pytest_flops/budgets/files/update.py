"""`recorded` counts written into a budget file, in place; every other byte stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.errors import BudgetError, BudgetFileError
from pytest_flops.budgets.files.loader import BYTE_ORDER_MARK, decode
from pytest_flops.budgets.files.placed import plain
from pytest_flops.counting.components import depth
from pytest_flops.counting.count import PHASES, FLOPsCount
from pytest_flops.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.measurement import Measurement

RECORDED_DEPTH = 2


def recorded_from(measurement: Measurement) -> Recorded:
    """What to record of a measurement: the count, and components that cost something.

    Components are recorded down to `RECORDED_DEPTH` names, e.g. `layer_0.moe`. The numbers of a
    list of modules are no names: `transformer.h.7` is recorded, so that a layer can be blamed.
    """
    return Recorded(
        count=measurement.count,
        components={
            path: cost
            for path, cost in measurement.components.items()
            if cost.total and depth(path) <= RECORDED_DEPTH
        },
    )


def lowered(recorded: Recorded, counted: Recorded) -> Recorded:
    """The record with every count that fell; a component that is gone falls out of it."""
    return Recorded(
        count=_smaller(recorded.count, counted.count),
        components={
            path: _smaller(cost, counted.components[path])
            for path, cost in recorded.components.items()
            if path in counted.components
        },
    )


def digest(path: str | os.PathLike[str]) -> str:
    """What `update_recorded` compares to see that a file is still the one that was loaded.

    Raises:
        BudgetError: The file cannot be read.
    """
    return _digest(_read(Path(path), str(path)))


def update_recorded(
    path: str | os.PathLike[str],
    changes: Mapping[str, Recorded],
    *,
    expected: str | None = None,
    name: str | None = None,
) -> bool:
    """Write `recorded` counts into a budget file, atomically, and leave everything else alone.

    Comments, quotes, anchors, line ends, a byte order mark and the file's mode are kept; of a
    symbolic link, the target is rewritten. The result is loaded again before it replaces the file.

    Args:
        path: The budget file.
        changes: What to record, by the name of a budget in the file.
        expected: The file's `digest` when it was loaded.
        name: The file's name in messages; by default the path.

    Returns:
        Whether the file changed.

    Raises:
        BudgetError: The file is gone, a directory, read-only or changed since it was loaded, the
            disk is full, `recorded` is shared through an anchor, or a budget is not in the file.
            The old file is intact.
    """
    file = name or str(path)
    target = Path(path).resolve()
    old = _read(target, file)
    if expected is not None and _digest(old) != expected:
        raise BudgetError(f"{_not_updated(file)}: it changed since its budgets were loaded")
    new = _updated(old, changes, file)
    if new == old:
        return False
    _replace(target, old, new, file)
    return True


def _updated(content: bytes, changes: Mapping[str, Recorded], file: str) -> bytes:
    from pytest_flops.budgets.files.file_format import valid_document
    from pytest_flops.budgets.files.record_edit import record_of, with_recorded

    text = decode(content, file)
    body = text.removeprefix(BYTE_ORDER_MARK)
    wanted = plain(valid_document(body, file))
    new_body = with_recorded(body, changes, file)
    for name, recorded in changes.items():
        wanted["budgets"][name]["recorded"] = record_of(recorded)
    _verify(new_body, wanted, file)
    return (text[: len(text) - len(body)] + new_body).encode("utf-8")


def _verify(text: str, wanted: Any, file: str) -> None:
    """Whatever the editing did, only the `recorded` of the changed budgets may differ."""
    from pytest_flops.budgets.files.file_format import valid_document

    try:
        found = plain(valid_document(text, file))
    except BudgetFileError:
        found = None
    if _comparable(found) != _comparable(wanted):
        raise BudgetError(
            f"{_not_updated(file)}: writing `recorded` would change other parts of the file, "
            "perhaps through an anchor or an unusual layout; write these entries out plainly"
        )


def _comparable(data: Any) -> str:
    """As text, so that NaN equals itself."""
    return json.dumps(data, sort_keys=True)


def _read(path: Path, file: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BudgetError(f"{_not_updated(file)}: {error.strerror or error}") from None


def _replace(target: Path, old: bytes, new: bytes, file: str) -> None:
    mode = stat.S_IMODE(target.stat().st_mode)
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise BudgetError(f"{_not_updated(file)}: it is read-only")
    try:
        write_atomically(target, new, replacing=old)
    except OSError as error:
        raise BudgetError(
            f"{_not_updated(file)}: {error.strerror or error}; the old file is intact"
        ) from None


def _smaller(one: FLOPsCount, other: FLOPsCount) -> FLOPsCount:
    return FLOPsCount(*(min(one.of(phase), other.of(phase)) for phase in PHASES))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _not_updated(file: str) -> str:
    return f"{file} was not updated"
