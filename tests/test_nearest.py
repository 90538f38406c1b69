"""Which budget a test means by a name: the nearest, whatever else was collected."""

from __future__ import annotations

from typing import Any

import pytest

TEST = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget({name!r})
def test_step(flops): flops.check(FLOPsCount({count}))
"""


def write_test(project: Any, path: str, count: int, name: str = "base") -> None:
    project.test(TEST.format(name=name, count=count), path=path)


@pytest.fixture
def packages(project: Any) -> Any:
    """Two packages, each of which has a budget of the same name, and a test below."""
    project.ini("")
    for package, limit in (("a", 100), ("b", 900)):
        project.budget("base", f"limits: {{total: {limit}}}", path=f"{package}/budgets/net.yaml")
        write_test(project, f"{package}/tests/test_{package}.py", limit)
    return project


@pytest.mark.parametrize(
    ("start", "part"),
    [
        ("", ()),
        ("", ("a",)),
        ("", ("a/tests/test_a.py",)),
        ("", ("a/tests", "a/budgets")),
        ("", ("b/tests", "a/tests")),
        ("a", ()),
        ("a/tests", ("test_a.py::test_step",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "all",
)
def test_a_name_means_the_same_budget_in_every_run(
    packages: Any,
    mode: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    start: str,
    part: tuple[str, ...],
) -> None:
    monkeypatch.chdir(packages.root / start)
    assert packages.run(*part, *mode).ret == 0
    assert "a/budgets/net.yaml:3:3" in {each["location"] for each in packages.report()["entries"]}
    write_test(packages, "a/tests/test_a.py", 101)
    assert packages.run(*part, *mode).ret == 1


def test_a_nearer_budget_hides_one_of_the_rootdir(packages: Any) -> None:
    packages.budget("base", "limits: {total: 1}")
    assert packages.run("a", "b").ret == 0
    packages.budget("base", "limits: {total: 99}", path="a/tests/budgets/nearer.yml")
    packages.fails("a", "b", passed=1, told=["*limit 99 *", "*, a/tests/budgets/nearer.yml:4:21"])


def test_the_rootdir_has_the_budgets_that_no_nearer_folder_has(packages: Any) -> None:
    packages.budget("common", "limits: {total: 10}")
    write_test(packages, "a/tests/test_a.py", 11, name="common")
    packages.fails("a/tests", told=["*'common'*budgets/model.yaml:3:3*"])


def test_a_name_of_two_files_of_the_nearest_folder_is_an_error(packages: Any) -> None:
    packages.budget("base", "limits: {total: 1}")
    packages.budget("base", "limits: {total: 1}", path="a/budgets/deep/er.yaml")
    places = "a/budgets/deep/er.yaml:3:3, a/budgets/net.yaml:3:3"
    packages.refuses("a", told=[f"*several files have a budget named 'base': {places}"])


@pytest.mark.parametrize("part", [(), ("c/test_c.py",), ("c", "a/budgets")], ids=len)
def test_a_name_that_no_nearer_folder_has_is_an_error_that_lists_them(
    packages: Any, part: tuple[str, ...]
) -> None:
    write_test(packages, "c/test_c.py", 1)
    looked = "c/budgets, budgets"
    wrong = "c/test_c.py:3: test_step: *no budget is named 'base'"
    packages.refuses(*part, told=[f"*{wrong}; no budgets were found in {looked}"])
    packages.budget("baes", "limits: {total: 1}")
    packages.refuses(*part, told=[f"*{wrong}; did you mean 'baes'? (looked in {looked})"])
    packages.budget("other", "limits: {total: 1}")
    packages.refuses(*part, told=[f"*{wrong}; known in {looked}: other"])


@pytest.mark.posix("links without a right to them")
def test_a_folder_of_budgets_may_be_a_link_and_hold_links(packages: Any) -> None:
    packages.budget("shared", "limits: {total: 9}", path="common/deep/net.yaml")
    (packages.root / "a/tests/budgets").symlink_to("../../common")
    (packages.root / "b/budgets/more").symlink_to("../../common/deep")
    write_test(packages, "a/tests/test_a.py", 10, name="shared")
    write_test(packages, "b/tests/test_b.py", 10, name="shared")
    told = ["*, a/tests/budgets/deep/net.yaml:4:21", "*, b/budgets/more/net.yaml:4:21"]
    packages.fails("a/tests", "b/tests", failed=2, told=told)


def test_a_whole_run_knows_the_budgets_of_all_its_tests_folders(
    packages: Any, mode: tuple[str, ...]
) -> None:
    packages.ini("testpaths = a/tests b/tests")
    packages.budget("stale", "limits: {total: 1}", path="a/budgets/stale.yaml")
    packages.budget("stale", "limits: {total: 1}", path="b/tests/budgets/stale.yml")
    packages.test("def test_plain(): pass\n", path="b/tests/test_b.py")
    assert packages.run(*mode).ret == 1
    report = packages.report()
    fates = {each["location"].partition(":")[0]: each["fate"] for each in report["budgets_known"]}
    assert fates == {
        "a/budgets/net.yaml": "measured",
        "a/budgets/stale.yaml": "unnamed",
        "b/budgets/net.yaml": "unnamed",
        "b/tests/budgets/stale.yml": "unnamed",
    }
    unnamed = {error["location"].partition(":")[0] for error in report["errors"]}
    assert unnamed == {file for file, fate in fates.items() if fate == "unnamed"}


def test_what_the_ini_file_names_is_looked_for_in_the_same_folders(packages: Any) -> None:
    packages.ini("flops_budgets = gates more.yaml")
    packages.budget("base", "limits: {total: 1}", path="more.yaml")
    packages.budget("base", "limits: {total: 2}", path="gates/net.yaml")
    packages.budget("base", "limits: {total: 99}", path="a/gates/net.yaml")
    packages.fails("a", told=["*limit 99 *", "*, a/gates/net.yaml:4:21"])
    packages.refuses("b", told=["*several files*gates/net.yaml:3:3, more.yaml:3:3"])


def test_a_broken_file_that_only_a_worker_met_keeps_its_records(
    packages: Any, mode: tuple[str, ...]
) -> None:
    assert packages.run("--flops-update").ret == 0
    before = {path: path.read_text() for path in packages.root.rglob("*.lock.json")}
    assert len(before) == 2
    packages.write("a/budgets/net.yaml", "version: 1\nbudgets: [\n")
    (packages.root / "a/tests/test_a.py").unlink()
    packages.refuses("--flops-update", *mode, told=["ERROR: a/budgets/net.yaml:3:1: *"])
    assert before == {path: path.read_text() for path in packages.root.rglob("*.lock.json")}
