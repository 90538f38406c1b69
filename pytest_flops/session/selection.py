"""Which of the project's tests a run was asked for, so that it can say what no test measured.

What the ini file leaves out, or PYTEST_ADDOPTS, is no part of the project's whole suite: every run
leaves it out. Only what this invocation asked for narrows the run.
"""

from __future__ import annotations

import os
from glob import glob
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest import Config

_NARROWING = {
    "keyword": "-k",
    "markexpr": "-m",
    "deselect": "--deselect",
    "ignore": "--ignore",
    "ignore_glob": "--ignore-glob",
}
_FROM_THE_LAST_RUN = {"lf": "--last-failed", "stepwise": "--stepwise"}
"""What these leave out differs from run to run, so they narrow it from the ini file too."""


def narrowing(config: Config) -> str:
    """What narrows this run to a part of the project's suite, as given; empty for nothing.

    The whole suite is what `pytest` without arguments runs in the rootdir. Arguments are that too
    when every one of the testpaths, or without testpaths the rootdir, lies in one of them.
    """
    # pytest has no public name for its parser, and no other way to tell the ini file's options from
    # those of the command line.
    parser = config._parser  # noqa: SLF001
    arguments = list(config.invocation_params.args)
    given, unknown = parser.parse_known_and_unknown_args(arguments)
    # Older releases of pytest leave paths that stand behind an option among the unknown ones.
    paths = given.file_or_dir + [each for each in unknown if not each.startswith("-")]
    for options, names in ((given, _NARROWING), (config.option, _FROM_THE_LAST_RUN)):
        for name, flag in names.items():
            if getattr(options, name, None):
                return flag
    folder = config.invocation_params.dir
    if not paths:
        return "" if folder == config.rootpath else f"the folder {folder.name}"
    asked = [_absolute(folder / argument) for argument in config.args]
    if all(any(part.is_relative_to(path) for path in asked) for part in _whole(config)):
        return ""
    return " ".join(paths)


def _whole(config: Config) -> Iterator[Path]:
    testpaths, root = config.getini("testpaths"), config.rootpath
    # As pytest reads them: patterns, and none where they match nothing.
    matches = (glob(each, root_dir=root, recursive=True) for each in testpaths)  # noqa: PTH207
    for path in [*chain(*matches)] or [""]:
        yield _absolute(root / path)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links
