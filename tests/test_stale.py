"""Budgets that nothing measured: told when the whole suite ran, and only then."""

from __future__ import annotations

from typing import Any

import pytest

BUDGETS = """\
version: 1
budgets:
  step: {limits: {total: 100 FLOP}}
"""
NAMED = "@pytest.mark.flops_budget('step')\n"
SUITE = f"""\
import pytest
from pytest_flops import FLOPsCount
def test_plain(): pass
{NAMED}def test_step(flops): flops.check(FLOPsCount(10))
"""
UNNAMED = SUITE.replace(NAMED, "@pytest.mark.flops_budget(total=100)\n")


def fate(project: Any) -> str:
    (known,) = project.report()["budgets_known"]
    found: str = known["fate"]
    return found


@pytest.fixture
def suite(project: Any) -> Any:
    project.budgets(BUDGETS)
    project.test(SUITE)
    return project


def test_a_measured_budget_is_not_stale(suite: Any, mode: tuple[str, ...]) -> None:
    assert suite.run(*mode).ret == 0
    assert fate(suite) == "measured"


@pytest.mark.parametrize(
    "part",
    [
        ("-k", "plain"),
        ("-m", "not flops_budget"),
        ("--deselect", "test_model.py::test_step"),
        ("test_model.py::test_plain",),
        ("test_model.py",),
        ("--ignore", "test_other.py"),
        ("--ignore-glob", "*other*"),
        ("--last-failed",),
        ("--stepwise",),
    ],
    ids=lambda part: part[0],
)
def test_part_of_a_suite_says_nothing_about_stale_budgets(
    suite: Any, part: tuple[str, ...]
) -> None:
    suite.test(UNNAMED)
    suite.test("def test_fails(): raise OSError\n", path="test_other.py")
    suite.run("--flops-report=")
    result = suite.run(*part)
    assert "is named by no test" not in result.stdout.str()


@pytest.mark.parametrize(
    ("ini", "arguments", "narrowed_by"),
    [
        ("", ("-k", "step"), "-k"),
        ("", ("test_model.py",), "test_model.py"),
        ("testpaths = . unit", ("unit", "test_model.py"), "unit test_model.py"),
        ("addopts = -m 'not slow'", ("-m", "not fast"), "-m"),
        ("addopts = --stepwise", (), "--stepwise"),  # what it leaves out differs from run to run
    ],
    ids=["option", "file", "less-than-testpaths", "option-beside-addopts", "stepwise-of-the-ini"],
)
def test_a_part_of_a_suite_says_that_stale_budgets_were_not_judged(
    suite: Any, ini: str, arguments: tuple[str, ...], narrowed_by: str
) -> None:
    suite.test(UNNAMED)
    suite.write("unit/test_unit.py", "")
    suite.ini(f"{ini}\nmarkers =\n    slow\n    fast")
    result = suite.run(*arguments)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [f"not judged: budgets that no test measured, since {narrowed_by} narrows the run"]
    )
    suite.test(SUITE)  # and not where every budget was measured
    assert "not judged" not in suite.run("test_model.py").stdout.str()


def test_a_run_from_a_folder_of_the_project_is_part_of_its_suite(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.ini("")
    suite.test(UNNAMED.replace("test_step", "test_unit"), path="unit/test_unit.py")
    monkeypatch.chdir(suite.root / "unit")
    result = suite.run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["not judged: *, since the folder unit narrows the run"])


@pytest.mark.parametrize(
    ("ini", "arguments"),
    [
        ("addopts = -m 'not slow'\nmarkers = slow", ()),
        ("addopts = --ignore=legacy --ignore-glob=*old*", ()),
        ("addopts = -k 'not nightly'", ()),
        ("addopts = --deselect=test_model.py::test_plain", ()),
        ("addopts = test_model.py budgets", ()),
        ("", (".",)),
        ("", ("../{root}",)),
        ("testpaths = test_model.py budgets", ("budgets", "test_model.py")),
        ("testpaths = test_*.py", (".",)),
        ("testpaths = gone", (".",)),
        ("addopts = -m 'not slow'\nmarkers = slow", ("-m", "")),
    ],
    ids=[
        "addopts-mark",
        "addopts-ignore",
        "addopts-keyword",
        "addopts-deselect",
        "addopts-paths",
        "rootdir",
        "rootdir-by-its-parent",
        "every-testpath",
        "above-the-testpaths",
        "testpaths-that-are-gone",
        "empty-option",
    ],
)
def test_what_every_run_leaves_out_is_no_narrowing(
    suite: Any, ini: str, arguments: tuple[str, ...]
) -> None:
    suite.test(UNNAMED)
    suite.ini(ini)
    result = suite.run(*(each.format(root=suite.root.name) for each in arguments))
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["error: budgets/model.yaml:3:3: the budget 'step' is named by no*"]
    )
    assert "not judged" not in result.stdout.str()


def test_what_the_environment_leaves_out_of_every_run_is_no_narrowing(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.test(UNNAMED)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k 'not nightly'")
    suite.fails(told=["error: *the budget 'step' is named by no test*"], failed=0, passed=2)


LEFT_OUT = "@pytest.mark.slow\n" + NAMED
BESIDE = "@pytest.mark.flops_budget(total=9)\ndef test_more(flops): flops.check(FLOPsCount(1))\n"


@pytest.mark.parametrize(
    "addopts",
    ["-m 'not slow'", "-k 'not test_step'", "--deselect=test_model.py::test_step"],
    ids=["mark", "keyword", "deselect"],
)
def test_a_budget_whose_only_test_the_ini_file_leaves_out_is_red(
    suite: Any, addopts: str, mode: tuple[str, ...]
) -> None:
    suite.test(SUITE.replace(NAMED, LEFT_OUT) + BESIDE)
    suite.ini(f"addopts = {addopts}\nmarkers = slow")
    result = suite.run(*mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: *'step' was not measured: every test*was deselected*"])
    assert fate(suite) == "deselected"
    assert suite.report()["passed"] is False


def test_a_shard_whose_ini_file_leaves_tests_out_too_leaves_the_others_to_the_merge(
    suite: Any,
) -> None:
    suite.test(SUITE + BESIDE)
    suite.ini("addopts = -m 'not slow'\nmarkers = slow")
    suite.write(
        "conftest.py",
        """
        def pytest_collection_modifyitems(config, items):
            others = [item for item in items if item.name == "test_step"]
            items[:] = [item for item in items if item not in others]
            config.hook.pytest_deselected(items=others)
    """,
    )
    assert suite.run().ret == 0
    assert fate(suite) == "elsewhere"


def test_a_whole_update_keeps_the_record_of_a_test_that_the_ini_file_leaves_out(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test(OWN)
    assert project.run("--flops-update").ret == 0
    project.test(
        OWN.replace(
            "@pytest.mark.flops_budget\ndef",
            "@pytest.mark.slow\n" + "@pytest.mark.flops_budget\ndef",
        )
    )
    project.ini("addopts = -m 'not slow' --ignore=legacy\nmarkers = slow")
    result = project.run("--flops-update", *mode)
    assert result.ret == 0
    assert project.recorded("test_kept", LOCK) == {"forward": 1}
    project.test(OWN.replace("test_kept", "test_renamed"))
    assert "stale in" in project.run(*mode).stdout.str()


def test_a_budget_whose_only_test_is_deselected_is_told_as_that(suite: Any) -> None:
    suite.test(
        SUITE + "@pytest.mark.flops_budget(total=9)\ndef test_plain_too(flops): "
        "flops.check(FLOPsCount(1))\n"
    )
    assert suite.run("-k", "plain").ret == 0
    assert fate(suite) == "deselected"


@pytest.mark.parametrize(
    "skipping",
    ["pytest.mark.skip(reason='later')", "pytest.mark.xfail(run=False, reason='later')"],
    ids=["skip", "xfail-not-run"],
)
def test_a_budget_whose_only_test_does_not_run_is_not_stale(
    suite: Any, mode: tuple[str, ...], skipping: str
) -> None:
    other = "@pytest.mark.flops_budget(total=9)\ndef test_more(flops): flops.check(FLOPsCount(1))\n"
    suite.test(SUITE.replace(NAMED, f"{NAMED}@{skipping}\n") + other)
    assert suite.run(*mode).ret == 0
    assert fate(suite) == "skipped"


def test_a_test_that_is_expected_to_be_over_xfails_and_its_report_says_so(
    suite: Any, mode: tuple[str, ...]
) -> None:
    suite.budgets(BUDGETS.replace("100 FLOP", "9 FLOP"))
    suite.test(SUITE.replace(NAMED, f"{NAMED}@pytest.mark.xfail(reason='known')\n"))
    result = suite.run(*mode)
    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == 0
    report = suite.report()
    assert report["passed"] is True
    (verdict,) = report["entries"][0]["verdicts"]
    assert verdict["message"] == "over, as expected (xfail: known)"


def test_a_strict_xfail_that_holds_after_all_is_red(suite: Any) -> None:
    suite.test(SUITE.replace(NAMED, f"{NAMED}@pytest.mark.xfail(strict=True)\n"))
    result = suite.run()
    result.assert_outcomes(passed=1, failed=1)
    assert suite.report()["passed"] is False


def test_a_budget_whose_test_cannot_be_collected_is_not_called_stale(suite: Any) -> None:
    suite.test("raise OSError('broken module')\n")
    result = suite.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "is named by no test" not in result.stdout.str()


OWN = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget
def test_kept(flops): flops.check(FLOPsCount(1))
@pytest.mark.flops_budget
@pytest.mark.parametrize('n', [1, 2])
def test_dropped(flops, n): flops.check(FLOPsCount(n))
"""
LESS = OWN.replace("[1, 2]", "[1]")
LOCK = "test_model.lock.json"


@pytest.fixture
def recorded(suite: Any) -> Any:
    """A recorded suite that has lost a test and a budget since, and all tests of one file."""
    suite.budgets(BUDGETS + "  gone: {limits: {total: 9}}\n")
    suite.test(f"{SUITE}{OWN}{NAMED.replace('step', 'gone')}"
               "def test_gone(flops): flops.check(FLOPsCount(5))\n")  # fmt: skip
    suite.test(OWN, path="test_other.py")
    assert suite.run("--flops-update").ret == 0
    suite.budgets(BUDGETS)
    suite.test(SUITE + LESS)
    (suite.root / "test_other.py").unlink()
    return suite


def test_records_without_a_test_or_budget_are_told_and_dropped_by_a_whole_update(
    recorded: Any, mode: tuple[str, ...]
) -> None:
    stale = {
        LOCK: "test_dropped[[]2]",
        "test_other.lock.json": "test_dropped[[]1], test_dropped[[]2], test_kept",
        "budgets/model.lock.json": "gone",
    }
    result = recorded.run(*mode)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"stale in {lock}*: {names} (*" for lock, names in stale.items()])
    result = recorded.run("--flops-update", *mode)
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(
        [f"dropped from {lock}*: {names}" for lock, names in stale.items()]
    )
    assert "gone" not in (recorded.root / "budgets/model.lock.json").read_text()
    assert "test_dropped[2]" not in (recorded.root / LOCK).read_text()
    assert recorded.recorded("test_dropped[1]", LOCK) == {"forward": 1}
    assert not (recorded.root / "test_other.lock.json").exists()
    assert "stale" not in recorded.run(*mode).stdout.str()


@pytest.mark.parametrize("part", [("test_model.py",), ("-k", "kept")], ids=["file", "keyword"])
def test_part_of_a_suite_drops_no_record(recorded: Any, part: tuple[str, ...]) -> None:
    before = {path: path.read_text() for path in recorded.root.rglob("*.lock.json")}
    result = recorded.run("--flops-update", *part)
    assert result.ret == 0
    assert "dropped from" not in result.stdout.str()
    assert before == {path: path.read_text() for path in recorded.root.rglob("*.lock.json")}


def test_a_file_that_could_not_be_collected_keeps_its_records(recorded: Any) -> None:
    recorded.test("import pytest\npytest.importorskip('a_gpu_library')\n", path="test_other.py")
    assert "stale in test_other" not in recorded.run().stdout.str()
    assert recorded.run("--flops-update").ret == 0
    assert (recorded.root / "test_other.lock.json").exists()


def test_a_skipped_test_keeps_its_record(recorded: Any) -> None:
    recorded.test(SUITE + OWN.replace("def test_kept", "@pytest.mark.skip\ndef test_kept"))
    assert recorded.run("--flops-update").ret == 0
    assert recorded.recorded("test_kept", LOCK) == {"forward": 1}


def test_a_second_count_that_a_test_no_longer_makes_is_stale(project: Any) -> None:
    project.test(f"{OWN.rstrip()}; flops.check(FLOPsCount(n + 10))\n")
    project.run("--flops-update")
    project.test(OWN)
    result = project.run()
    assert result.ret == 0
    names = [f"test_dropped[[]{n}] (count 2)" for n in (1, 2)]
    result.stdout.fnmatch_lines([f"stale in {LOCK}*: {', '.join(names)} (*"])
    project.run("--flops-update")
    assert "(count 2)" not in (project.root / LOCK).read_text()


def test_a_file_of_another_tool_beside_the_tests_is_left_alone(recorded: Any) -> None:
    recorded.write("poetry.lock.json", '{"packages": {}}')
    result = recorded.run("--flops-update")
    assert result.ret == 0
    assert "poetry" not in result.stdout.str()
    assert (recorded.root / "poetry.lock.json").exists()
