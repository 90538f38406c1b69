"""`Settings`: what the user asked of this run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_flops.options import chosen, paths_given

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest import Config

# pytest itself takes CI and BUILD_NUMBER for signs of CI, whatever their value; some set neither.
CI_VARIABLES = ("CI", "BUILD_NUMBER", "TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION")


class Settings:
    """The values of the options of `options`, paths below the rootdir; `None` is not given.

    Attributes:
        budgets: Files and folders to look for in place of `budgets`, as written.
        given: The files and folders that pytest was told to run.
        tolerance: As written, e.g. `"1%"`.
        mistakes: What is wrong with the options that write.
    """

    def __init__(self, config: Config) -> None:
        def path(name: str) -> Path | None:
            given = chosen(config, name)
            return config.rootpath / given if given else None

        def writes(name: str) -> bool:
            return chosen(config, name) not in ("", "no")

        self.rootdir = config.rootpath
        self.budgets: list[str] = chosen(config, "flops_budgets")
        self.given = paths_given(config)
        self.report = path("flops_report")
        self.compare = path("flops_compare")
        self.history = path("flops_history")
        self.tolerance: str | None = chosen(config, "flops_tolerance") or None
        self.update = writes("flops_update")
        self.ratchet = writes("flops_ratchet")
        self.require_recorded = bool(chosen(config, "flops_require_recorded"))
        self.allow_uncounted = bool(chosen(config, "flops_allow_uncounted"))
        self.mistakes = [*_mistakes(config)]


def _mistakes(config: Config) -> Iterator[str]:
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
