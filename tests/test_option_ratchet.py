"""`--flops-ratchet`: recorded counts that fell are lowered, and none is ever raised."""

from __future__ import annotations

from typing import Any

import pytest

BUDGET = """\
version: 1
budgets:
  step:   # one step
    limits: {total: 1 kFLOP}
"""
COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
from pytest_flops.counting.measurement import Measurement
@pytest.mark.flops_budget('step')
def test_step(flops):
    parts = {'a': FLOPsCount(60, 120, 10), 'b': FLOPsCount(40, 80, 20)}
    flops.check(Measurement(FLOPsCount(100, 200, 30), parts, source='meter', rules='executed'))
"""
RECORDED = """\
{
  "format": "pytest-flops lock file",
  "version": 1,
  "budgets": {
    "step": {
      "flops": {
        "count": {"forward": 100, "backward": 200, "optimizer": 30},
        "components": {
          "a": {"forward": 60, "backward": 120, "optimizer": 10},
          "b": {"forward": 40, "backward": 80, "optimizer": 20}
        }
      }
    }
  }
}
"""
LOCK = "budgets/model.lock.json"


@pytest.fixture
def counted(project: Any) -> Any:
    project.budgets(BUDGET)
    project.test(COUNTED)
    return project


def test_counts_that_fell_are_lowered_exactly(counted: Any, mode: tuple[str, ...]) -> None:
    higher = RECORDED.replace(": 200", ": 250").replace('"forward": 60', '"forward": 61')
    file = counted.write(LOCK, higher)
    result = counted.run("--flops-ratchet", *mode)
    assert result.ret == 0
    assert file.read_text() == RECORDED
    result.stdout.fnmatch_lines(
        [f"lowered in {LOCK}: step: backward 250 FLOP -> 200 FLOP, total *; in a"]
    )


def test_counts_that_rose_stay_and_are_red(counted: Any) -> None:
    file = counted.write(LOCK, RECORDED.replace(": 100", ": 99").replace(": 200", ": 250"))
    assert counted.run("--flops-ratchet").ret == 1
    assert file.read_text() == RECORDED.replace(": 100", ": 99")


def test_a_component_that_is_gone_falls_out_and_a_new_one_is_not_let_in(counted: Any) -> None:
    file = counted.write(LOCK, RECORDED.replace('"b"', '"gone"').replace(": 200", ": 201"))
    assert counted.run("--flops-ratchet").ret == 0
    left = RECORDED.replace("},\n          ", "}\n          ").replace(
        '          "b": {"forward": 40, "backward": 80, "optimizer": 20}\n', ""
    )
    assert file.read_text() == left


def test_a_budget_without_a_record_gets_none(counted: Any) -> None:
    assert counted.run("--flops-ratchet").ret == 0
    assert not (counted.root / LOCK).exists()


def test_a_snapshot_is_lowered_too(project: Any) -> None:
    snapshot = COUNTED.replace("('step')", "")
    project.test(snapshot)
    assert project.run("--flops-update").ret == 0
    project.test(snapshot.replace("100, 200", "99, 200"))
    assert project.run("--flops-ratchet").ret == 0
    assert project.recorded("test_step", "test_model.lock.json")["forward"] == 99


def test_a_ratchet_is_refused_under_ci_unless_told(
    counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    higher = RECORDED.replace(": 200", ": 201")
    file = counted.write(LOCK, higher)
    result = counted.run("--flops-ratchet")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--flops-ratchet is refused*--flops-ratchet=ci allows it*"])
    assert file.read_text() == higher
    assert counted.run("--flops-ratchet=ci").ret == 0
    assert file.read_text() == RECORDED


def test_the_ini_twin(counted: Any) -> None:
    counted.write("pytest.ini", "[pytest]\nflops_ratchet = yes\n")
    file = counted.write(LOCK, RECORDED.replace(": 200", ": 201"))
    assert counted.run().ret == 0
    assert file.read_text() == RECORDED
