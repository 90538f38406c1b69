"""`--flops-update`: this run's exact counts go into the lock files."""

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
BUDGET = """\
version: 1
budgets:
  step:   # one step
    limits: {total: '1 kFLOP'}  # by hand
"""
LOCK = "budgets/model.lock.json"
RECORDED = """\
{
  "format": "pytest-flops lock file",
  "version": 1,
  "budgets": {
    "step": {
      "flops": {
        "count": {"forward": 100, "backward": 200, "optimizer": 30}
      }
    }
  }
}
"""
OWN = """\
import pytest, torch
from pytest_flops import FLOPsCount
class TestModel:
    @pytest.mark.flops_budget(total=100)
    @pytest.mark.parametrize('n', [2, 3])
    def test_step(self, n): torch.ones(n) + 1
@pytest.mark.flops_budget
def test_snapshot(flops): flops.check(FLOPsCount(7))
"""
OWN_LOCK = "test_model.lock.json"


@pytest.fixture
def counted(project: Any) -> Any:
    """A project whose one budget is counted, and not recorded yet."""
    project.budgets(BUDGET)
    project.test(COUNTED)
    return project


def lock_of(project: Any, path: str = LOCK) -> str:
    text: str = (project.root / path).read_text(encoding="utf-8")
    return text


def test_a_first_update_writes_the_exact_counts_beside_the_budget_file(
    counted: Any, mode: tuple[str, ...]
) -> None:
    result = counted.run("--flops-update", *mode)
    assert result.ret == 0
    assert lock_of(counted) == RECORDED
    assert lock_of(counted, "budgets/model.yaml") == BUDGET
    result.stdout.fnmatch_lines([f"recorded in {LOCK}: step (total 330 FLOP)"])


def test_an_update_replaces_higher_and_lower_counts_alike_and_tells_old_and_new(
    counted: Any,
) -> None:
    counted.records(step=(99, 201, 30))
    result = counted.run("--flops-update")
    assert result.ret == 0
    assert lock_of(counted) == RECORDED
    result.stdout.fnmatch_lines(
        [f"updated in {LOCK}: step: forward 99 FLOP -> 100 FLOP, backward 201 FLOP -> 200 FLOP"]
    )


def test_an_update_of_the_same_counts_writes_nothing(counted: Any) -> None:
    file = counted.write(LOCK, RECORDED)
    before = file.stat().st_mtime_ns
    result = counted.run("--flops-update")
    result.stdout.fnmatch_lines([f"{LOCK} holds these counts already; it was not changed"])
    assert file.stat().st_mtime_ns == before


@pytest.mark.posix("permissions of this kind")
def test_files_keep_their_permissions_and_new_ones_have_the_umasks(counted: Any) -> None:
    umask = os.umask(0o027)
    try:
        assert counted.run("--flops-update").ret == 0
        file = counted.root / LOCK
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        counted.records(step=(1, 2, 3)).chmod(0o664)
        assert counted.run("--flops-update").ret == 0
    finally:
        os.umask(umask)
    assert lock_of(counted) == RECORDED
    assert stat.S_IMODE(file.stat().st_mode) == 0o664
    assert stat.S_IMODE((counted.root / "reports/flops.json").stat().st_mode) == 0o640


def test_an_update_leaves_a_limit_that_is_passed_alone_and_red(counted: Any) -> None:
    counted.budgets(BUDGET.replace("1 kFLOP", "329 FLOP"))
    assert counted.run("--flops-update").ret == 1
    assert lock_of(counted) == RECORDED


def test_a_path_after_the_option_is_still_a_path(counted: Any) -> None:
    counted.test("def test_other(): pass", path="test_other.py")
    counted.run("--flops-update", "test_model.py").assert_outcomes(passed=1)


def test_a_budget_file_with_a_workload_is_recorded_without_any_python(project: Any) -> None:
    project.budgets()
    project.run("--flops-update", "budgets/model.yaml::baseline::recorded")
    text = lock_of(project)
    # By the reference page.
    assert (
        '"count": {"forward": 16287760384, "backward": 32568016896, "optimizer": 62191800}' in text
    )
    assert '          "lm_head": {"forward": 15728640000,' in text
    assert '          "layer_{0..3}": {"forward": 139386880,' in text
    project.run("budgets/model.yaml::baseline::recorded").assert_outcomes(passed=1)


def test_marked_tests_without_a_named_budget_are_recorded_beside_their_file(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test(OWN)
    result = project.run(*mode)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["not recorded yet: test_model.py::TestModel::test_step*2*"])
    assert project.run("--flops-update", *mode).ret == 0
    assert project.recorded("TestModel::test_step[2]", OWN_LOCK) == {"forward": 2}
    assert project.recorded("TestModel::test_step[3]", OWN_LOCK) == {"forward": 3}
    assert project.recorded("test_snapshot", OWN_LOCK) == {"forward": 7}
    assert '"aten.add": {"forward": 2}' in lock_of(project, OWN_LOCK)
    assert project.run(*mode).ret == 0


def test_a_snapshot_that_grows_is_red_at_its_line_of_the_lock_file(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test(OWN)
    project.run("--flops-update")
    project.test(OWN.replace("FLOPsCount(7)", "FLOPsCount(8)"))
    result = project.run(*mode)
    assert result.ret == 1
    line = lock_of(project, OWN_LOCK).splitlines().index('    "test_snapshot": {') + 1
    result.stdout.fnmatch_lines(
        ["total: 8 FLOP, recorded 7 FLOP*", f"*--flops-update*commit {OWN_LOCK}, *"]
    )
    page = (project.root / "reports/flops.html").read_text(encoding="utf-8")
    assert f"Recorded at <code>{OWN_LOCK}:{line}:1</code>" in page


def test_a_snapshot_may_have_a_tolerance(project: Any) -> None:
    snapshot = OWN.replace("flops_budget\n", "flops_budget(tolerance='15%')\n")
    project.test(snapshot)
    project.run("--flops-update")
    project.test(snapshot.replace("FLOPsCount(7)", "FLOPsCount(8)"))
    assert project.run().ret == 0
    project.test(snapshot.replace("FLOPsCount(7)", "FLOPsCount(9)"))
    assert project.run().ret == 1


SEVERAL = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget
def test_several(flops):
    for count in (10, 20, 10): flops.check(FLOPsCount(count))
"""


def test_each_count_of_a_test_has_a_record_named_as_in_the_report(project: Any) -> None:
    project.test(SEVERAL)
    project.run("--flops-update")
    assert project.recorded("test_several", OWN_LOCK) == {"forward": 10}
    assert project.recorded("test_several (count 2)", OWN_LOCK) == {"forward": 20}
    assert project.recorded("test_several (count 3)", OWN_LOCK) == {"forward": 10}
    subjects = [entry["subject"] for entry in project.report()["entries"]]
    test = "test_model.py::test_several"
    assert subjects == [test, f"{test} (count 2)", f"{test} (count 3)"]
    assert project.run().ret == 0
    project.test(SEVERAL.replace("20", "21"))
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*total: 21 FLOP, recorded 20 FLOP*"])


def test_a_test_that_fails_after_its_counts_keeps_the_records_of_all_of_them(project: Any) -> None:
    project.test(SEVERAL)
    project.run("--flops-update")
    before = lock_of(project, OWN_LOCK)
    project.test(SEVERAL.replace("20", "21") + "    raise OSError\n")
    assert project.run("--flops-update").ret == 1
    assert lock_of(project, OWN_LOCK) == before


def test_limits_in_a_call_of_a_test_without_the_marker_are_not_recorded(project: Any) -> None:
    project.test(
        "from pytest_flops import FLOPsCount\n"
        "def test_it(flops): flops.check(FLOPsCount(7), total=9)\n"
    )
    result = project.run("--flops-update")
    assert result.ret == 0
    assert not (project.root / OWN_LOCK).exists()
    assert "not recorded yet" not in project.run().stdout.str()


def test_the_page_of_a_red_snapshot_says_how_to_record_it_anew(project: Any) -> None:
    project.test(SEVERAL)
    project.run("--flops-update")
    project.test(SEVERAL.replace("20", "21"))
    assert project.run().ret == 1
    page = (project.root / "reports/flops.html").read_text(encoding="utf-8")
    assert "run pytest --flops-update test_model.py::test_several and commit test_model" in page


def test_an_update_is_refused_under_ci(
    counted: Any, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CI", "true")
    result = counted.run("--flops-update", *mode)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--flops-update is refused in CI (CI is set)*--flops-update=ci*"])
    assert not (counted.root / LOCK).exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("BUILD_NUMBER", "7"), ("TF_BUILD", "True"), ("CI", "woodpecker"), ("JENKINS_URL", "x")],
)
def test_every_ci_is_known_by_what_it_sets(
    counted: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    result = counted.run("--flops-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--flops-update is refused in CI ({name} is set)*"])


def test_an_update_forgotten_in_addopts_is_refused_anywhere(counted: Any) -> None:
    counted.write("pytest.ini", "[pytest]\naddopts = --flops-update\n")
    result = counted.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--flops-update in addopts would record whatever each run*"])
    assert not (counted.root / LOCK).exists()


def test_an_update_is_allowed_under_ci_when_told_so(
    counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    assert counted.run("--flops-update=ci").ret == 0
    assert lock_of(counted) == RECORDED


@pytest.mark.parametrize(("value", "written"), [("yes", True), ("no", False), ("ci", True)])
def test_the_ini_twin(counted: Any, value: str, written: bool) -> None:
    counted.write("pytest.ini", f"[pytest]\nflops_update = {value}\n")
    assert counted.run().ret == 0
    assert (counted.root / LOCK).exists() is written


def test_an_unknown_value_in_the_ini_file_is_a_usage_error(project: Any) -> None:
    project.write("pytest.ini", "[pytest]\nflops_update = perhaps\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*flops_update in the ini file is yes, no or ci, not 'perhaps'*"])


def test_a_run_that_is_cut_short_records_nothing(counted: Any, mode: tuple[str, ...]) -> None:
    counted.test(COUNTED + "def test_bad(): raise OSError\n" + "def test_more(): pass\n" * 3)
    result = counted.run("--flops-update", "--exitfirst", *mode)
    assert result.ret != 0
    assert not (counted.root / LOCK).exists()
    result.stdout.fnmatch_lines(["nothing was recorded: the run did not come to its end"])


def test_a_budget_whose_test_broke_keeps_its_record_and_others_are_recorded(counted: Any) -> None:
    counted.budgets(BUDGET + "  other:\n    limits: {total: 1 kFLOP}\n")
    counted.records(step=(99, 200, 30))
    broken = COUNTED.rstrip() + "; raise OSError('after the check')\n"
    counted.test(
        broken + "@pytest.mark.flops_budget('other')\n"
        "def test_other(flops): flops.check(FLOPsCount(7))\n"
    )
    result = counted.run("--flops-update")
    assert result.ret == 1
    assert counted.recorded("step")["forward"] == 99
    assert counted.recorded("other")["forward"] == 7
    result.stdout.fnmatch_lines(["*nothing was recorded for 'step'*"])


def test_two_tests_that_count_differently_record_nothing(counted: Any) -> None:
    second = COUNTED.partition("\n@")[2].replace("test_step", "test_again").replace("100", "101")
    counted.test(f"{COUNTED}@{second}")
    result = counted.run("--flops-update")
    assert result.ret == 1
    assert not (counted.root / LOCK).exists()
    result.stdout.fnmatch_lines(["*'step': several tests counted it with different results*"])


def test_a_partial_run_keeps_the_records_it_did_not_get_to(counted: Any) -> None:
    counted.records(step=(99, 200, 30), gone=(1, 2, 3))
    assert counted.run("--flops-update", "test_model.py").ret == 0
    assert counted.recorded("step")["forward"] == 100
    assert counted.recorded("gone")["forward"] == 1


def test_an_update_accepts_what_is_dearer_than_the_base(counted: Any) -> None:
    counted.run("--flops-report", "base")
    counted.test(COUNTED.replace("100", "101"))
    base = ("--flops-compare", "base/flops.json")
    assert counted.run(*base).ret == 1
    assert counted.run(*base, "--flops-update").ret == 0
    assert counted.run(*base).ret == 0
