"""`Settings`: what the user asked of this run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_flops.options import only_budgets

if TYPE_CHECKING:
    from pathlib import Path

    from pytest import Config


@dataclass(frozen=True, slots=True)
class Settings:
    """The options and ini values of one run.

    Attributes:
        rootdir: Relative paths start here.
        budgets: Files and folders of budgets that somebody named; each is held to the schema.
        report: Where the report goes; `None` writes none.
        update: Whether to write the `recorded` counts.
        update_in_ci: Whether that is allowed under `CI=true`.
        compare: The report of the base to compare with.
        history: A folder of past reports, for the page's small lines of history.
        tolerance: As written, e.g. `"1%"`; `None` leaves it to each budget.
        only: Whether to run nothing but budget tests.
        allow_uncounted: Whether an operator without a known cost is a remark and not an error.
    """

    rootdir: Path
    budgets: tuple[Path, ...]
    report: Path | None
    update: bool
    update_in_ci: bool
    compare: Path | None
    history: Path | None
    tolerance: str | None
    only: bool
    allow_uncounted: bool

    @classmethod
    def from_config(cls, config: Config) -> Settings:
        """Read the command line first, then the ini file."""
        rootdir = config.rootpath

        def chosen(name: str) -> Any:
            given = config.getoption(name)
            return config.getini(name) if given is None else given

        def path(name: str) -> Path | None:
            return rootdir / chosen(name) if chosen(name) else None

        update = chosen("flops_update")
        return cls(
            rootdir=rootdir,
            budgets=tuple(rootdir / name for name in chosen("flops_budgets")),
            report=path("flops_report"),
            update=update not in (None, "", "no"),
            update_in_ci=update == "ci",
            compare=path("flops_compare"),
            history=path("flops_history"),
            tolerance=chosen("flops_tolerance") or None,
            only=only_budgets(config),
            allow_uncounted=bool(chosen("flops_allow_uncounted")),
        )

    @property
    def update_refused(self) -> bool:
        """Whether an update was asked for where nobody would see the changed file."""
        in_ci = os.environ.get("CI", "").lower() in ("true", "1")
        return self.update and in_ci and not self.update_in_ci
