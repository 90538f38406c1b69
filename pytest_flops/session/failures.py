"""How the failure of a test is told: in this plugin's own words where it is one of its errors."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.counting.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.entry import Entry


class BudgetExceeded(AssertionError):  # noqa: N818 - it reads as what happened
    """A red verdict. The message is the whole story, for people."""


def retold(error: BaseException, budget: Budget | None) -> str | None:
    """The text that pytest shows instead of a traceback; `None` if the error is not ours."""
    from pytest_flops.counting.measure import WorkloadError
    from pytest_flops.scaling.errors import ScalingError

    if isinstance(error, BudgetExceeded):
        return str(error)
    if not isinstance(error, BudgetError | WorkloadError | ScalingError):
        return None
    # Such an error may quote a user's model. The bar keeps its further lines from being read by
    # CI hosts, which take a line that begins with `::` for a command.
    text = "\n| ".join(printable(line) for line in str(error).splitlines())
    if budget is None:
        return text
    origin = f" ({budget.location})" if budget.location else ""
    return f"{text}\n\nin budget {budget.name!r}{origin}"


def line_that_raised(error: BaseException, file: Path) -> int | None:
    """The innermost line of `file` in the error's traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno for f in reversed(frames) if f.filename == str(file)), None)


def in_one_line(error: BaseException | None) -> str:
    """Any error, shortened; `None` is a failure without an exception."""
    if error is None:
        return "a failure of the test"
    first, *more = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first}{' ...' if more else ''}"


def excused(entry: Entry, reason: str) -> Entry:
    """The entry of a test that is expected to fail: its red verdicts are green remarks."""

    def green(verdict: Verdict) -> Verdict:
        remark = f"over, as expected (xfail{f': {reason}' if reason else ''})"
        message = f"{remark}; {verdict.message}" if verdict.message else remark
        return verdict if verdict.passed else replace(verdict, passed=True, message=message)

    return replace(entry, verdicts=tuple(green(verdict) for verdict in entry.verdicts))
