"""Under pytest-xdist the controller writes one report, the plain run's; what is lost is missing."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("xdist")

BUDGETS = """\
version: 1
budgets:
  small:
    workload:
      model: resnet_bk
      config: {d_model: 8, n_layers: 2, n_seq: 16, vocab_size: 50, num_experts: 2, top_k: 1}
      batch_size: 2
      seq_len: 16
      rules: published
    limits: {total: 1 GFLOP, components: {"layer_*": {forward: 1 FLOP}}}
    scaling: {seq_len: {sizes: [16, 32, 64], max_exponent: 1.0}}
  named:
    limits: {total: 1 kFLOP}
  left-out:
    limits: {total: 1 kFLOP}
"""
SUITE = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('named')
@pytest.mark.parametrize('number', [1, 2, 3])
def test_named(flops, number): flops.check(FLOPsCount(number))
@pytest.mark.flops_budget('left-out')
def test_left_out(flops): flops.check(FLOPsCount(1))
@pytest.mark.flops_budget(total=1)
def test_over(flops): flops.check(FLOPsCount(2))
@pytest.mark.flops_budget(total=1)
@pytest.mark.xfail(reason='too dear')
def test_expected(flops): flops.check(FLOPsCount(2))
@pytest.mark.flops_budget('named')
def test_skipped(flops): pytest.skip('not here')
@pytest.mark.flops_budget('named')
def test_nothing(flops): pass
def test_plain(): pass
"""
LEAVE_OUT = """\
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if item.name != 'test_left_out']
"""
OTHER_DISTRIBUTIONS = ("loadfile", "loadscope", "loadgroup", "worksteal")
DYING = """\
import os
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget(total=9)
def test_before(flops): flops.check(FLOPsCount(1))
@pytest.mark.flops_budget(total=9)
def test_dies(flops):
    flops.check(FLOPsCount(1))
    os._exit(3)
@pytest.mark.flops_budget(total=9)
def test_after(flops): flops.check(FLOPsCount(1))
"""


def report_without_time(project: Any) -> dict[str, Any]:
    report: dict[str, Any] = project.report()
    del report["environment"]["time"]
    return report


@pytest.fixture
def suite(project: Any) -> Any:
    project.budgets(BUDGETS)
    by_chance = BUDGETS.partition("  named:")[0].replace("small", "by-chance")
    project.budgets(by_chance, path="elsewhere/model.yaml")
    project.test(SUITE.replace("'named'", "'other'"), path="test_other.py")
    project.budget("other", "limits: {total: 9}", path="budgets/b.yml")
    project.test(SUITE)
    project.write("conftest.py", LEAVE_OUT)
    return project


@pytest.mark.parametrize(
    "dist",
    ["load", *(pytest.param(dist, marks=pytest.mark.long) for dist in OTHER_DISTRIBUTIONS)],
)
def test_the_report_is_the_plain_runs_but_for_the_time(suite: Any, dist: str) -> None:
    only = ("-k", "not parity")
    plain = suite.run(*only)
    expected = report_without_time(suite)
    assert expected["entries"]
    result = suite.run(*only, "-n", "2", "--dist", dist)
    assert result.ret == plain.ret == 1
    assert result.parseoutcomes().get("failed") == plain.parseoutcomes()["failed"]
    assert report_without_time(suite) == expected


def test_the_report_of_a_whole_suite_is_the_plain_runs_with_its_stale_budgets(project: Any) -> None:
    project.budgets(BUDGETS.partition("  small:")[0] + "  stale: {limits: {total: 9}}\n")
    project.budget("met", "limits: {total: 9}", path="else/where.yaml")
    project.test("def test_it(): pass\n")
    project.run()
    expected = report_without_time(project)
    assert {error["location"] for error in expected["errors"]} == {
        "budgets/model.yaml:3:3",
        "else/where.yaml:3:3",
    }
    assert project.run("-n", "2").ret == 1
    assert report_without_time(project) == expected


def test_only_the_controller_writes(project: Any) -> None:
    project.write(
        "conftest.py",
        """
        from pytest_flops.reports import write
        real = write.write_reports
        def pytest_configure(config):
            global who
            who = "worker" if hasattr(config, "workerinput") else "controller"
        def noting(*args, **kwargs):
            with open("writers.txt", "a") as file: print(who, file=file)
            return real(*args, **kwargs)
        write.write_reports = noting
        """,
    )
    project.test(DYING.replace("os._exit(3)", "pass"))
    assert project.run_apart("-n", "2").ret == 0
    assert (project.root / "writers.txt").read_text() == "controller\n"


def test_what_a_dead_worker_did_not_deliver_is_missing_and_red(project: Any) -> None:
    project.test(DYING)
    result = project.run("-n", "1", "--max-worker-restart", "0")
    assert result.ret == 1
    report = project.report()
    assert report["passed"] is False
    assert report["missing"] == ["test_model.py::test_after", "test_model.py::test_dies"]
    assert [entry["subject"] for entry in report["entries"]] == ["test_model.py::test_before"]
    result.stdout.fnmatch_lines(["error: test_model.py::test_dies delivered nothing"])


def test_after_a_restart_only_the_lost_test_is_missing(project: Any) -> None:
    project.test(DYING)
    result = project.run("-n", "2")
    assert result.ret == 1
    assert project.report()["missing"] == ["test_model.py::test_dies"]


def test_a_dead_worker_records_nothing(project: Any) -> None:
    file = project.budget("step", "limits: {total: 9}")
    before = file.read_text()
    project.test(DYING.replace("total=9", "'step'"))
    result = project.run("-n", "2", "--flops-update")
    assert result.ret == 1
    assert file.read_text() == before


def test_a_run_that_stops_at_its_first_failure_is_incomplete_and_red(project: Any) -> None:
    project.test(SUITE.replace("'named'", "total=9").replace("'left-out'", "total=9"))
    result = project.run("-n", "2", "--maxfail", "1")
    assert result.ret != 0
    report = project.report()
    assert report["passed"] is False
    assert report["complete"] is False


def test_a_broken_budget_file_is_told_once_by_the_controller(project: Any) -> None:
    project.budget("step", "limits: {totl: 9}")
    project.test("def test_it(): pass\n")
    result = project.run("-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    output = result.stdout.str() + result.stderr.str()
    assert output.count("budgets/model.yaml:4:14") == 1


def test_a_wrong_marker_fails_its_test_in_a_worker(project: Any) -> None:
    project.test("""
        import pytest
        @pytest.mark.flops_budget("unknown")
        def test_it(): pass
        def test_other(): pass
    """)
    project.fails("-n", "2", told=["*no budget is named 'unknown'*"], passed=1, errors=1, failed=0)


def test_a_suite_without_budgets_is_left_alone(project: Any) -> None:
    project.test("def test_it(): pass\n")
    result = project.run("-n", "2")
    assert result.ret == 0
    assert "FLOPs" not in result.stdout.str()
    assert not (project.root / "reports").exists()
