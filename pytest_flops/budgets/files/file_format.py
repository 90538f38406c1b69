"""The text of a budget file, held to the schema and to ResNet-BK's own fields."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.build import build_budget
from pytest_flops.budgets.errors import BudgetFileError, Problem
from pytest_flops.budgets.files.document import read_document
from pytest_flops.budgets.files.placed import UNREADABLE, PlacedMapping, dotted
from pytest_flops.budgets.schema import Violation, suggestion, violations
from pytest_flops.counting.workload import RESNET_BK
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, ResNetBKConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.budgets.files.placed import Keys


def budgets_of(text: str, file: str) -> dict[str, Budget]:
    """The budgets of a file's text (without a byte order mark), in its order.

    Raises:
        BudgetFileError: With every problem of the text.
    """
    return {
        name: build_budget(name, record, record_of.keys_at[name])
        for record_of in [valid_document(text, file)["budgets"]]
        for name, record in record_of.items()
    }


def valid_document(text: str, file: str) -> PlacedMapping:
    """The whole file as placed data that the schema accepts.

    Raises:
        BudgetFileError: With every problem of the text.
    """
    data, problems = read_document(text, file)
    if not isinstance(data, PlacedMapping):
        found = "is empty" if data is None else "is no mapping"
        message = f"the file {found}; expected a mapping with the keys version and budgets"
        raise BudgetFileError([*problems, Problem(Location(file, 1, 1), message)])
    problems += _problems(data)
    if problems:
        raise BudgetFileError(problems)
    return data


def _problems(data: PlacedMapping) -> list[Problem]:
    """One problem per mistake, also where aliases make a mistake count many times."""
    found: dict[tuple[Location, str], Problem] = {}
    every = [*violations(data), *_resnet_bk_violations(data)]
    for violation in sorted(every, key=lambda violation: _way_down(data, violation.keys)):
        if _value(data, violation.keys) is not UNREADABLE:
            where = _location(data, violation.keys, at_key=violation.at_key)
            path = dotted(violation.keys)
            message = f"{path}: {violation.message}" if path else violation.message
            found.setdefault((where, violation.message), Problem(where, message))
    return list(found.values())


def _way_down(data: PlacedMapping, keys: Keys) -> list[Location]:
    """Sorts by the place in the file, for an aliased value by the place of its first use."""
    return [_location(data, keys[:depth], at_key=True) for depth in range(1, len(keys) + 1)]


def _value(data: Any, keys: Keys) -> Any:
    for key in keys:
        data = data[key]
    return data


def _location(data: PlacedMapping, keys: Keys, *, at_key: bool) -> Location:
    if not keys:
        return data.location
    parent = _value(data, keys[:-1])
    if isinstance(parent, PlacedMapping):
        places = parent.keys_at if at_key else parent.values_at
        return places[str(keys[-1])]
    location: Location = parent.items_at[keys[-1]]
    return location


def _resnet_bk_violations(data: PlacedMapping) -> Iterator[Violation]:
    budgets = data.get("budgets")
    for name, record in budgets.items() if isinstance(budgets, PlacedMapping) else ():
        workload = record.get("workload") if isinstance(record, PlacedMapping) else None
        if isinstance(workload, PlacedMapping) and workload.get("model") == RESNET_BK:
            yield from _missing_sizes(workload, ("budgets", name, "workload"))
            yield from _config_violations(workload, ("budgets", name, "workload"))
            yield from _dimension_violations(record, ("budgets", name, "scaling"))


def _missing_sizes(workload: PlacedMapping, keys: Keys) -> Iterator[Violation]:
    for size in ("batch_size", "seq_len"):
        if size not in workload:
            yield Violation(keys, at_key=True, message=f"a {RESNET_BK} workload needs a {size}")


def _config_violations(workload: PlacedMapping, keys: Keys) -> Iterator[Violation]:
    config = workload.get("config", {})
    if not isinstance(config, dict):
        return
    known = [field.name for field in fields(ResNetBKConfig)]
    for key, value in config.items() if _refused(config) else ():
        if key not in known:
            message = f"ResNetBKConfig has no field {key!r}{suggestion(key, known)}"
            yield Violation((*keys, "config", key), at_key=True, message=message)
        elif problem := _refused({key: value}):
            yield Violation((*keys, "config", key), at_key=False, message=problem)
    longest, seq_len = config.get("n_seq", BASELINE_CONFIG.n_seq), workload.get("seq_len")
    if isinstance(longest, int) and isinstance(seq_len, int) and seq_len > longest:
        message = f"{seq_len} is longer than the model's position table, config.n_seq {longest}"
        yield Violation((*keys, "seq_len"), at_key=False, message=message)


def _refused(config: dict[str, Any]) -> str | None:
    try:
        ResNetBKConfig.from_dict(config)
    except ValueError as error:
        return str(error)
    return None


def _dimension_violations(record: PlacedMapping, keys: Keys) -> Iterator[Violation]:
    sizes = [key for key, value in BASELINE_CONFIG.to_dict().items() if type(value) is int]
    known = ["seq_len", "batch_size", *sizes]
    scaling = record.get("scaling")
    for dimension in scaling if isinstance(scaling, dict) else ():
        if dimension not in known:
            message = f"unknown dimension {dimension!r}{suggestion(dimension, known)}"
            yield Violation((*keys, dimension), at_key=True, message=message)
