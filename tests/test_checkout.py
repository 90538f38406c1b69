"""A run whose code is another worktree's: red, and no base to compare with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_flops import cli

TEST = """
    import pytest
    from pytest_flops import FLOPsCount
    from core.model import COST

    @pytest.mark.flops_budget(total="1 MFLOP")
    def test_step(flops):
        flops.check(FLOPsCount(COST))
"""


@pytest.fixture
def base(project: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worktree of the first commit, beside the checkout of the second, which costs more."""
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "me")
        monkeypatch.setenv(f"{name}_EMAIL", "me@example.com")

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=project.root, check=True, capture_output=True)

    project.test(TEST, "app/test_model.py")
    project.write("app/pytest.ini", "[pytest]\n")
    project.write("packages/core/model.py", "COST = 100\n")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Cost 100")
    worktree = project.root.with_name(f"{project.root.name}-base")
    git("worktree", "add", "--quiet", "--detach", str(worktree))
    project.write("packages/core/model.py", "COST = 100_000\n")
    return worktree


def run_in(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, project: Any, *arguments: str
) -> Any:
    monkeypatch.chdir(folder / "app")
    monkeypatch.setenv("PYTHONPATH", str(path / "packages"), prepend=os.pathsep)
    return project.run_apart(*arguments)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_a_base_that_imports_the_heads_code_is_red_and_no_base(
    base: Path,
    project: Any,
    workers: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run_in(base, project.root, monkeypatch, project, *workers)
    assert result.ret == 1
    told = f"*this run imported core.model ({project.root}), which is another worktree*"
    result.stdout.fnmatch_lines([told, "Red: 1 run imported another worktree's code."])
    report = str(base / "app/reports/flops.json")
    assert cli.main(["compare", report, report]) == 2
    assert "is no base to compare with: this run imported core.model" in capsys.readouterr().err


def test_a_worktree_that_imports_its_own_code_is_green(
    base: Path, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_in(base, base, monkeypatch, project).ret == 0
    assert run_in(project.root, project.root, monkeypatch, project).ret == 0
