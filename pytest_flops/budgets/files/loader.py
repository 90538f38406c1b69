"""Budget files: YAML in, `Budget` records out, or every mistake of the file at once.

YAML and JSON Schema are imported with the first file, not with this module.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.errors import BudgetFileError, Problem

if TYPE_CHECKING:
    from os import PathLike

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.counting.builder import Builders

_BYTE_ORDER_MARK = "\ufeff"

# A line of block style, or one that opens a mapping in flow style.
_AT_TOP_LEVEL = [
    re.compile(rf"""^(?:\{{[^\n{{}}\[\]]*)?(["']?)\b{key}\1[ \t]*:""", re.MULTILINE)
    for key in ("version", "budgets")
]


def says_budgets(text: str) -> bool:
    """Whether YAML has `version` and `budgets` at its top level, judged by its text alone."""
    text = text.removeprefix(_BYTE_ORDER_MARK)
    return all(key.search(text) for key in _AT_TOP_LEVEL)


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
        found = f"the byte 0x{content[error.start]:02x}"
        if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            found = "it is UTF-16, which `>` writes in Windows PowerShell"
        message = f"not UTF-8: {found}; save the file as UTF-8"
    except OSError as error:
        reason = error.strerror or error
        if path.is_symlink() and not path.exists():
            reason = f"it is a symbolic link to {path.readlink()}, which is not there"
        message = f"cannot be read: {reason}"
    raise BudgetFileError([Problem(place, message)])
