"""Where an error comes from: the line of somebody's code that it began with."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from pathlib import Path, PurePath


@dataclass(frozen=True)
class Origin:
    """A line of code that is neither PyTorch's nor ours."""

    file: str
    line: int

    @property
    def library(self) -> str | None:
        """The installed package that the line is in; None for the project's own."""
        parts = PurePath(self.file).with_suffix("").parts
        installed = {"site-packages", "dist-packages"} & set(parts)
        return parts[parts.index(installed.pop()) + 1] if installed else None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def origin(error: BaseException) -> Origin | None:
    """The innermost line of an error's traceback that is neither PyTorch's nor ours."""
    left_out = (str(Path(__file__).parents[1]), f"{os.sep}torch{os.sep}")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.lineno and not any(folder in frame.filename for folder in left_out):
            return Origin(frame.filename, frame.lineno)
    return None
