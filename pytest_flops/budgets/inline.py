"""Budgets given in Python: the keywords of a marker or of a check."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.build import build_budget
from pytest_flops.budgets.errors import BudgetError, dotted
from pytest_flops.budgets.schema import unknown, violations
from pytest_flops.counting.metric import FLOPS, QUANTITIES, countable

if TYPE_CHECKING:
    from pytest_flops.budgets.budget import Budget


def inline_budget(name: str, arguments: Mapping[str, object]) -> Budget:
    """The budget that keyword arguments make, in the words of a budget file.

    Args:
        name: The budget's name, usually the test's id.
        arguments: `forward`, `backward`, `optimizer`, `total` (limits of FLOPs), other metrics by
            name, `components` (limits by pattern), `tolerance`, `warn` and `scaling`.

    Raises:
        BudgetError: With every mistake, one per line.
    """
    metrics = (name for name in countable() if name != FLOPS.name)
    limiting = (*QUANTITIES, *metrics, "components")
    keywords = (*limiting, "tolerance", "warn", "scaling")
    problems = [unknown("keyword", key, keywords) for key in arguments if key not in keywords]
    record = {key: _plain(arguments[key]) for key in keywords if key in arguments}
    limits = {key: record.pop(key) for key in limiting if key in record}
    if limits:
        record["limits"] = limits
    for violation in violations(record, "budget"):
        if violation.keys:  # that no limit is given may be right beside a budget's name
            within = violation.keys[1:] if violation.keys[0] == "limits" else violation.keys
            problems.append(f"{dotted(within)}: {violation.message}")
    if problems:
        raise BudgetError("\n".join(problems))
    return build_budget(name, record)


def _plain(value: Any) -> Any:
    """The same in dictionaries and lists, which is what the schema knows."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BudgetError(f"the key {key!r} must be a string")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    if not isinstance(value, int):
        with suppress(TypeError):  # an integer of numpy or torch, which the schema does not know
            return operator.index(value)
    return value
