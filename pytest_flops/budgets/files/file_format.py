"""The text of a budget file, held to the schema and to what the workloads' builders know."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.build import build_budget
from pytest_flops.budgets.errors import BudgetFileError, Problem, dotted
from pytest_flops.budgets.files.document import UNREADABLE, Document
from pytest_flops.budgets.schema import Keys, Violation, unknown, violations
from pytest_flops.counting.builder import as_builder, installed_builders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.budget import Budget
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
    document = Document(text, file)
    problems = document.problems
    if isinstance(document.data, dict):
        problems += _problems(document, builders)
    else:
        found = "is empty" if document.data is None else "is no mapping"
        message = f"the file {found}; expected a mapping with the keys version and budgets"
        problems.append(Problem(Location(file, 1, 1), message))
    if problems:
        raise BudgetFileError(problems)
    records = document.data["budgets"]
    return {name: build_budget(name, record, document) for name, record in records.items()}


def _problems(document: Document, builders: Builders | None) -> list[Problem]:
    """One problem per mistake, also where aliases make a mistake count many times."""

    def way_down(violation: Violation) -> list[Location]:
        """Sorts by the place in the file, what aliases repeat by the place of its first use."""
        keys = violation.keys
        return [document.place(keys[:depth], at_key=True) for depth in range(1, len(keys) + 1)]

    found: dict[tuple[Location, str], Problem] = {}
    every = [*violations(document.data), *_workload_violations(document, builders)]
    for violation in sorted(every, key=way_down):
        if document.at(violation.keys) is not UNREADABLE:
            place = document.place(violation.keys, at_key=violation.at_key)
            path = dotted(violation.keys)
            message = f"{path}: {violation.message}" if path else violation.message
            found.setdefault((place, violation.message), Problem(place, message))
    return list(found.values())


def _workload_violations(document: Document, builders: Builders | None) -> Iterator[Violation]:
    """What registered builders find wrong with the workloads that name them."""
    budgets = document.data.get("budgets")
    for name, record in budgets.items() if isinstance(budgets, dict) else ():
        workload = record.get("workload") if isinstance(record, dict) else None
        if not isinstance(workload, dict):
            continue
        keys: Keys = ("budgets", name, "workload")
        mesh = workload["mesh"] if isinstance(workload.get("mesh"), dict) else {}
        yield from _outside(mesh, workload.get("rank"), keys)
        model = workload.get("model")
        if not isinstance(model, str) or ":" in model:
            continue
        builders = installed_builders() if builders is None else builders
        if model in builders:
            builder = as_builder(builders[model])
            dimensions = [*builder.dimensions, *(mesh if builder.dimensions else ())]
            yield from _told_by(builder, workload, keys)
            yield from _unknown(workload.get("config"), (*keys, "config"), list(builder.defaults))
            yield from _unknown(record.get("scaling"), (*keys[:2], "scaling"), dimensions)


def _outside(mesh: dict[str, object], rank: object, keys: Keys) -> Iterator[Violation]:
    """A rank that the mesh does not have."""
    sizes = [size for size in mesh.values() if type(size) is int]
    if type(rank) is int and len(sizes) == len(mesh) > 0 and rank >= prod(sizes):
        message = f"the mesh has the ranks 0 to {prod(sizes) - 1:,}, not {rank:,}"
        yield Violation((*keys, "rank"), at_key=False, message=message)


def _told_by(builder: Builder, workload: dict[str, object], keys: Keys) -> Iterator[Violation]:
    """A mistake is placed at its value; a missing key, and a whole mapping, at the key above."""
    config = workload.get("config")
    asked = {**workload, "config": config if isinstance(config, dict) else {}}
    for below, message in builder.problems(asked) if builder.problems else ():
        found: object = workload
        there = keys
        for key in below:
            if not isinstance(found, dict) or key not in found:
                break
            found, there = found[key], (*there, key)
        yield Violation(there, at_key=isinstance(found, dict), message=message)


def _unknown(record: object, keys: Keys, known: list[str]) -> Iterator[Violation]:
    for key in record if known and isinstance(record, dict) else ():
        if key not in known:
            yield Violation((*keys, key), at_key=True, message=unknown("key", key, known))
