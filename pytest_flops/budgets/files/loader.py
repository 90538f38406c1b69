"""Budget files: YAML in, `Budget` records out, or every mistake of the file at once.

YAML and JSON Schema are imported with the first file, not with this module.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.errors import BudgetFileError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.counting.builder import Builders

_BYTE_ORDER_MARK = "\ufeff"

_TOP_LEVEL = re.compile(r"""^(?:\{[^\n]*)?(["']?)\bbudgets\1[ \t]*:""", re.MULTILINE)
_OUR_KEYS = ("workload", "limits", "tolerance", "scaling", "recorded")
_KEY = re.compile(r"""(["']?)(\w+)\1[ \t]*:""")


def looks_like_budgets(text: str) -> bool:
    """Whether YAML met by chance is meant for us, judged by its text alone.

    It is if its top level has `budgets` and an entry has a key of ours, misspelt or not.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not _TOP_LEVEL.search(text):
        return False
    keys = {match[2] for part in _below_top_level(text) for match in _KEY.finditer(part)}
    return any(get_close_matches(key, _OUR_KEYS, n=1, cutoff=0.8) for key in keys)


def _below_top_level(text: str) -> Iterator[str]:
    for line in text.splitlines():
        budgets = _TOP_LEVEL.match(line)
        if budgets or line[:1] in " \t":
            yield line[budgets.end() if budgets else 0 :].partition("#")[0]


def load_budgets(
    path: str | PathLike[str], *, name: str | None = None, builders: Builders | None = None
) -> dict[str, Budget]:
    """The budgets of a file, by name, in the order of the file.

    Args:
        path: The file.
        name: The file's name in messages and locations; by default the path as given.
        builders: Builders by name, which check the workloads that name them; those of the
            installed plugins unless given.

    Raises:
        BudgetFileError: With every problem of the file, each at its line and column.
    """
    from pytest_flops.budgets.files.file_format import budgets_of

    file = name or str(path)
    return budgets_of(read_text(Path(path), file), file, builders)


def read_text(path: Path, file: str) -> str:
    """The text of a file of budgets or records, which is UTF-8, without a byte order mark.

    Raises:
        BudgetFileError: It cannot be read or is not UTF-8.
    """
    place = Location(file, 1, 1)
    try:
        content = path.read_bytes()
        return content.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = Location(file, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        message = f"not UTF-8: the byte 0x{content[error.start]:02x}; save the file as UTF-8"
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
    raise BudgetFileError([Problem(place, message)])
