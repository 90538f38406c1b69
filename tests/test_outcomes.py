"""One verdict, told alike: exit code, JSON, JUnit file, Markdown and annotations agree.

`docs/ci.md` has these outcomes as a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import pytest

BUDGET = """\
version: 1
budgets:
  step: {limits: {total: 1 kFLOP}}
"""
TEST = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(100))
"""


@dataclass(frozen=True)
class Outcome:
    """What changes after the base was measured, and how the run then ends.

    Attributes:
        code: pytest's exit code.
        passed: What the JSON says; `None` where no report is written.
        failures: How many failures and errors the JUnit file has; `None` where there is no file.
        annotations: How many lines are annotated.
        test: Old and new text of the test.
        budget: Old and new text of the budget file.
        against_the_base: Whether the run is compared with its base.
    """

    code: int
    passed: bool | None
    failures: int | None
    annotations: int
    test: tuple[str, str] = ("", "")
    budget: tuple[str, str] = ("", "")
    against_the_base: bool = True


OUTCOMES = {
    "passed": Outcome(0, passed=True, failures=0, annotations=0),
    "failed": Outcome(
        1, passed=False, failures=1, annotations=1, test=("100", "2000"), against_the_base=False
    ),
    "regressed": Outcome(1, passed=False, failures=1, annotations=1, test=("100", "101")),
    "could not be judged": Outcome(
        1,
        passed=False,
        failures=1,
        annotations=1,
        test=("flops.check(FLOPsCount(100))", "pass"),
        against_the_base=False,
    ),
    "usage": Outcome(4, passed=None, failures=None, annotations=0, budget=("total", "totl")),
    "nothing measured": Outcome(
        1,
        passed=False,
        failures=1,
        annotations=0,
        test=("@", "@pytest.mark.skip\n@"),
        against_the_base=False,
    ),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_all_that_is_left_behind_says_the_same(
    project: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = OUTCOMES[name]
    project.budgets(BUDGET)
    project.test(TEST)
    assert project.run("--flops-report", "base").ret == 0
    project.budgets(BUDGET.replace(*outcome.budget))
    project.test(TEST.replace(*outcome.test))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    against = ("--flops-compare", "base/flops.json") if outcome.against_the_base else ()
    result = project.run("--junit-xml=junit.xml", *against)
    assert result.ret == outcome.code
    annotated = [line for line in result.outlines if line.startswith("::error ")]
    assert len(annotated) == outcome.annotations
    assert failures_in(project.root / "junit.xml") == outcome.failures
    if outcome.passed is None:
        assert not (project.root / "reports").exists()
        return
    assert project.report()["passed"] is outcome.passed
    markdown = (project.root / "reports/flops.md").read_text(encoding="utf-8")
    assert markdown.startswith("## ✅ " if outcome.passed else "## ❌ ")


def test_a_run_without_any_budget_is_as_without_the_plugin(project: Any) -> None:
    project.test("def test_it(): pass")
    assert project.run("--junit-xml=junit.xml").ret == 0
    assert failures_in(project.root / "junit.xml") == 0
    assert not (project.root / "reports").exists()


def failures_in(junit: Any) -> int | None:
    if not junit.exists():
        return None
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite is not None
    return int(suite.get("failures") or 0) + int(suite.get("errors") or 0)
