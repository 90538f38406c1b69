"""Lock files: the exact counts that `--flops-update` recorded, written by machine, read in diffs.

`budgets/net.lock.json` holds the records of the budgets of `budgets/net.yaml`, and
`tests/test_net.lock.json` those of the marked tests of `tests/test_net.py` that name no budget. A
record is kept by metric, so that others can stand beside `flops`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_flops.budgets.budget import Location, Recorded
from pytest_flops.budgets.errors import BudgetFileError, Problem
from pytest_flops.budgets.files.folding import folded, unfolded
from pytest_flops.budgets.files.loader import read_text
from pytest_flops.counting.components import natural
from pytest_flops.counting.count import PHASES, FLOPsCount
from pytest_flops.counting.metric import TOTAL, Costs, countable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from pytest_flops.counting.metric import Metric

Cost = TypeVar("Cost")

FORMAT = "pytest-flops lock file"
VERSION = 1
SUFFIX = ".lock.json"

Section = Literal["budgets", "tests"]
Key = tuple[Section, str]
"""Names a record in its file: a YAML budget by its name, a test by its node id without the file."""
Records = dict[Key, Recorded]

_ALIVE = "alive"
_SECTIONS: tuple[Section, ...] = ("budgets", "tests")
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
    if not path.exists() and not path.is_symlink():
        return {}
    text = read_text(path, file)
    data = _document(text, file)
    places = {line: number for number, line in enumerate(text.split("\n"), start=1)}
    found: Records = {}
    problems = []
    for section in _SECTIONS:
        for name, entry in data.get(section, {}).items():
            # The line as `lock_text` writes it; in another layout, the first of the file.
            line = places.get(f"    {json.dumps(name, ensure_ascii=False)}: {{", 1)
            location = Location(file, line, 1)
            try:
                found[section, name] = replace(_recorded(entry), location=location)
            except ValueError as error:
                message = f"{section}: {name}: {error}; {_START_AGAIN}"
                problems.append(Problem(location, message))
    if problems:
        raise BudgetFileError(problems)
    return found


def lock_text(records: Records) -> str:
    """The text of a lock file: the same for the same records, one line for each component."""
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for section in _SECTIONS:
        names = sorted((name for kind, name in records if kind == section), key=natural)
        if names:
            data[section] = {name: _record(records[section, name]) for name in names}
    return "\n".join(_lines("", data, "")) + "\n"


def _record(recorded: Recorded) -> dict[str, Any]:
    flops: dict[str, Any] = {"count": recorded.count.by_phase()}
    if recorded.components:
        costs = folded(recorded.components)
        flops["components"] = {name: cost.by_phase() for name, cost in costs.items()}
    if recorded.operations:
        names = sorted(recorded.operations, key=natural)
        flops["operations"] = {name: recorded.operations[name].by_phase() for name in names}
    return {"flops": flops} | {
        name: _record_of_metric(recorded.metrics[name]) for name in sorted(recorded.metrics)
    }


def _record_of_metric(costs: Costs) -> dict[str, Any]:
    record: dict[str, Any] = {"count": above_zero(costs.whole)}
    parts = {path: tuple(above_zero(values).items()) for path, values in costs.components.items()}
    named = {name: dict(values) for name, values in folded(parts).items() if values}
    details = dict(costs.details)
    if "modules" in details:  # one line each, as of components
        modules = folded(details["modules"])
        details["modules"] = {name: {_ALIVE: size} for name, size in modules.items()}
    return record | ({"components": named} if named else {}) | details


def above_zero(values: Mapping[str, int]) -> dict[str, int]:
    """A metric's phases in order, without those that cost nothing."""
    return {phase: values[phase] for phase in (*PHASES, TOTAL) if values.get(phase)}


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


def _document(text: str, file: str) -> dict[str, Any]:
    """The whole file, of which all but the records is sound."""

    def refusal(message: str, line: int = 1, column: int = 1) -> BudgetFileError:
        return BudgetFileError([Problem(Location(file, line, column), message)])

    if conflict := _CONFLICT.search(text):
        raise refusal(
            "a merge conflict is left in this lock file: take either side whole "
            f"(git checkout --ours -- {file}) and run pytest --flops-update",
            line=text.count("\n", 0, conflict.start()) + 1,
        )
    try:
        data = json.loads(text, object_pairs_hook=_each_key_once)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg}; {_START_AGAIN}"
        raise refusal(message, error.lineno, error.colno) from None
    except (ValueError, RecursionError) as error:
        raise refusal(f"{error}; {_START_AGAIN}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise refusal(f'no lock file of pytest-flops: its "format" is not "{FORMAT}"')
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        upgrade = "upgrade with pip install -U pytest-flops, a newer one wrote it"
        raise refusal(
            f"it has version {shortened(version)}, and this pytest-flops reads version {VERSION}: "
            f"{upgrade if newer else _START_AGAIN}"
        )
    try:
        _object(data, "the file", "version", "format", *_SECTIONS)
        for section in _SECTIONS:
            _object(data.get(section, {}), section)
    except ValueError as error:
        raise refusal(f"{error}; {_START_AGAIN}") from None
    return data


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that is there twice, as after a merge by hand, neither may win."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _recorded(entry: object) -> Recorded:
    metrics = {name: each for name, each in countable().items() if name != "flops"}
    record = _object(entry, "a record", "flops", *metrics)
    parts = _object(record["flops"], "flops", "count", "components", "operations")
    return Recorded(
        count=_count(parts["count"], "count"),
        components=_unfolded(_counts(parts, "components")),
        operations=dict(_counts(parts, "operations")),
        metrics={
            name: _costs(record[name], metric) for name, metric in metrics.items() if name in record
        },
    )


def _costs(value: object, metric: Metric) -> Costs:
    parts = _object(value, metric.name, "count", "components", *_DETAILS)
    known = metric.phases or (TOTAL,)
    components = _object(parts.get("components", {}), "components")
    return Costs(
        whole=_values(parts["count"], "count", known),
        components=_unfolded(
            (name, _values(each, f"components: {name}", known)) for name, each in components.items()
        ),
        details={name: _DETAILS[name](parts[name]) for name in _DETAILS if name in parts},
    )


def _kinds(value: object) -> dict[str, int]:
    return _values(value, "kinds", _object(value, "kinds"))


def _modules(value: object) -> dict[str, int]:
    modules = _object(value, "modules").items()
    sizes = ((name, _values(each, f"modules: {name}", (_ALIVE,))) for name, each in modules)
    return {path: size.get(_ALIVE, 0) for path, size in _unfolded(sizes).items()}


def _operations(value: object) -> dict[str, dict[str, int]]:
    operations = _object(value, "operations").items()
    return {name: _values(each, f"operations: {name}", PHASES) for name, each in operations}


def _version(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"torch: expected a version, found {shortened(value)}")
    return value


_DETAILS: dict[str, Callable[[object], Any]] = {
    "kinds": _kinds,  # alive at the peak, of `peak_memory`
    "modules": _modules,  # likewise
    "operations": _operations,  # of `bytes`, `launches` and collectives
    "torch": _version,  # of the compiler's metrics
}


def _unfolded(costs: Iterable[tuple[str, Cost]]) -> dict[str, Cost]:
    components: dict[str, Cost] = {}
    for name, cost in costs:
        for path in unfolded(name):
            if path in components:
                raise ValueError(f"components: {path!r} is there twice")
            components[path] = cost
    return dict(sorted(components.items(), key=lambda item: natural(item[0])))


def _counts(parts: Mapping[str, Any], key: str) -> list[tuple[str, FLOPsCount]]:
    costs = _object(parts.get(key, {}), key)
    return [(name, _count(cost, f"{key}: {name}")) for name, cost in costs.items()]


def _count(value: object, where: str) -> FLOPsCount:
    return FLOPsCount(**_values(value, where, PHASES))


def _values(value: object, where: str, known: Collection[str]) -> dict[str, int]:
    phases = _object(value, where)
    for phase, amount in phases.items():
        if phase not in known:
            raise ValueError(f"{where}: unknown phase {phase!r}")
        if type(amount) is not int or amount < 0:
            found = shortened(amount)
            raise ValueError(f"{where}: {phase} is a whole number of at least 0, not {found}")
    return phases


def _object(value: object, where: str, *known: str) -> dict[str, Any]:
    """An object of any keys, or of these, the first of which is required."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {shortened(value)}")
    if known and (unknown := value.keys() - set(known)):
        raise ValueError(f"{where}: unknown key {min(unknown)!r}")
    if known and known[0] not in value:
        raise ValueError(f"{where}: the key {known[0]!r} is missing")
    return value
