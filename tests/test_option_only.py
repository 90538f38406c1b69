"""`--flops-only`: run nothing but the tests that hold a budget."""

from __future__ import annotations

from typing import Any

SUITE = """\
import pytest
from pytest_flops import FLOPsCount
def test_slow(): raise AssertionError('should not run')
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(100, 200, 30))
class TestMore:
    @pytest.mark.flops_budget(total='1 kFLOP')
    def test_inline(self, flops): flops.check(FLOPsCount(1))
    def test_other(self): raise AssertionError('should not run')
"""
LIMIT = "limits: {total: 1 kFLOP}"


def test_the_other_tests_are_deselected(project: Any, mode: tuple[str, ...]) -> None:
    project.budget("step", LIMIT)
    project.test(SUITE)
    result = project.run("--flops-only", *mode)
    result.assert_outcomes(passed=2, deselected=0 if mode[:1] == ("-n",) else 2)
    assert result.ret == 0


def test_items_of_budget_files_are_kept(project: Any) -> None:
    project.budgets()
    project.test(SUITE.replace("'step'", "'baseline'"))
    result = project.run("--flops-only", "--collect-only", "-q")
    names = [line for line in result.outlines if "::" in line]
    assert "budgets/model.yaml::baseline::limits" in names
    assert "test_model.py::test_step" in names
    assert not [name for name in names if "slow" in name or "other" in name]


def test_budgets_that_no_test_names_are_still_stale(project: Any, mode: tuple[str, ...]) -> None:
    project.budget("step", LIMIT, path="budgets/step.yaml")
    project.budget("stale", LIMIT, path="budgets/stale.yaml")
    project.test(SUITE)
    result = project.run("--flops-only", *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'stale' is named by no test*"])


def test_without_a_single_budget_nothing_was_run_and_that_is_no_pass(project: Any) -> None:
    project.test("def test_it(): pass\n")
    assert project.run("--flops-only").ret == 5


def test_the_ini_twin(project: Any) -> None:
    project.ini("flops_only = true")
    project.budget("step", LIMIT)
    project.test(SUITE)
    project.run().assert_outcomes(passed=2, deselected=2)
