"""What can be wrong with a budget, told to the people who wrote it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.counting.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flops.budgets.budget import Location


class BudgetError(ValueError):
    """A limit, pattern or other value of a budget that cannot be understood."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file. Prints as `file:line:column: message`."""

    location: Location
    message: str

    def __str__(self) -> str:
        return printable(f"{self.location}: {self.message}")


class BudgetFileError(BudgetError):
    """Every mistake of one budget file at once, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(keys: Sequence[str | int]) -> str:
    """Keys and indices as people write them: `budgets.tiny.scaling.seq_len.sizes[1]`."""
    shown = "".join(f"[{key}]" if isinstance(key, int) else f".{_quoted(key)}" for key in keys)
    return shown.lstrip(".")


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[\w*-]+", key) else repr(key)
