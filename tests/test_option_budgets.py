"""`--flops-budgets`: which files of budgets there are."""

from __future__ import annotations

from typing import Any

import pytest

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(100, 200, 30))
"""


def budget(name: str, limit: int) -> str:
    return f"version: 1\nbudgets:\n  {name}:\n    limits: {{total: {limit}}}\n"


@pytest.mark.parametrize(("limit", "code"), [(330, 0), (329, 1)])
def test_a_named_file_holds_instead_of_the_default_folder(
    project: Any, mode: tuple[str, ...], limit: int, code: int
) -> None:
    project.budgets(budget("step", 1))
    project.budgets(budget("step", limit), path="strict/model.yaml")
    project.test(COUNTED)
    assert project.run("--flops-budgets", "strict/model.yaml", "test_model.py", *mode).ret == code


def test_it_may_be_given_several_times_for_files_and_folders(project: Any) -> None:
    project.budgets(budget("other", 1), path="one/a.yaml")
    project.budgets(budget("step", 329), path="two.yml")
    project.test(COUNTED)
    options = ("--flops-budgets", "one", "--flops-budgets", "two.yml")
    result = project.run(*options, "test_model.py")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*two.yml:3:3*"])


def test_the_ini_twin_takes_several_paths(project: Any) -> None:
    project.write("pytest.ini", "[pytest]\nflops_budgets = one two.yml\n")
    project.budgets(budget("other", 1), path="one/a.yaml")
    project.budgets(budget("step", 330), path="two.yml")
    project.test(COUNTED)
    assert project.run("test_model.py").ret == 0


def test_the_command_line_replaces_the_ini_file(project: Any) -> None:
    project.write("pytest.ini", "[pytest]\nflops_budgets = loose.yaml\n")
    project.budgets(budget("step", 330), path="loose.yaml")
    project.budgets(budget("step", 329), path="strict.yaml")
    project.test(COUNTED)
    assert project.run("test_model.py").ret == 0
    assert project.run("test_model.py", "--flops-budgets", "strict.yaml").ret == 1
