"""The text of a budget file, held to the schema and to what the workloads' builders know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.build import build_budget
from pytest_flops.budgets.errors import BudgetFileError, Problem
from pytest_flops.budgets.files.document import read_document
from pytest_flops.budgets.files.placed import UNREADABLE, PlacedMapping, dotted
from pytest_flops.budgets.schema import Violation, suggestion, violations
from pytest_flops.counting.builder import as_builder, installed_builders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.budgets.files.placed import Keys
    from pytest_flops.counting.builder import Builder, Builders


def budgets_of(text: str, file: str, builders: Builders | None = None) -> dict[str, Budget]:
    """The budgets of a file's text (without a byte order mark), in its order.

    Args:
        text: The text.
        file: The file's name in messages and locations.
        builders: Builders by name; those of the installed plugins unless given.

    Raises:
        BudgetFileError: With every problem of the text.
    """
    return {
        name: build_budget(name, record, record_of.keys_at[name])
        for record_of in [valid_document(text, file, builders)["budgets"]]
        for name, record in record_of.items()
    }


def valid_document(text: str, file: str, builders: Builders | None = None) -> PlacedMapping:
    """The whole file as placed data that the schema and the builders accept.

    Raises:
        BudgetFileError: With every problem of the text.
    """
    data, problems = read_document(text, file)
    if not isinstance(data, PlacedMapping):
        found = "is empty" if data is None else "is no mapping"
        message = f"the file {found}; expected a mapping with the keys version and budgets"
        raise BudgetFileError([*problems, Problem(Location(file, 1, 1), message)])
    problems += _problems(data, builders)
    if problems:
        raise BudgetFileError(problems)
    return data


def _problems(data: PlacedMapping, builders: Builders | None) -> list[Problem]:
    """One problem per mistake, also where aliases make a mistake count many times."""
    found: dict[tuple[Location, str], Problem] = {}
    every = [*violations(data), *_workload_violations(data, builders)]
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


def _workload_violations(data: PlacedMapping, builders: Builders | None) -> Iterator[Violation]:
    """What registered builders find wrong with the workloads that name them."""
    budgets = data.get("budgets")
    for name, record in budgets.items() if isinstance(budgets, PlacedMapping) else ():
        workload = record.get("workload") if isinstance(record, PlacedMapping) else None
        model = workload.get("model") if isinstance(workload, PlacedMapping) else None
        if not isinstance(model, str) or ":" in model:
            continue
        builders = installed_builders() if builders is None else builders
        if model in builders:
            builder, keys = as_builder(builders[model]), ("budgets", name, "workload")
            yield from _told_by(builder, data, keys)
            yield from _unknown(data, (*keys, "config"), list(builder.defaults))
            yield from _unknown(data, ("budgets", name, "scaling"), builder.dimensions)


def _told_by(builder: Builder, data: PlacedMapping, keys: Keys) -> Iterator[Violation]:
    """A mistake is placed at its value; a missing key, and a whole mapping, at the key above."""
    workload = _value(data, keys)
    config = workload.get("config")
    asked = {**workload, "config": config if isinstance(config, PlacedMapping) else {}}
    for below, message in builder.problems(asked) if builder.problems else ():
        found, there = workload, keys
        for key in below:
            if isinstance(found, PlacedMapping) and key in found:
                found, there = found[key], (*there, key)
            else:
                break
        yield Violation(there, at_key=isinstance(found, PlacedMapping), message=message)


def _unknown(data: PlacedMapping, keys: Keys, known: list[str]) -> Iterator[Violation]:
    record = _value(data, keys[:-1]).get(keys[-1])
    for key in record if known and isinstance(record, PlacedMapping) else ():
        if key not in known:
            message = f"unknown key {key!r}{suggestion(str(key), known)}"
            yield Violation((*keys, key), at_key=True, message=message)
