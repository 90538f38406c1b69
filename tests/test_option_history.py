"""`--flops-history`: past reports, drawn into the page."""

from __future__ import annotations

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


def test_a_folder_that_is_not_there_is_a_usage_error(project: Any, mode: tuple[str, ...]) -> None:
    project.counted("total=1000")
    project.refuses("--flops-history", "gone", *mode, told=["ERROR:*gone*"])


def test_a_broken_report_in_it_is_a_usage_error(project: Any) -> None:
    project.write("past/one.json", '{"format": "pytest-flops report", ')
    project.counted("total=1000")
    project.refuses("--flops-history", "past", told=["ERROR:*past/one.json:1:*not complete JSON*"])


def test_the_ini_twin(project: Any) -> None:
    project.ini("flops_history = gone")
    project.counted("total=1000")
    assert project.run().ret == pytest.ExitCode.USAGE_ERROR
