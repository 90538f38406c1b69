"""Where a run happens: commit, branch, versions and the CI job's page."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMIT = ("GITHUB_SHA", "CI_COMMIT_SHA")
_BRANCH = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """The environment block of a report; what cannot be found out is `None`.

    The checkout is asked for the commit before CI's variables are: it is what ran. torch's version
    is read from its metadata, without importing it.
    """
    return {
        "commit": _git("rev-parse", "HEAD") or _first(variables, _COMMIT),
        "branch": _first(variables, _BRANCH) or _git("symbolic-ref", "--short", "--quiet", "HEAD"),
        "ci_run": _ci_run(variables),
        "pytest_flops": _version("pytest-flops"),
        "pytest": _version("pytest"),
        "torch": _version("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _first(variables: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((variables[name] for name in names if variables.get(name)), None)


def _ci_run(variables: Mapping[str, str]) -> str | None:
    server, repository, run = (
        variables.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    if server and repository and run:
        return f"{server}/{repository}/actions/runs/{run}"
    return variables.get("CI_JOB_URL") or None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
