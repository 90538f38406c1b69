"""`--flops-update`: this run's exact counts become the recorded ones."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(100, 200, 30))
"""
NOT_RECORDED = """\
version: 1
budgets:
  step:   # one step
    limits: {total: '1 kFLOP'}  # by hand
"""
RECORDED = (
    NOT_RECORDED
    + """\
    recorded:
      forward: 100
      backward: 200
      optimizer: 30
"""
)


def test_a_first_update_adds_the_exact_counts_and_keeps_the_rest(
    project: Any, mode: tuple[str, ...]
) -> None:
    file = project.budgets(NOT_RECORDED)
    project.test(COUNTED)
    result = project.run("--flops-update", *mode)
    assert result.ret == 0
    assert file.read_text() == RECORDED
    result.stdout.fnmatch_lines(["recorded in budgets/model.yaml: step"])


def test_an_update_replaces_higher_and_lower_counts_alike(project: Any) -> None:
    old = RECORDED.replace("100", "99").replace("200", "201")
    file = project.budgets(old)
    project.test(COUNTED)
    assert project.run("--flops-update").ret == 0
    assert file.read_text() == RECORDED


def test_an_update_of_the_same_counts_writes_nothing(project: Any) -> None:
    file = project.budgets(RECORDED)
    project.test(COUNTED)
    before = file.stat().st_mtime_ns
    result = project.run("--flops-update")
    result.stdout.fnmatch_lines(["*holds these counts already; it was not changed"])
    assert file.stat().st_mtime_ns == before


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_files_keep_their_permissions_and_new_ones_have_the_umasks(project: Any) -> None:
    file = project.budgets(NOT_RECORDED)
    file.chmod(0o664)
    project.test(COUNTED)
    umask = os.umask(0o027)
    try:
        assert project.run("--flops-update").ret == 0
    finally:
        os.umask(umask)
    assert file.read_text() == RECORDED
    assert stat.S_IMODE(file.stat().st_mode) == 0o664
    assert stat.S_IMODE((project.root / "reports/flops.json").stat().st_mode) == 0o640


def test_an_update_leaves_a_limit_that_is_passed_alone_and_red(project: Any) -> None:
    file = project.budgets(NOT_RECORDED.replace("1 kFLOP", "329 FLOP"))
    project.test(COUNTED)
    assert project.run("--flops-update").ret == 1
    assert file.read_text() == RECORDED.replace("1 kFLOP", "329 FLOP")


def test_a_path_after_the_option_is_still_a_path(project: Any) -> None:
    project.budgets(NOT_RECORDED)
    project.test(COUNTED)
    project.test("def test_other(): pass", path="test_other.py")
    project.run("--flops-update", "test_model.py").assert_outcomes(passed=1)


def test_a_budget_file_with_a_workload_is_recorded_without_any_python(project: Any) -> None:
    unrecorded = project.baseline.partition("    recorded:\n")[0]
    file = project.budgets(unrecorded)
    project.run("--flops-update", "budgets/model.yaml::baseline::recorded")
    text = file.read_text()
    assert text.startswith(unrecorded)
    # By the reference page.
    for line in ("forward: 16287760384", "backward: 32568016896", "optimizer: 62191800"):
        assert f"\n      {line}\n" in text
    assert "lm_head: {forward: 15728640000," in text


def test_an_update_is_refused_under_ci(
    project: Any, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CI", "true")
    file = project.budgets(NOT_RECORDED)
    project.test(COUNTED)
    result = project.run("--flops-update", *mode)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--flops-update is refused under CI=true*--flops-update=ci*"])
    assert file.read_text() == NOT_RECORDED


def test_an_update_is_allowed_under_ci_when_told_so(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    file = project.budgets(NOT_RECORDED)
    project.test(COUNTED)
    assert project.run("--flops-update=ci").ret == 0
    assert file.read_text() == RECORDED


@pytest.mark.parametrize(("value", "written"), [("yes", True), ("no", False), ("ci", True)])
def test_the_ini_twin(project: Any, value: str, written: bool) -> None:
    project.write("pytest.ini", f"[pytest]\nflops_update = {value}\n")
    file = project.budgets(NOT_RECORDED)
    project.test(COUNTED)
    assert project.run().ret == 0
    assert file.read_text() == (RECORDED if written else NOT_RECORDED)


def test_an_unknown_value_in_the_ini_file_is_a_usage_error(project: Any) -> None:
    project.write("pytest.ini", "[pytest]\nflops_update = perhaps\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*flops_update in the ini file is yes, no or ci, not 'perhaps'*"])


def test_a_run_that_is_cut_short_records_nothing(project: Any, mode: tuple[str, ...]) -> None:
    file = project.budgets(NOT_RECORDED)
    project.test(COUNTED + "def test_bad(): raise OSError\n" + "def test_more(): pass\n" * 3)
    result = project.run("--flops-update", "--exitfirst", *mode)
    assert result.ret != 0
    assert file.read_text() == NOT_RECORDED
    result.stdout.fnmatch_lines(["nothing was recorded: the run did not come to its end"])


def test_a_budget_whose_test_broke_keeps_its_record_and_others_are_recorded(project: Any) -> None:
    other = "  other:\n    limits: {total: 1 kFLOP}\n"
    file = project.budgets(RECORDED.replace("100", "99") + other)
    broken = COUNTED.rstrip() + "; raise OSError('after the check')\n"
    project.test(
        broken + "@pytest.mark.flops_budget('other')\n"
        "def test_other(flops): flops.check(FLOPsCount(7))\n"
    )
    result = project.run("--flops-update")
    assert result.ret == 1
    text = file.read_text()
    assert "forward: 99\n" in text
    assert "forward: 7\n" in text
    result.stdout.fnmatch_lines(["*nothing was recorded for 'step'*"])


def test_two_tests_that_count_differently_record_nothing(project: Any) -> None:
    file = project.budgets(NOT_RECORDED)
    second = COUNTED.partition("\n@")[2].replace("test_step", "test_again").replace("100", "101")
    project.test(f"{COUNTED}@{second}")
    result = project.run("--flops-update")
    assert result.ret == 1
    assert file.read_text() == NOT_RECORDED
    result.stdout.fnmatch_lines(["*'step': several tests counted it with different results*"])


def test_a_partial_run_keeps_the_records_it_did_not_get_to(project: Any) -> None:
    other = RECORDED.partition("budgets:\n")[2].replace("step:", "other:")
    file = project.budgets(RECORDED.replace("100", "99") + other)
    project.test(COUNTED)
    assert project.run("--flops-update", "test_model.py").ret == 0
    assert file.read_text() == RECORDED + other


def test_an_update_accepts_what_is_dearer_than_the_base(project: Any) -> None:
    project.budgets(NOT_RECORDED)
    project.test(COUNTED)
    project.run("--flops-report", "base")
    project.test(COUNTED.replace("100", "101"))
    base = ("--flops-compare", "base/flops.json")
    assert project.run(*base).ret == 1
    assert project.run(*base, "--flops-update").ret == 0
    assert project.run(*base).ret == 0
