"""`Settings`: what the user asked of this run."""

from __future__ import annotations

import os
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_flops.options import chosen, paths_given

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest import Config

# pytest itself takes CI and BUILD_NUMBER for signs of CI, whatever their value; some set neither.
CI_VARIABLES = ("CI", "BUILD_NUMBER", "TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION")

_TAKES_PATH = ("--flops-budgets", "--flops-report", "--flops-compare", "--flops-history")
_CONFIGURATION = (
    *("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"),
    *("pyproject.toml", "tox.ini", "setup.cfg"),
)
"""Where pytest finds its ini file, and so the rootdir."""


class Settings:
    """The values of the options of `options`, paths below the rootdir; `None` is not given.

    Attributes:
        budgets: Files and folders to look for in place of `budgets`, as written.
        given: The files and folders that pytest was told to run.
        ini: The file of its options, if there is one.
        testpaths: What it runs if it is told none, as written.
        metrics: As written, e.g. `"bytes,peak_memory"`.
        tolerance: As written, e.g. `"1%"`.
        mistakes: What is wrong with the options that write, or are written so that pytest
            misunderstands them.
    """

    def __init__(self, config: Config) -> None:
        def path(name: str) -> Path | None:
            given = chosen(config, name)
            return config.rootpath / given if given else None

        def writes(name: str) -> bool:
            return chosen(config, name) not in ("", "no")

        self.rootdir, self.ini = config.rootpath, config.inipath
        self.budgets: list[str] = chosen(config, "flops_budgets")
        self.given = paths_given(config)
        self.testpaths: list[str] = config.getini("testpaths")
        self.report = path("flops_report")
        self.compare = path("flops_compare")
        self.history = path("flops_history")
        self.metrics: str = chosen(config, "flops_metrics")
        self.tolerance: str | None = chosen(config, "flops_tolerance") or None
        self.update = writes("flops_update")
        self.ratchet = writes("flops_ratchet")
        self.require_recorded = bool(chosen(config, "flops_require_recorded"))
        self.allow_uncounted = bool(chosen(config, "flops_allow_uncounted"))
        self.mistakes = [*_mistakes(config)]


def _mistakes(config: Config) -> Iterator[str]:
    yield from _taken_for_tests(config)
    yield from _empty_or_overwritten(config)
    in_ci = next((name for name in CI_VARIABLES if os.environ.get(name)), None)
    for name in ("flops_update", "flops_ratchet"):
        given = chosen(config, name)
        option = "--" + name.replace("_", "-")
        if given not in ("", "no", "yes", "ci"):
            yield f"{name} in the ini file is yes, no or ci, not {given!r}"
        elif option in config.getini("addopts"):
            yield f"{option} in addopts would record whatever each run counts; give it by hand"
        elif given == "yes" and in_ci:
            yield (
                f"{option} is refused in CI ({in_ci} is set), where nobody would commit what it "
                f"writes; {option}=ci allows it"
            )


def _empty_or_overwritten(config: Config) -> Iterator[str]:
    """Options without a value, as an unset variable leaves them, and folders of two uses."""
    for name in (
        "flops_compare",
        "flops_history",
        "flops_metrics",
        "flops_tolerance",
        "flops_budgets",
    ):
        if config.getoption(name) in ("", [""]):
            yield f"--{name.replace('_', '-')} has an empty value: is a variable unset?"
    base, folder = chosen(config, "flops_compare"), chosen(config, "flops_report")
    root = config.rootpath
    if base and folder and (root / base).resolve() == (root / folder / "flops.json").resolve():
        yield (
            f"--flops-compare={base} is the report that this run writes, and would be overwritten: "
            "copy it elsewhere, or give another --flops-report"
        )
    past = chosen(config, "flops_history")
    if past and folder and (root / past).resolve() == (root / folder).resolve():
        yield (
            f"--flops-history={past} is the folder of the report, which would be drawn as a past "
            f"one: give it a folder of its own, e.g. {past}/history"
        )


def _taken_for_tests(config: Config) -> Iterator[str]:
    """Options whose path may have moved the rootdir.

    pytest chooses the rootdir and the ini file before it knows our options, so a path that follows
    one after a space is one of tests to it. Where that is the checkout of a base with a
    `pythonpath` of its own, the base would be counted twice and compared with itself.
    """
    folder, rootdir = config.invocation_params.dir, config.rootpath
    asked = [folder / argument.partition("::")[0] for argument in config.args]
    if all(_rootdir_of(path, folder) == rootdir for path in asked):
        return
    in_environment = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    for option, path in pairwise([*in_environment, *map(str, config.invocation_params.args)]):
        if option in _TAKES_PATH and (folder / path).exists():
            yield (
                f"pytest takes {path} for a path of tests, since a space stands before it, and so "
                f"{rootdir} for the rootdir: write {option}={path}"
            )


def _rootdir_of(path: Path, folder: Path) -> Path:
    """The rootdir that pytest should find from a path alone: the nearest folder that may be one."""
    for names in (_CONFIGURATION, ("setup.py",)):
        for each in (path, *path.parents):
            if any((each / name).is_file() for name in names):
                return each
    return folder
