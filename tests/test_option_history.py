"""`--flops-history`: past reports, drawn into the page, and kept by whole runs."""

from __future__ import annotations

import os
from typing import Any

import pytest


def test_past_reports_are_drawn_into_the_page(project: Any, mode: tuple[str, ...]) -> None:
    for number in (100, 105):
        project.counted("total=1000", f"{number}, 200, 30")
        project.run("--flops-report", f"past/{number}")
        (project.root / f"past/{number}/flops.json").rename(project.root / f"past/{number}.json")
    project.run("--flops-report", "plain")
    result = project.run("--flops-history", "past", *mode)
    assert result.ret == 0
    page = (project.root / "reports/flops.html").read_text()
    without = (project.root / "plain/flops.html").read_text()
    assert page.count("<svg") > without.count("<svg")


def test_a_whole_run_joins_the_history_and_the_next_shows_it(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.counted("total=1000", "100, 200, 30")
    result = project.run("--flops-history=past", *mode)
    (kept,) = kept_in(project)
    result.stdout.fnmatch_lines([f"history: past/{kept}"])
    report = project.report(f"past/{kept}")
    assert report["environment"] == project.report()["environment"]
    assert report["entries"][0]["measurement"]["count"]["total"] == 330
    assert report["passed"]
    age(project, kept)

    project.counted("total=1000", "105, 200, 30")
    project.run("--flops-history=past", *mode)
    assert len(kept_in(project)) == 2
    page = (project.root / "reports/flops.html").read_text()
    assert "total over 2 reports" in page
    assert "first 330 FLOP, 2026-01-01 00:00; last 335 FLOP, this run" in page


def test_this_run_is_counted_once_when_its_page_is_made_again(project: Any) -> None:
    project.counted("total=1000", "100, 200, 30")
    project.run("--flops-history=past")
    age(project, *kept_in(project))
    project.run("--flops-history=past")
    page = (project.root / "reports/flops.html").read_text()
    from pytest_flops.cli import main

    root = project.root
    arguments = [root / "reports/flops.json", "--history", root / "past", "-o", root / "again.html"]
    assert main(["html", *map(str, arguments)]) == 0
    assert "total over 2 reports" in page
    assert (root / "again.html").read_text() == page


@pytest.mark.parametrize(
    "arguments", [("-k", "step"), ("test_model.py::test_step",)], ids=["narrowed", "asked-for"]
)
def test_a_part_of_the_suite_does_not_join_the_history(
    project: Any, arguments: tuple[str, ...]
) -> None:
    project.counted("total=1000")
    project.run("--flops-history=past", *arguments)
    assert not (project.root / "past").exists()


def test_a_run_that_was_cut_short_does_not_join_the_history(project: Any) -> None:
    project.counted("total=1")
    project.test("def test_other(): pass", "test_other.py")
    assert project.run("--flops-history=past", "-x").ret == 1
    assert not (project.root / "past").exists()


def test_a_red_run_joins_the_history(project: Any) -> None:
    project.counted("total=1")
    assert project.run("--flops-history=past").ret == 1
    assert not project.report(f"past/{kept_in(project)[0]}")["passed"]


def test_a_folder_that_cannot_be_written_is_an_error_of_the_run(project: Any) -> None:
    project.counted("total=1000")
    project.write("past/flops.txt", "")
    project.run("--flops-history=past/flops.txt/deeper").stdout.fnmatch_lines(["*cannot write*"])
    assert not project.report()["passed"]


def test_a_file_in_place_of_the_folder_is_a_usage_error(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.counted("total=1000")
    project.refuses("--flops-history=test_model.py", *mode, told=["ERROR:*is no folder*"])


@pytest.mark.parametrize("folder", ["reports", "./reports/", "past/../reports"])
def test_the_folder_of_the_report_is_a_usage_error(project: Any, folder: str) -> None:
    """The last report would be in the history twice, and its badge would be no report."""
    project.counted("total=1000")
    told = [f"ERROR: --flops-history={folder} is the folder of the report*"]
    project.refuses(f"--flops-history={folder}", told=told)


def test_a_broken_report_in_it_is_a_usage_error(project: Any) -> None:
    project.write("past/one.json", '{"format": "pytest-flops report", ')
    project.counted("total=1000")
    project.refuses("--flops-history", "past", told=["ERROR:*past/one.json:1:*not complete JSON*"])


@pytest.mark.posix("named pipes")
def test_a_pipe_in_it_is_left_out_and_told(project: Any, mode: tuple[str, ...]) -> None:
    project.counted("total=1000")
    (project.root / "past").mkdir()
    os.mkfifo(project.root / "past/pipe.json")  # reading it would wait for somebody to write
    result = project.run("--flops-history=past", *mode)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["left out of the history: *pipe.json is no file."])
    assert len(kept_in(project)) == 2


def test_the_ini_twin(project: Any) -> None:
    project.ini("flops_history = past")
    project.counted("total=1000")
    project.run()
    assert len(kept_in(project)) == 1


def kept_in(project: Any) -> list[str]:
    return sorted(file.name for file in (project.root / "past").iterdir())


def age(project: Any, *kept: str) -> None:
    """Put a kept report into the past; a run takes less than the second in its name."""
    for name in kept:
        file = project.root / "past" / name
        time = project.report(f"past/{name}")["environment"]["time"]
        file.write_text(file.read_text().replace(time, "2026-01-01T00:00:00+00:00"))
        file.rename(file.with_name("flops-2026-01-01T00-00-00.json"))
