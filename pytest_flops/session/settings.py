"""`Settings`: what the user asked of this run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.options import SUFFIXES, chosen, only_budgets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest import Config


@dataclass(frozen=True, slots=True)
class Settings:
    """The options and ini values of one run.

    Attributes:
        rootdir: Relative paths start here.
        budgets: Files and folders of budgets that somebody named; each is held to the schema.
        given: YAML files that pytest was told to run.
        report: Where the report goes; `None` writes none.
        update: Whether to write the counts into lock files.
        ratchet: Whether to lower the `recorded` counts that fell.
        mistakes: What is wrong with the options that write.
        require_recorded: Whether a budget without recorded counts is an error.
        compare: The report of the base to compare with.
        history: A folder of past reports, for the page's small lines of history.
        tolerance: As written, e.g. `"1%"`; `None` leaves it to each budget.
        only: Whether to run nothing but budget tests.
        allow_uncounted: Whether an operator without a known cost is a warning and not an error.
    """

    rootdir: Path
    budgets: tuple[Path, ...]
    given: tuple[Path, ...]
    report: Path | None
    update: bool
    ratchet: bool
    mistakes: tuple[str, ...]
    require_recorded: bool
    compare: Path | None
    history: Path | None
    tolerance: str | None
    only: bool
    allow_uncounted: bool

    @classmethod
    def from_config(cls, config: Config) -> Settings:
        """Read the command line first, then the ini file."""
        rootdir = config.rootpath

        def path(name: str) -> Path | None:
            given = chosen(config, name)
            return rootdir / given if given else None

        writing = {name: chosen(config, name) for name in ("flops_update", "flops_ratchet")}
        asked = [name for name, given in writing.items() if given not in ("", "no")]
        return cls(
            rootdir=rootdir,
            budgets=tuple(rootdir / name for name in chosen(config, "flops_budgets")),
            given=tuple(_yaml_files_given(config)),
            report=path("flops_report"),
            update="flops_update" in asked,
            ratchet="flops_ratchet" in asked,
            mistakes=tuple(_mistakes(writing)),
            require_recorded=bool(chosen(config, "flops_require_recorded")),
            compare=path("flops_compare"),
            history=path("flops_history"),
            tolerance=chosen(config, "flops_tolerance") or None,
            only=only_budgets(config),
            allow_uncounted=bool(chosen(config, "flops_allow_uncounted")),
        )

    @property
    def writes(self) -> bool:
        """Whether the run writes into lock files."""
        return self.update or self.ratchet


def _yaml_files_given(config: Config) -> Iterator[Path]:
    for argument in config.args:
        path = config.invocation_params.dir / argument.partition("::")[0]
        if path.suffix in SUFFIXES:
            yield path


def _mistakes(writing: Mapping[str, str]) -> Iterator[str]:
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    for name, given in writing.items():
        option = "--" + name.replace("_", "-")
        if given not in ("", "no", "yes", "ci"):
            yield f"{name} in the ini file is yes, no or ci, not {given!r}"
        elif given == "yes" and in_ci:
            yield (
                f"{option} is refused under CI=true, where nobody would commit what it writes; "
                f"{option}=ci allows it"
            )
