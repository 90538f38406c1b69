"""Lock files: the exact counts that `--flops-update` recorded, written by machine, read in diffs.

`budgets/net.lock.json` holds the records of the budgets of `budgets/net.yaml`, and
`tests/test_net.lock.json` those of the marked tests of `tests/test_net.py` that name no budget. A
record is kept by metric, so that others can stand beside `flops`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pytest_flops.budgets.budget import Location, Recorded
from pytest_flops.budgets.errors import BudgetFileError, Problem
from pytest_flops.budgets.files.folding import folded, unfolded
from pytest_flops.budgets.files.loader import BYTE_ORDER_MARK, decode
from pytest_flops.counting.components import natural
from pytest_flops.counting.count import PHASES, FLOPsCount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "pytest-flops lock file"
VERSION = 1
SUFFIX = ".lock.json"

Section = Literal["budgets", "tests"]
Key = tuple[Section, str]
"""Names a record in its file: a YAML budget by its name, a test by its node id without the file."""
Records = dict[Key, Recorded]

_SECTIONS: tuple[Section, ...] = ("budgets", "tests")
_PARTS = ("count", "components", "operations")
_CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
_START_AGAIN = "take the file of an earlier commit, or delete it and run pytest --flops-update"


def lock_file_of(path: Path) -> Path:
    """The lock file beside a file of budgets or of tests."""
    return path.with_suffix(SUFFIX)


def read_lock(path: Path, file: str) -> Records:
    """The records of a lock file; none where there is no such file.

    Args:
        path: The lock file.
        file: Its name in messages and locations.

    Raises:
        BudgetFileError: It cannot be read, or is not what `lock_text` writes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return {}
        _refuse(Location(file, 1, 1), f"cannot be read: {error.strerror or error}")
    return _Reader(decode(content, file).removeprefix(BYTE_ORDER_MARK), file).records()


def lock_text(records: Records) -> str:
    """The text of a lock file: the same for the same records, one line for each component."""
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for section in _SECTIONS:
        names = sorted((name for kind, name in records if kind == section), key=natural)
        if names:
            data[section] = {name: _record(records[section, name]) for name in names}
    return "\n".join(_lines("", data, "")) + "\n"


def _record(recorded: Recorded) -> dict[str, Any]:
    flops: dict[str, Any] = {"count": _phases(recorded.count)}
    if recorded.components:
        costs = folded(recorded.components)
        flops["components"] = {name: _phases(cost) for name, cost in costs.items()}
    if recorded.operations:
        names = sorted(recorded.operations, key=natural)
        flops["operations"] = {name: _phases(recorded.operations[name]) for name in names}
    return {"flops": flops}


def _phases(count: FLOPsCount) -> dict[str, int]:
    """Phases that cost nothing are left out."""
    return {phase: count.of(phase) for phase in PHASES if count.of(phase)}


def _lines(key: str, value: Any, indent: str) -> list[str]:
    """JSON in which an object that holds only numbers stands on one line."""
    if not isinstance(value, dict) or not any(isinstance(item, dict) for item in value.values()):
        return [f"{indent}{key}{json.dumps(value, ensure_ascii=False)}"]
    lines = [f"{indent}{key}{{"]
    for name, item in value.items():
        lines += _lines(f"{json.dumps(name, ensure_ascii=False)}: ", item, f"{indent}  ")
        lines[-1] += ","
    lines[-1] = lines[-1].removesuffix(",")
    return [*lines, f"{indent}}}"]


def _refuse(location: Location, message: str) -> NoReturn:
    raise BudgetFileError([Problem(location, message)])


class _WrongShapeError(Exception):
    """What is wrong with a record, in words."""


class _Reader:
    """Makes records of a lock file's text, or says what is wrong with it."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._places = {line: number for number, line in enumerate(text.split("\n"), start=1)}

    def records(self) -> Records:
        data = self._document()
        found: Records = {}
        problems = []
        for section in _SECTIONS:
            for name, entry in self._section(data, section):
                location = self._location(name)
                try:
                    found[section, name] = replace(_recorded(entry), location=location)
                except _WrongShapeError as error:
                    message = f"{section}: {name}: {error}; {_START_AGAIN}"
                    problems.append(Problem(location, message))
        if problems:
            raise BudgetFileError(problems)
        return found

    def _document(self) -> dict[str, Any]:
        top = Location(self._file, 1, 1)
        if conflict := _CONFLICT.search(self._text):
            line = self._text.count("\n", 0, conflict.start()) + 1
            _refuse(
                Location(self._file, line, 1),
                "a merge conflict is left in this lock file: take either side whole "
                f"(git checkout --ours -- {self._file}) and run pytest --flops-update",
            )
        try:
            data = json.loads(self._text, object_pairs_hook=_each_key_once)
        except json.JSONDecodeError as error:
            where = Location(self._file, error.lineno, error.colno)
            _refuse(where, f"not valid JSON: {error.msg}; {_START_AGAIN}")
        except (ValueError, RecursionError) as error:
            _refuse(top, f"{error}; {_START_AGAIN}")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            _refuse(top, f'no lock file of pytest-flops: its "format" is not "{FORMAT}"')
        version = data.get("version")
        if type(version) is int and version > VERSION:
            _refuse(
                top,
                f"written by a newer pytest-flops: it has version {version}, and this one reads "
                f"version {VERSION}; upgrade with pip install -U pytest-flops",
            )
        if version != VERSION or (unknown := data.keys() - {"format", "version", *_SECTIONS}):
            wrong = f"unknown key {min(unknown)!r}" if version == VERSION else "no version"
            _refuse(top, f"{wrong}; {_START_AGAIN}")
        return data

    def _section(self, data: Mapping[str, Any], section: Section) -> list[tuple[str, Any]]:
        entries = data.get(section, {})
        if not isinstance(entries, dict):
            _refuse(Location(self._file, 1, 1), f"{section}: expected an object; {_START_AGAIN}")
        return list(entries.items())

    def _location(self, name: str) -> Location:
        """The line of an entry as `lock_text` writes it; the first line of another layout."""
        line = f"    {json.dumps(name, ensure_ascii=False)}: {{"
        return Location(self._file, self._places.get(line, 1), 1)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that is there twice, as after a merge by hand, neither may win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _recorded(entry: object) -> Recorded:
    flops = _object(_object(entry, "a record", ("flops",))["flops"], "flops", _PARTS)
    components: dict[str, FLOPsCount] = {}
    for name, cost in _object(flops.get("components", {}), "components").items():
        try:
            paths = unfolded(name)
        except ValueError as error:
            raise _WrongShapeError(f"components: {error}") from None
        if twice := next((path for path in paths if path in components), None):
            raise _WrongShapeError(f"components: {twice!r} is there twice")
        components |= dict.fromkeys(paths, _count(cost, f"components: {name}"))
    return Recorded(
        count=_count(flops["count"], "count"),
        components=dict(sorted(components.items(), key=lambda item: natural(item[0]))),
        operations={
            name: _count(cost, f"operations: {name}")
            for name, cost in _object(flops.get("operations", {}), "operations").items()
        },
    )


def _object(value: object, where: str, known: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object, of any keys or of these, the first of which is required."""
    if not isinstance(value, dict):
        raise _WrongShapeError(f"{where}: expected an object, found {value!r}")
    if known and (unknown := value.keys() - set(known)):
        raise _WrongShapeError(f"{where}: unknown key {min(unknown)!r}")
    if known and known[0] not in value:
        raise _WrongShapeError(f"{where}: the key {known[0]!r} is missing")
    return value


def _count(value: object, where: str) -> FLOPsCount:
    phases = _object(value, where)
    for phase, flops in phases.items():
        if phase not in PHASES:
            raise _WrongShapeError(f"{where}: unknown phase {phase!r}")
        if type(flops) is not int or flops < 0:
            raise _WrongShapeError(
                f"{where}: {phase} is a whole number of at least 0, not {flops!r}"
            )
    return FLOPsCount(**phases)
