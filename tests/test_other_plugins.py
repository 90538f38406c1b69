"""Beside other plugins, and switched off."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget(total=330)
def test_fits(flops): flops.check(FLOPsCount(100, 200, 30))
@pytest.mark.flops_budget(total=329)
def test_over(flops): flops.check(FLOPsCount(100, 200, 30))
"""


def needs(module: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(module) is not None
    return pytest.mark.skipif(not there, reason=f"{module} is not installed")


def test_p_no_flops_switches_everything_off(project: Any, mode: tuple[str, ...]) -> None:
    project.budgets(project.baseline.replace("16.3 GFLOP", "1 FLOP"))
    project.test("def test_it(): pass\n")
    result = project.run("-p", "no:flops", *mode)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert "FLOPs" not in result.stdout.str()
    assert not (project.root / "reports").exists()
    help_text = project.run("-p", "no:flops", "--help").stdout.str()
    assert "--flops" not in help_text


def test_switched_off_its_fixtures_are_gone(project: Any) -> None:
    project.test(COUNTED)
    project.fails("-p", "no:flops", told=["*fixture 'flops' not found*"], errors=2, failed=0)


def test_there_are_no_warnings(project: Any, mode: tuple[str, ...]) -> None:
    project.budgets()
    project.test("""
        import pytest, torch
        from pytest_flops import FLOPsCount
        @pytest.mark.flops_budget("baseline")
        def test_baseline(flops, resnet_bk): flops.check(resnet_bk())
        @pytest.mark.flops_budget(total="1 MFLOP")
        def test_metered():
            model = torch.nn.Linear(3, 4)
            optimizer = torch.optim.AdamW(model.parameters())
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    """)
    options = ("--strict-markers", "--strict-config", "-W", "error", "--flops-update")
    result = project.run(*options, *mode)
    assert result.ret == 0
    assert "warnings" not in result.parseoutcomes()


@needs("pytest_cov")
def test_pytest_cov_sees_the_metered_lines(project: Any) -> None:
    project.write("model.py", "def step():\n    return 1\ndef unused():\n    return 2\n")
    project.counted("total=1", "__import__('model').step()")
    result = project.run_apart("--cov=model", "--cov-report=term-missing", "-n", "2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["model.py*4*1*75%*4"])
    assert project.report()["passed"] is True


@needs("pytest_randomly")
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_pytest_randomly_changes_nothing_in_the_report(project: Any, seed: str) -> None:
    project.test("""
        import pytest
        from pytest_flops import FLOPsCount
        @pytest.mark.flops_budget(total=5)
        @pytest.mark.parametrize("count", range(1, 7))
        def test_each(flops, count): flops.check(FLOPsCount(count))
    """)
    reports = []
    for order in (("-p", "no:randomly"), (f"--randomly-seed={seed}",)):
        assert project.run_apart(*order).ret == 1
        report = project.report()
        del report["environment"]["time"]
        reports.append(report)
    assert reports[0] == reports[1]


@needs("pytest_rerunfailures")
def test_pytest_rerunfailures_counts_the_last_try_alone(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test("""
        import pathlib, pytest
        from pytest_flops import FLOPsCount
        @pytest.mark.flops_budget(total=9)
        def test_flaky(flops):
            tried = pathlib.Path("tried")
            first = not tried.exists()
            tried.touch()
            flops.check(FLOPsCount(5), total=4 if first else 9)
    """)
    result = project.run("--reruns", "1", *mode)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    (entry,) = project.report()["entries"]
    assert entry["passed"] is True
    assert [verdict["allowed"] for verdict in entry["verdicts"]] == [9]
    assert entry["measurement"]["count"]["total"] == 5


@needs("pytest_rerunfailures")
@pytest.mark.parametrize("counts", [(1000, 50), (50, 60)], ids=["over-at-first", "always-within"])
def test_tries_with_different_counts_are_an_error(
    project: Any, mode: tuple[str, ...], counts: tuple[int, int]
) -> None:
    project.test(f"""
        import pathlib, pytest
        from pytest_flops import FLOPsCount
        @pytest.mark.flops_budget(total=100)
        def test_flaky(flops):
            tried = pathlib.Path("tried")
            first = not tried.exists()
            tried.touch()
            flops.check(FLOPsCount({counts[0]} if first else {counts[1]}))
            assert not first
    """)
    result = project.run("--reruns", "1", *mode)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    assert project.report()["passed"] is False
    told = ", ".join(f"{count:,} FLOP (meter, executed)" for count in sorted(counts, key=str))
    result.stdout.fnmatch_lines([f"*measured more than once with different results: {told}*"])


@needs("pytest_rerunfailures")
def test_a_try_that_breaks_before_it_counts_says_nothing_of_the_next(project: Any) -> None:
    project.test("""
        import pathlib, pytest, torch
        @pytest.mark.flops_budget(total=9)
        def test_flaky():
            torch.ones(5) + 1
            if not pathlib.Path("tried").exists():
                pathlib.Path("tried").touch()
                torch.ones(3) + 1
                raise OSError("no network")
    """)
    result = project.run("--reruns", "1")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert project.report()["passed"] is True


@needs("pytest_rerunfailures")
def test_a_test_that_stays_over_its_budget_is_red_after_all_tries(project: Any) -> None:
    project.test(COUNTED)
    result = project.run("--reruns", "2")
    result.assert_outcomes(passed=1, failed=1)
    assert project.report()["passed"] is False


def test_subtests_are_metered_with_their_test(project: Any) -> None:
    project.test("""
        import pytest
        from pytest_flops import FLOPsCount
        @pytest.mark.flops_budget(total=9)
        def test_it(flops, subtests):
            for number in (3, 8, 5):
                with subtests.test(number=number):
                    flops.check(FLOPsCount(number))
        @pytest.mark.flops_budget(total=7)
        def test_over(flops, subtests):
            for number in (3, 8, 5):
                with subtests.test(number=number):
                    flops.check(FLOPsCount(number))
    """)
    result = project.run()
    assert result.ret == 1
    entries = project.report()["entries"]
    counts = [(entry["measurement"]["count"]["total"], entry["passed"]) for entry in entries]
    assert counts == [(3, True), (8, True), (5, True), (3, True), (8, False), (5, True)]


def test_unittest_classes_are_metered(project: Any, mode: tuple[str, ...]) -> None:
    project.test("""
        import unittest, pytest, torch
        @pytest.mark.flops_budget(forward=6)
        class TestModel(unittest.TestCase):
            def test_fits(self): torch.ones(6) + 1
            def test_over(self): torch.ones(7) + 1
            def test_nothing(self): pass
            @unittest.skip("not here")
            def test_skipped(self): pass
    """)
    result = project.run(*mode)
    result.assert_outcomes(passed=1, failed=2, skipped=1)
    counts = {
        entry["subject"].rpartition("::")[2]: entry["measurement"]["count"]["forward"]
        for entry in project.report()["entries"]
    }
    assert counts == {"test_fits": 6, "test_over": 7, "test_nothing": 0}


def test_doctests_and_tests_of_other_kinds_are_left_alone(project: Any) -> None:
    project.write("module.py", '"""\n>>> 1 + 1\n2\n"""\n')
    result = project.run("--doctest-modules", "module.py")
    result.assert_outcomes(passed=1)
    assert "FLOPs" not in result.stdout.str()
