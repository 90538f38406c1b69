"""The line of somebody's own code that the calling thread is in."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import cache
from pathlib import Path

import torch

# Where code lies that is nobody's own.
_FOLDERS = (
    *(str(Path(str(package.__file__)).parent) for package in (torch, sys.modules["pytest_flops"])),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("scripts"),  # such as the one that starts pytest
)
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_PYTEST = f"{os.sep}_pytest{os.sep}"


def line_here() -> str | None:
    """`file:line` of the innermost call outside PyTorch, installed packages and pytest-flops.

    In a backward that is the line that began it. `None` if all of the thread's code is theirs.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - traceback.walk_stack would read each frame's line
    while not is_own(frame.f_code.co_filename):
        # Above pytest there is what has started it, such as its own script.
        if frame.f_back is None or _PYTEST in frame.f_code.co_filename:
            return None
        frame = frame.f_back
    return f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"


@cache
def is_own(filename: str) -> bool:
    """Whether code of this file is outside PyTorch, installed packages and pytest-flops."""
    made_up = filename.startswith("<")  # code without a file, such as a dataclass's methods
    theirs = any(filename.startswith(folder + os.sep) for folder in _FOLDERS)
    return not made_up and not theirs and not any(name in filename for name in _INSTALLED)


def shown(filename: str) -> str:
    """The path from the current folder, if it lies there."""
    path = Path(filename)
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)
