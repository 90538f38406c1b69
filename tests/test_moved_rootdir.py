"""A path of ours after a space, from which pytest takes the rootdir: refused, never in silence."""

from __future__ import annotations

from typing import Any

import pytest

TEST = """\
import pytest
from model import COST
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget(total='1 MFLOP')
def test_step(flops): flops.check(FLOPsCount(COST))
"""
OPTIONS = {
    "--flops-compare": "reports/flops.json",
    "--flops-history": "reports",
    "--flops-report": "reports",
    "--flops-budgets": "budgets",
}


def checkout(project: Any, folder: str, cost: int) -> None:
    """A checkout with its own ini file, through which its tests find its own code."""
    project.write(f"{folder}/pytest.ini", "[pytest]\npythonpath = src\n")
    project.write(f"{folder}/src/model.py", f"COST = {cost}\n")
    project.test(TEST, path=f"{folder}/test_model.py")
    project.budget("other", "limits: {total: 1}", path=f"{folder}/budgets/model.yaml")


@pytest.fixture
def two(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The base, with its report, and beside it the head, which is four times dearer."""
    for folder, cost in (("head", 400), ("base", 100)):
        checkout(project, folder, cost)
        monkeypatch.chdir(project.root / folder)
    project.run("test_model.py", "--flops-report=reports")
    monkeypatch.chdir(project.root / "head")
    return project


def test_a_regression_is_not_compared_with_itself(two: Any) -> None:
    base = "../base/reports/flops.json"
    told = [f"ERROR: pytest takes {base} for *: write --flops-compare={base}"]
    two.refuses("--flops-compare", base, told=told)
    result = two.run("test_model.py", f"--flops-compare={base}")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: *costs more than its base: total from 100 to 400 FLOP*"])


@pytest.mark.parametrize(("option", "path"), OPTIONS.items(), ids=OPTIONS)
def test_every_option_with_a_path_is_looked_at(two: Any, option: str, path: str) -> None:
    path = f"../base/{path}"
    two.refuses(option, path, told=[f"ERROR: *write {option}={path}"])


def test_the_environment_is_looked_at(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--flops-report ../base/reports")
    two.refuses(told=["ERROR: *write --flops-report=../base/reports"])


@pytest.mark.parametrize(
    "outer", ["[pytest]\n", None], ids=["under-an-ini-file", "without-any-ini-file"]
)
def test_a_rootdir_further_up_is_a_moved_one(
    project: Any, monkeypatch: pytest.MonkeyPatch, outer: str | None
) -> None:
    checkout(project, "package", 1)
    project.test(TEST.replace("from model import COST", "COST = 1"), path="package/test_model.py")
    if outer:
        project.write("pytest.ini", outer)
    else:
        (project.root / "package/pytest.ini").unlink()
    (project.root / "reports").mkdir()
    monkeypatch.chdir(project.root / "package")
    project.refuses("--flops-report", "../reports", told=["ERROR: *--flops-report=../reports"])


@pytest.mark.parametrize("arguments", [(), ("test_model.py",), (".",)], ids=str)
@pytest.mark.parametrize("ini", ["pytest.ini", "setup.py", None], ids=str)
def test_a_path_inside_the_project_moves_nothing(
    project: Any, ini: str | None, arguments: tuple[str, ...]
) -> None:
    project.counted("total='1 kFLOP'")
    if ini:
        project.write(ini, "[pytest]\n" if ini == "pytest.ini" else "")
    for _ in range(2):  # the folder is there from the second run on
        assert project.run("--flops-report", "out/reports", *arguments).ret == 0
    report = project.root / "out/reports/flops.json"
    assert project.run("--flops-compare", str(report), *arguments).ret == 0
