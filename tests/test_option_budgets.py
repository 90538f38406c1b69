"""`--flops-budgets`: which files of budgets there are."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(("limit", "code"), [(330, 0), (329, 1)])
def test_a_named_file_holds_instead_of_the_default_folder(
    project: Any, mode: tuple[str, ...], limit: int, code: int
) -> None:
    project.budget("step", "limits: {total: 1}")
    project.budget("step", f"limits: {{total: {limit}}}", path="strict/model.yaml")
    project.counted("'step'")
    assert project.run("--flops-budgets", "strict/model.yaml", "test_model.py", *mode).ret == code


@pytest.fixture
def scattered(project: Any) -> Any:
    """A project with one budget in a folder and another, which its test exceeds, in a file."""
    project.budget("other", "limits: {total: 1}", path="one/a.yaml")
    project.budget("step", "limits: {total: 329}", path="two.yml")
    project.counted("'step'")
    return project


def test_it_may_be_given_several_times_for_files_and_folders(scattered: Any) -> None:
    options = ("--flops-budgets", "one", "--flops-budgets", "two.yml")
    scattered.fails(*options, "test_model.py", told=["*two.yml:3:3*"])


def test_the_ini_twin_takes_several_paths(scattered: Any) -> None:
    scattered.ini("flops_budgets = one two.yml")
    scattered.fails("test_model.py", told=["*two.yml:3:3*"])


def test_the_command_line_replaces_the_ini_file(project: Any) -> None:
    project.ini("flops_budgets = loose.yaml")
    project.budget("step", "limits: {total: 330}", path="loose.yaml")
    project.budget("step", "limits: {total: 329}", path="strict.yaml")
    project.counted("'step'")
    assert project.run("test_model.py").ret == 0
    assert project.run("test_model.py", "--flops-budgets", "strict.yaml").ret == 1
