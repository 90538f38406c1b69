"""`--flops-tolerance`: how far above the base a count may go."""

from __future__ import annotations

from typing import Any

import pytest

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(101, 200, 30))
"""
BUDGET = """\
version: 1
budgets:
  step:
    tolerance: 0%
"""


@pytest.fixture
def recorded(project: Any) -> Any:
    """A project whose test counts 1 % more than is recorded in forward."""
    project.budgets(BUDGET)
    project.records(step=(100, 200, 30))
    project.test(COUNTED)
    return project


@pytest.mark.parametrize(("tolerance", "code"), [("1%", 0), ("0.99%", 1)])
def test_it_replaces_every_budgets_own(
    recorded: Any, mode: tuple[str, ...], tolerance: str, code: int
) -> None:
    assert recorded.run("--flops-tolerance", tolerance, *mode).ret == code


def test_it_may_be_stricter_than_the_budgets_own(recorded: Any) -> None:
    recorded.budgets(BUDGET.replace("0%", "5%"))
    assert recorded.run().ret == 0
    assert recorded.run("--flops-tolerance", "0%").ret == 1


@pytest.mark.parametrize("wrong", ["much", "-1%", "nan%", "1"])
def test_what_is_no_percentage_is_a_usage_error(project: Any, wrong: str) -> None:
    project.budgets(BUDGET)
    project.test(COUNTED)
    result = project.run(f"--flops-tolerance={wrong}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR:*{wrong}*"])
    assert "Traceback" not in result.stderr.str()


def test_the_ini_twin(recorded: Any) -> None:
    recorded.write("pytest.ini", "[pytest]\nflops_tolerance = 1%\n")
    assert recorded.run().ret == 0


def test_a_wrong_ini_value_is_a_usage_error_even_without_budgets(project: Any) -> None:
    project.write("pytest.ini", "[pytest]\nflops_tolerance = much\n")
    project.test("def test_it(): pass\n")
    assert project.run().ret == pytest.ExitCode.USAGE_ERROR
