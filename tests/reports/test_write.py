"""The files of a report, whole or not at all."""

from __future__ import annotations

import os

import pytest

from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.read import load_report
from pytest_flops.reports.write import write_reports


def test_json_html_and_markdown_are_written_into_a_new_directory(make, tmp_path):
    paths = write_reports(make.report(), tmp_path / "new" / "reports")
    assert [path.name for path in paths] == ["flops.json", "flops.html", "flops.md"]
    assert load_report(paths[0]) == make.report()
    assert paths[1].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert paths[2].read_text(encoding="utf-8").startswith("## ✅ Green")
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(
        path.name for path in paths
    )


def test_older_files_are_replaced(make, tmp_path):
    write_reports(make.report(), tmp_path)
    write_reports(make.report(make.red_entry()), tmp_path)
    assert not load_report(tmp_path / "flops.json").passed


def test_names_that_are_no_valid_unicode_are_written_escaped(make, tmp_path):
    write_reports(make.report(make.entry("caf\udce9")), tmp_path)
    assert "caf\\udce9" in (tmp_path / "flops.html").read_text(encoding="utf-8")


def test_a_full_disk_leaves_the_older_files_as_they_were(make, tmp_path, monkeypatch):
    write_reports(make.report(), tmp_path)
    older = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match=r"cannot write .*flops\.json: No space left on device"):
        write_reports(make.report(make.red_entry()), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == older


def test_an_interrupt_leaves_the_older_files_and_no_others(make, tmp_path, monkeypatch):
    write_reports(make.report(), tmp_path)
    older = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_reports(make.report(make.red_entry()), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == older


def test_a_file_in_the_place_of_the_directory_is_told_in_one_paragraph(make, tmp_path):
    (tmp_path / "reports").write_text("mine")
    with pytest.raises(ReportError, match="cannot write") as refusal:
        write_reports(make.report(), tmp_path / "reports")
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "reports").read_text() == "mine"


def test_a_directory_in_the_place_of_a_file_is_told(make, tmp_path):
    (tmp_path / "flops.json").mkdir()
    with pytest.raises(ReportError, match=r"flops\.json: Is a directory"):
        write_reports(make.report(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["flops.json"]
