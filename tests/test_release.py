"""The release workflow: only a tag that names the version goes to the index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_flops import __version__

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
JOBS: dict[str, Any] = WORKFLOW["jobs"]
RELEASED = f"# Changelog\n\n## [Unreleased]\n\n## [{__version__}] - 2026-01-01\n"


def check_tag(folder: Path, tag: str, changelog: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow's step as GitHub does."""
    (folder / "pytest_flops").mkdir()
    shutil.copy(ROOT / "pytest_flops/__init__.py", folder / "pytest_flops")
    (folder / "CHANGELOG.md").write_text(changelog)
    (step,) = (
        step for step in JOBS["build"]["steps"] if step.get("name") == "The tag is the version"
    )
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "GITHUB_REF_NAME": tag},
        capture_output=True,
        text=True,
        check=False,
    )


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the workflow runs on Linux")


def test_the_tag_of_the_version_is_released(tmp_path: Path) -> None:
    assert check_tag(tmp_path, f"v{__version__}", RELEASED).returncode == 0


@pytest.mark.parametrize("tag", [__version__, f"v{__version__}.1", "v99", f"v{__version__}rc1"])
def test_another_tag_is_refused(tmp_path: Path, tag: str) -> None:
    refused = check_tag(tmp_path, tag, RELEASED)
    assert refused.returncode == 1
    assert f"the tag is {tag}, the version {__version__}" in refused.stdout


def test_a_version_that_the_changelog_does_not_tell_is_refused(tmp_path: Path) -> None:
    refused = check_tag(tmp_path, f"v{__version__}", "# Changelog\n\n## [Unreleased]\n")
    assert refused.returncode == 1
    assert f"there is no section [{__version__}]" in refused.stdout


def test_what_is_published_was_tested_and_built_by_the_same_run() -> None:
    commands = [step.get("run", "") for step in JOBS["build"]["steps"]]
    assert {"make lint", "make test-all", "make packaging"} <= set(commands)
    assert JOBS["publish"]["needs"] == "build"


def test_only_the_publishing_job_may_ask_the_index_for_trust() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "permissions" not in JOBS["build"]
    assert JOBS["publish"]["permissions"] == {"id-token": "write"}
    assert not any("run" in step for step in JOBS["publish"]["steps"])
