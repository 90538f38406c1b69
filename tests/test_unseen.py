"""Nothing leaves the comparison with the base unseen: every collected marked test has its fate."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pytest_flops import cli

HEAD = """\
import pytest
from pytest_flops import FLOPsCount
"""
NAMED = """\
version: 1
budgets:
  b: {limits: {total: 1 MFLOP}}
"""


def inline(**tests: int) -> str:
    """A file of tests by their names, each with a budget of its own and the forward FLOPs given."""
    return HEAD + "".join(
        "@pytest.mark.flops_budget(total='1 MFLOP')\n"
        f"def {name}(flops): flops.check(FLOPsCount({count}))\n"
        for name, count in tests.items()
    )


SWALLOWED = f"""{HEAD}
@pytest.mark.flops_budget(total='1 FLOP')
def test_step(flops):
    with pytest.raises(AssertionError):
        flops.check(FLOPsCount(2))
"""


def naming(**tests: int) -> str:
    return inline(**tests).replace("total='1 MFLOP'", "'b'")


def compared(project: Any, *options: str) -> Any:
    return project.run("--flops-compare", "base/flops.json", *options)


@pytest.fixture
def based(project: Any) -> Any:
    """Two inline budgets of 100 and 200 FLOP, and the report of their run."""
    project.test(inline(test_step=100, test_other=200))
    assert project.run("--flops-report", "base").ret == 0
    return project


def fates(project: Any) -> dict[str, tuple[str, str]]:
    return {
        test["test"].partition("::")[2]: (test["fate"], test["reason"])
        for test in project.report()["tests"]
    }


BODY = "def test_step(flops): flops.check(FLOPsCount(100))"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("def test_step", "@pytest.mark.skip(reason='no gpu')\ndef test_step"), "no gpu"),
        ((BODY, "def test_step(flops): pytest.skip('no gpu')"), "no gpu"),
        (("def test_step", "@pytest.mark.xfail(run=False)\ndef test_step"), "xfail: [NOTRUN] "),
        ((BODY, "def test_step(flops): pytest.xfail('known')"), "xfail: known"),
    ],
    ids=["skip-mark", "skip-in-the-body", "xfail-not-run", "xfail-in-the-body"],
)
def test_a_test_that_is_skipped_since_the_base_is_red_with_its_reason(
    based: Any, change: tuple[str, str], reason: str, mode: tuple[str, ...]
) -> None:
    based.test(inline(test_step=100, test_other=200).replace(*change))
    result = compared(based, *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["error: *test_step' was measured in the base and is not any more", "not measured: *"]
    )
    assert fates(based) == {"test_step": ("skipped", reason), "test_other": ("measured", "")}
    assert based.run(*mode).ret == 0  # without a base, a skipped test is only told


def test_a_file_that_is_skipped_whole_since_the_base_is_red(
    based: Any, mode: tuple[str, ...]
) -> None:
    based.test(inline(test_more=1), "test_more.py")
    based.test("import pytest\npytest.importorskip('nothere')\n" + inline(test_step=100))
    result = compared(based, *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: *test_step' was measured in the base*"])
    assert fates(based)["test_step"][0] == "skipped"
    assert "nothere" in fates(based)["test_step"][1]


def test_what_the_user_leaves_out_is_no_regression_and_counted(based: Any) -> None:
    based.test(inline(test_new=3), "test_new.py")
    result = compared(based, "-k", "not test_step")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["not measured: 1 deselected"])
    assert compared(based, "test_model.py::test_other").ret == 0
    assert fates(based)["test_step"] == ("deselected", "not asked for")
    assert compared(based, "test_new.py").ret == 0  # all the others were not asked for


def test_a_renamed_test_of_equal_cost_is_the_same_test(based: Any) -> None:
    based.test(inline(test_train_step=100, test_other=200))
    assert compared(based).ret == 0


@pytest.mark.parametrize("new", ["test_train_step", "test_step_of_training"])
def test_a_test_that_is_renamed_and_dearer_is_red(
    based: Any, new: str, mode: tuple[str, ...]
) -> None:
    based.test(inline(**{new: 100_000, "test_other": 200}))
    result = compared(based, *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [f"error: *{new}' is new while this is gone: *test_step.*--flops-update*"]
    )


def test_a_test_that_is_renamed_and_recorded_is_green_since_the_diff_shows_it(based: Any) -> None:
    based.test(inline(test_train_step=100_000, test_other=200))
    assert based.run("--flops-update").ret == 0
    assert compared(based).ret == 0


def test_a_file_that_moves_takes_its_tests_along(based: Any) -> None:
    (based.root / "test_model.py").unlink()
    based.test(inline(test_step=100, test_other=201), "tests/unit/test_model.py")
    result = compared(based)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: *test_other' costs more than its base: total from 200*"])
    based.test(inline(test_step=100, test_other=200), "tests/unit/test_model.py")
    assert compared(based).ret == 0


def test_two_tests_of_one_budget_renamed_together_are_not_compared_crosswise(project: Any) -> None:
    project.budgets(NAMED)
    project.test(naming(test_a=100, test_b=1000))
    assert project.run("--flops-report", "base").ret == 0
    project.test(naming(test_a2=900, test_b2=1000))
    result = compared(project)
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*fell*")
    result.stdout.fnmatch_lines(["error: *'b' is new while this is gone: b.*"])
    project.test(naming(test_a2=100, test_b2=1000))
    assert compared(project).ret == 0


WORKLOAD = """\
version: 1
budgets:
  net: {workload: {model: 'builders:b', config: {n: 8}, batch_size: 4}, limits: {total: 1 MFLOP}}
"""
BUILDERS = """\
import torch
WIDTH = 8
def b(n, batch_size): return torch.nn.Linear(WIDTH, n), torch.ones(batch_size, WIDTH)
"""


@pytest.fixture
def workload(project: Any) -> Any:
    project.ini("pythonpath = .")
    project.write("builders.py", BUILDERS)
    project.budgets(WORKLOAD, "budgets/net.yaml")
    assert project.run("budgets", "--flops-report", "base").ret == 0
    return project


@pytest.mark.parametrize("file", ["budgets/net.yaml", "budgets/nets.yaml"])
@pytest.mark.parametrize("name", ["net", "net-large"])
@pytest.mark.parametrize("dearer", ["n: 80", "WIDTH = 80"])
def test_a_budget_of_a_file_that_is_renamed_and_dearer_is_red(
    workload: Any, file: str, name: str, dearer: str
) -> None:
    (workload.root / "budgets/net.yaml").unlink()
    renamed = WORKLOAD.replace("net:", f"{name}:")
    workload.budgets(renamed.replace("n: 8", dearer) if "n:" in dearer else renamed, file)
    workload.write("builders.py", BUILDERS.replace("WIDTH = 8", dearer))
    assert compared(workload, "budgets").ret == 1
    assert cli.main(["compare", *reports(workload)]) == 1


def reports(project: Any) -> list[str]:
    return [str(project.root / folder / "flops.json") for folder in ("base", "reports")]


def test_a_renamed_file_and_budget_of_equal_cost_are_the_same_budget(workload: Any) -> None:
    (workload.root / "budgets/net.yaml").unlink()
    workload.budgets(WORKLOAD.replace("net:", "network:"), "budgets/nets.yaml")
    assert compared(workload, "budgets").ret == 0


def test_only_skipped_tests_are_red_since_nothing_was_measured(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test(
        inline(test_step=1).replace("@pytest", "@pytest.mark.skip(reason='x')\n@pytest", 1)
    )
    result = project.run(*mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["not measured: test_model.py::test_step (x)", "Red: nothing was *"]
    )
    assert project.report()["passed"] is False


@pytest.mark.parametrize("error", ["import nothere", "raise ValueError('x')"])
def test_an_expected_failure_that_broke_before_it_was_judged_is_red(
    project: Any, error: str, mode: tuple[str, ...]
) -> None:
    project.test(
        inline(test_good=1, test_step=2)
        .replace("def test_step(flops):", f"def test_step(flops): {error};")
        .replace("@pytest", "@pytest.mark.xfail(reason='known to be over')\n@pytest")
        .replace("flops.check(FLOPsCount(1))", "flops.check(FLOPsCount(10**6 + 1))")
    )
    result = project.run(*mode)
    result.assert_outcomes(xfailed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*not judged whole, because of *"])
    (red,) = [entry for entry in project.report()["entries"] if not entry["passed"]]
    assert red["subject"].endswith("test_step")


@pytest.mark.parametrize(
    "change",
    [
        ("def test_a(flops)", "@pytest.mark.parametrize('n', [])\ndef test_a(flops, n)"),
        ("def test_a(", "@pytest.mark.skip(reason='later')\ndef test_train("),
    ],
    ids=["parametrised-by-nothing", "renamed-and-skipped"],
)
def test_a_budget_whose_test_has_another_name_and_is_skipped_is_red(
    project: Any, change: tuple[str, str]
) -> None:
    project.budgets(NAMED)
    project.test(naming(test_a=100) + inline(test_other=200).removeprefix(HEAD))
    assert project.run("--flops-report", "base").ret == 0
    test = (project.root / "test_model.py").read_text(encoding="utf-8")
    project.test(test.replace(*change))
    result = compared(project)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: *'b' was measured in the base and is not any more"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "told"),
    [("[8, 16, 32]", True), ("[2, 3, 4, 8, 16, 32, 64, 128]", False)],
    ids=["fewer", "more"],
)
def test_sizes_that_a_sweep_has_no_more_are_told(workload: Any, sizes: str, told: bool) -> None:
    swept = WORKLOAD.replace(
        "MFLOP}}", "MFLOP}, scaling: {n: {sizes: [8, 16, 32, 128], max_exponent: 1}}}"
    )
    workload.budgets(swept, "budgets/net.yaml")
    assert workload.run("budgets", "--flops-report", "base").ret == 0
    workload.budgets(swept.replace("[8, 16, 32, 128]", sizes), "budgets/net.yaml")
    result = compared(workload, "budgets")
    assert result.ret == 0
    words = "    allows more: sizes of n 8, 16, 32, 128 -> 8, 16, 32"
    assert (words in result.outlines) is told


def test_a_limit_or_tolerance_that_was_raised_is_told_as_such(project: Any) -> None:
    project.budgets(NAMED)
    project.test(naming(test_a=100))
    assert project.run("--flops-report", "base").ret == 0
    project.budgets(NAMED.replace("1 MFLOP}", "9 MFLOP}, tolerance: 1000%"))
    project.test(naming(test_a=1000))
    result = compared(project)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "  b: grew, within its tolerance",
            "    allows more: tolerance 0% -> 1000%",
            "    allows more: limit of total 1 MFLOP -> 9 MFLOP",
        ]
    )
    assert "allows more: " in (project.root / "reports/flops.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["run", "text", "markdown", "github"])
def test_a_base_that_other_versions_counted_is_told_first(
    based: Any, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = based.root / "base/flops.json"
    torch = based.report("base/flops.json")["environment"]["torch"]
    report.write_text(report.read_text(encoding="utf-8").replace(torch, "1.0"), encoding="utf-8")
    based.test(inline(test_step=101, test_other=200))
    words = f"the base was counted with torch 1.0, here {torch}: a difference may come from there"
    result = compared(based)
    result.stdout.fnmatch_lines([words, "against the base:"])
    if command != "run":
        capsys.readouterr()
        assert cli.main(["compare", *reports(based), "--format", command]) == 1
        told = capsys.readouterr().out
        assert told.index("counted with torch 1.0") < told.index("test_step")


@pytest.mark.parametrize(
    ("make_red", "words"),
    [
        (lambda p: p.test(inline(test_step=101, test_other=200)), "costs more than its base"),
        (lambda p: p.budgets(NAMED), "'b' is named by no test"),
        (
            lambda p: p.test(inline(test_step=1).replace("@", "@pytest.mark.skip\n@")),
            "nothing was ",
        ),
        (lambda p: p.test(SWALLOWED), "over its limit"),
    ],
    ids=["regression", "stale", "nothing-measured", "a-swallowed-verdict"],
)
def test_what_is_no_tests_fault_is_a_failure_in_the_junit_file(
    based: Any, make_red: Any, words: str, mode: tuple[str, ...]
) -> None:
    make_red(based)
    against = ("--flops-compare", "base/flops.json") if "base" in words else ()
    assert based.run("--junit-xml=junit.xml", *against, *mode).ret == 1
    suite = ET.parse(based.root / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    cases = [c for c in suite.iter("testcase") if c.get("classname") == "flops budgets"]
    failures = [failure.text or "" for case in cases for failure in case.iter("failure")]
    assert any(words in text for text in failures)
    assert int(suite.get("failures") or 0) == len(failures)


def test_what_the_base_could_not_count_is_told_as_such(project: Any) -> None:
    project.test(inline(test_step=100, test_other=200).replace("def test_step(flops):", BROKEN))
    assert project.run("--flops-report", "base").ret == 1
    project.test(inline(test_step=100_000, test_other=200))
    result = compared(project)
    assert result.ret == 0  # a pull request that repairs the base
    words = "  *test_step: new, and held against nothing: in the base its test was failed"
    result.stdout.fnmatch_lines([words])


BROKEN = "def test_step(flops):\n    import nothere\ndef helper(flops):"


def test_a_base_that_measured_nothing_is_no_base(project: Any) -> None:
    project.test(inline(test_step=1).replace("@pytest", "@pytest.mark.skip\n@pytest"))
    assert project.run("--flops-report", "base").ret == 1
    project.test(inline(test_step=1))
    result = compared(project)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*is no base to compare with: it measured nothing*"])


def test_a_base_that_the_run_would_overwrite_is_refused(based: Any) -> None:
    assert based.run().ret == 0
    result = based.run("--flops-compare=reports/flops.json")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*is the report that this run writes*"])
    assert based.run("--flops-compare=reports/flops.json", "--flops-report=other").ret == 0


@pytest.mark.parametrize("name", ["compare", "tolerance", "history", "budgets"])
def test_an_option_with_an_empty_value_is_refused(project: Any, name: str) -> None:
    project.test("def test_nothing(): pass")
    result = project.run(f"--flops-{name}=")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--flops-{name} has an empty value: is a variable unset?*"])


UNMARKED = """\
import pytest, torch
def test_step(flops):
    with flops.measure(forward="1 kFLOP"): torch.ones(4) + 1
"""


@pytest.mark.parametrize(
    "change",
    [
        ("def test", "@pytest.mark.skip(reason='later')\ndef test"),
        ('with flops.measure(forward="1 kFLOP"): ', ""),
    ],
    ids=["skipped", "measures-no-more"],
)
def test_an_unmarked_test_with_limits_in_its_call_is_not_lost(
    project: Any, change: tuple[str, str], mode: tuple[str, ...]
) -> None:
    project.test(UNMARKED)
    project.test(inline(test_other=1), "test_other.py")
    assert project.run("--flops-report", "base").ret == 0
    project.test(UNMARKED.replace(*change))
    result = compared(project, *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: *test_step' was measured in the base and is not any more"])


def test_a_workload_whose_forward_computes_nothing_is_an_error(project: Any) -> None:
    project.ini("pythonpath = .")
    project.write("builders.py", BUILDERS.replace("torch.ones(batch_size,", "torch.ones(0,"))
    project.budgets(WORKLOAD, "budgets/net.yaml")
    project.fails("budgets", told=["*computes nothing (0 FLOP): are the inputs empty?*"])


def test_a_recorded_file_that_is_skipped_whole_is_told(project: Any) -> None:
    project.budgets(NAMED)
    project.test(naming(test_b=1), "test_named.py")
    project.test(inline(test_step=100))
    assert project.run("--flops-update").ret == 0
    project.test("import pytest\npytest.importorskip('nothere')\n" + inline(test_step=900))
    result = project.run()
    result.stdout.fnmatch_lines(["test_model.py was skipped whole, so its records hold nothing: *"])


def test_an_unmarked_test_needs_no_record_beside_a_base(project: Any) -> None:
    project.test(UNMARKED)
    assert project.run("--flops-report", "base").ret == 0
    assert compared(project, "--flops-require-recorded", "test_model.py").ret == 0
    assert project.report()["tests"] == []
