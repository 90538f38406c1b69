"""`--flops-require-recorded`: a budget without recorded counts is an error."""

from __future__ import annotations

from typing import Any

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(100, 200, 30))
"""
BUDGET = "version: 1\nbudgets:\n  step:\n    limits: {total: 1 kFLOP}\n"


def test_a_budget_without_a_record_is_an_error_at_its_line(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.budgets(BUDGET)
    project.test(COUNTED)
    result = project.run("--flops-require-recorded", *mode)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*budgets/model.yaml:3:3: the budget 'step' has no recorded counts*--flops-update*"]
    )
    assert project.report()["passed"] is False


def test_a_budget_with_a_record_is_none(project: Any, mode: tuple[str, ...]) -> None:
    project.budgets(BUDGET)
    project.records(step=(100, 200, 30))
    project.test(COUNTED)
    assert project.run("--flops-require-recorded", *mode).ret == 0


def test_without_the_option_a_first_run_passes_and_says_what_is_not_recorded(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.budgets(BUDGET)
    project.test(COUNTED)
    result = project.run(*mode)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["not recorded yet: step (*--flops-update*)"])


def test_a_budget_that_holds_nothing_yet_is_skipped_with_a_reason(project: Any) -> None:
    project.budgets(project.baseline.partition("    limits:\n")[0])
    result = project.run("-rs", "budgets/model.yaml::baseline::recorded")
    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["baseline*not recorded yet*", "*SKIPPED*not recorded yet: run pytest --flops-update*"]
    )
    assert project.report()["passed"] is True


def test_an_update_gives_what_is_required(project: Any) -> None:
    project.budgets(BUDGET)
    project.test(COUNTED)
    assert project.run("--flops-require-recorded", "--flops-update").ret == 0
    assert project.recorded("step")["forward"] == 100
    assert project.run("--flops-require-recorded").ret == 0


def test_the_ini_twin(project: Any) -> None:
    project.write("pytest.ini", "[pytest]\nflops_require_recorded = true\n")
    project.budgets(BUDGET)
    project.test(COUNTED)
    assert project.run().ret == 1


def test_a_marked_test_with_a_budget_of_its_own_needs_a_record_too(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test(COUNTED.replace("'step'", "total='1 kFLOP'"))
    result = project.run("--flops-require-recorded", *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'test_model.py::test_step' has no recorded counts*"])
    assert project.run("--flops-update", *mode).ret == 0
    assert project.run("--flops-require-recorded", *mode).ret == 0
