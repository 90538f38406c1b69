"""`pytest-flops show`: a saved report, as the run that wrote it printed it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_flops.cli import main


@pytest.mark.parametrize(("limit", "code"), [("100", 0), ("99", 1)])
def test_it_prints_what_the_run_did(
    project: Any, capsys: pytest.CaptureFixture[str], limit: str, code: int
) -> None:
    project.marked(f"total={limit}", "torch.ones(100) + 1")
    ran = project.run("--flops-report=reports", "-v")
    capsys.readouterr()
    assert main(["show", str(project.root / "reports/flops.json"), "-v"]) == code
    shown = capsys.readouterr().out.splitlines()
    assert shown
    assert [line for line in shown if line not in ran.outlines] == []


def test_it_prints_the_dearest_of_a_metered_run(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    project.test("import torch\ndef test_it(): torch.ones(100) + 1\n")
    project.run("--flops")
    capsys.readouterr()
    assert main(["show", str(project.root / "reports/flops.json")]) == 0
    shown = capsys.readouterr().out
    assert "test_model.py::test_it  100 FLOP  100 %" in shown
    assert "Metered 1, and nothing was held." in shown


def test_no_report_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "gone.json"]) == 2
    assert "cannot read the report gone.json" in capsys.readouterr().err
