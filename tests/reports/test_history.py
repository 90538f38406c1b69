"""Past reports of a folder."""

from __future__ import annotations

import pytest

from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import load_history, to_json


def test_reports_of_a_folder_come_oldest_first(make, tmp_path):
    days = {"z.json": "2026-11-01", "deep/a.json": "2026-11-03", "b.json": "2026-11-02"}
    (tmp_path / "deep").mkdir()
    for name, day in days.items():
        (tmp_path / name).write_text(to_json(make.report(environment={"time": day})))
    found = load_history(tmp_path)
    assert [report.environment["time"] for report in found] == sorted(days.values())


def test_an_empty_folder_is_an_empty_history(tmp_path):
    assert load_history(tmp_path) == ()


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="is no folder"):
        load_history(tmp_path / "none")


def test_a_file_that_is_no_report_is_named(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ReportError, match=r"other\.json is not a report"):
        load_history(tmp_path)
