"""What `@pytest.mark.flops_budget(...)` on a test means: the budget that holds it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Budget
from pytest_flops.budgets.errors import BudgetError, BudgetFileError
from pytest_flops.options import MARKER
from pytest_flops.session.unfit_tests import (
    UnfitTestError,
    refuse_misspelt,
    refuse_other_flops,
    refuse_random,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest import Item, Mark

    from pytest_flops.budgets.files.catalogue import Catalog


def budget_of(item: Item, catalog: Catalog) -> Budget | None:
    """The budget of a marked test; `None` if it is not marked.

    Raises:
        UnfitTestError: Its marker's name is misspelt, its count would be a matter of chance, or
            its fixture `flops` is not ours.
        BudgetError: Its markers are wrong.
    """
    refuse_misspelt(item)
    marks = list(item.iter_markers(MARKER))
    if not marks:
        return None
    refuse_random(item)
    refuse_other_flops(item, catalog)
    return resolve(marks, item.nodeid, catalog)


def resolve(marks: Iterable[Mark], test: str, catalog: Catalog) -> Budget:
    """The one budget that all `flops_budget` markers of a test, nearest first, make together.

    The name comes from the nearest marker that has one, and a keyword on the test replaces the
    same keyword on its class or module. A limit given in a marker replaces the named budget's limit
    on the same quantity of the same components. Markers that name no budget make one of the test's
    own, named by its node id `test`, whose record is in the test file's lock file; without a limit
    it is a snapshot, held to its record alone.

    Raises:
        BudgetError: A marker's arguments are wrong, the name is not known, or the lock file of the
            test's file has mistakes.
    """
    name: str | None = None
    arguments: dict[str, Any] = {}
    for mark in marks:
        name = name if name is not None else _name_of(mark)
        arguments = {**mark.kwargs, **arguments}
    if name is None:
        return merge(Budget(name=test, recorded=catalog.recorded(test)), arguments)
    return merge(catalog.find(name, test), arguments)


def mistake(error: BudgetError, item: Item) -> str:
    """What is wrong with a marked test, and where: in the lock file, or at the test."""
    if isinstance(error, BudgetFileError):
        return str(error)
    file, line = item.nodeid.partition("::")[0], item.location[1]
    what = "" if isinstance(error, UnfitTestError) else "the marker flops_budget is wrong: "
    return f"{file}:{(line or 0) + 1}: {item.name}: {what}{error}"


def merge(base: Budget, arguments: Mapping[str, Any]) -> Budget:
    """The budget `base` with what is given in Python on top.

    Raises:
        BudgetError: An argument is wrong.
    """
    if not arguments:
        return base
    from pytest_flops.budgets.inline import inline_budget

    given = inline_budget(base.name, arguments)
    limits = {(limit.pattern, limit.quantity): limit for limit in (*base.limits, *given.limits)}
    scaling = {limit.dimension: limit for limit in (*base.scaling, *given.scaling)}
    if "warn" in arguments and not limits:
        raise BudgetError("warn is a share of limits, and there is no limit beside it")
    return replace(
        base,
        limits=tuple(limits.values()),
        scaling=tuple(scaling.values()),
        tolerance=given.tolerance if "tolerance" in arguments else base.tolerance,
        warn=given.warn if "warn" in arguments else base.warn,
    )


def _name_of(mark: Mark) -> str | None:
    if len(mark.args) > 1:
        raise BudgetError(f"it takes one budget's name, not {len(mark.args)}; use one per test")
    if mark.args and not (isinstance(mark.args[0], str) and mark.args[0]):
        raise BudgetError(f"a budget's name is a non-empty string, not {mark.args[0]!r}")
    return mark.args[0] if mark.args else None
