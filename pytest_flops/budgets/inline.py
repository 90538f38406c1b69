"""Budgets given in Python: the keywords of a marker or of a check."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.build import build_budget
from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.files.placed import dotted
from pytest_flops.counting.count import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flops.budgets.budget import Budget

_LIMITS = (*QUANTITIES, "components")
KEYWORDS = (*_LIMITS, "tolerance", "scaling")


def inline_budget(name: str, arguments: Mapping[str, object]) -> Budget:
    """The budget that keyword arguments make, in the words of a budget file.

    Args:
        name: The budget's name, usually the test's id.
        arguments: `forward`, `backward`, `optimizer`, `total` (limits), `components` (limits by
            pattern), `tolerance` and `scaling`.

    Raises:
        BudgetError: With every mistake, one per line.
    """
    problems = [*_unknown(arguments)]
    try:
        record = _record({key: arguments[key] for key in KEYWORDS if key in arguments})
        problems += _violations(record)
    except _KeyIsNoTextError as error:
        problems.append(str(error))
    if problems:
        raise BudgetError("\n".join(problems))
    return build_budget(name, record)


class _KeyIsNoTextError(Exception):
    """A key that is no text."""


def _unknown(arguments: Mapping[str, object]) -> Iterator[str]:
    for key in arguments:
        if key not in KEYWORDS:
            near = get_close_matches(key, KEYWORDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"accepted are {', '.join(KEYWORDS)}"
            yield f"unknown keyword {key!r}; {hint}"


def _record(arguments: Mapping[str, object]) -> dict[str, Any]:
    given = _plain(arguments)
    limits = {key: given.pop(key) for key in _LIMITS if key in given}
    return {"limits": limits, **given} if limits else given


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple | range) else value


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise _KeyIsNoTextError(f"the key {key!r} must be a string")
    return key


def _violations(record: Mapping[str, Any]) -> Iterator[str]:
    from pytest_flops.budgets.schema import violations

    for violation in violations(record, "budget"):
        if violation.keys:  # that no limit is given may be right beside a budget's name
            within = violation.keys[1:] if violation.keys[0] == "limits" else violation.keys
            yield f"{dotted(within) or 'components'}: {violation.message}"
