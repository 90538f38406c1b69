"""`--flops-ratchet`: recorded counts that fell are lowered, and none is ever raised."""

from __future__ import annotations

from typing import Any

import pytest

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
from pytest_flops.counting.measurement import Measurement
@pytest.mark.flops_budget('step')
def test_step(flops):
    parts = {'a': FLOPsCount(60, 120, 10), 'b': FLOPsCount(40, 80, 20)}
    flops.check(Measurement(FLOPsCount(100, 200, 30), parts, source='meter', rules='executed'))
"""
BUDGET = """\
version: 1
budgets:
  step:   # one step
    limits: {total: 1 kFLOP}
    recorded:
      forward: 100
      backward: 200
      optimizer: 30
      components:
        a: {forward: 60, backward: 120, optimizer: 10}
        b: {forward: 40, backward: 80, optimizer: 20}  # cheap
"""


def test_counts_that_fell_are_lowered_exactly(project: Any, mode: tuple[str, ...]) -> None:
    higher = BUDGET.replace("200", "250").replace("forward: 60", "forward: 61")
    file = project.budgets(higher)
    project.test(COUNTED)
    result = project.run("--flops-ratchet", *mode)
    assert result.ret == 0
    assert file.read_text() == BUDGET
    result.stdout.fnmatch_lines(["lowered in budgets/model.yaml: step"])


def test_counts_that_rose_stay_and_are_red(project: Any) -> None:
    file = project.budgets(BUDGET.replace("100", "99").replace("200", "250"))
    project.test(COUNTED)
    assert project.run("--flops-ratchet").ret == 1
    assert file.read_text() == BUDGET.replace("100", "99")


def test_a_component_that_is_gone_falls_out_and_a_new_one_is_not_let_in(project: Any) -> None:
    file = project.budgets(BUDGET.replace("        b:", "        gone:").replace("200", "201"))
    project.test(COUNTED)
    assert project.run("--flops-ratchet").ret == 0
    assert file.read_text() == "".join(
        line for line in BUDGET.splitlines(keepends=True) if not line.startswith("        b:")
    )


def test_a_budget_without_a_record_gets_none(project: Any) -> None:
    unrecorded = BUDGET.partition("    recorded:")[0]
    file = project.budgets(unrecorded)
    project.test(COUNTED)
    assert project.run("--flops-ratchet").ret == 0
    assert file.read_text() == unrecorded


def test_a_ratchet_is_refused_under_ci_unless_told(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    higher = BUDGET.replace("200", "201")
    file = project.budgets(higher)
    project.test(COUNTED)
    result = project.run("--flops-ratchet")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--flops-ratchet is refused*--flops-ratchet=ci allows it*"])
    assert file.read_text() == higher
    assert project.run("--flops-ratchet=ci").ret == 0
    assert file.read_text() == BUDGET


def test_the_ini_twin(project: Any) -> None:
    project.write("pytest.ini", "[pytest]\nflops_ratchet = yes\n")
    file = project.budgets(BUDGET.replace("200", "201"))
    project.test(COUNTED)
    assert project.run().ret == 0
    assert file.read_text() == BUDGET
