"""`pytest-flops`, the command line: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_flops.budgets.verdict import Verdict
from pytest_flops.cli import main
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.report import build_report, to_json


@pytest.fixture
def reports(project: Any) -> tuple[str, str]:
    """The reports of the published baseline and of one with a fifth layer."""
    project.budgets()
    project.run("budgets/model.yaml::baseline::limits", "--flops-report", "base")
    project.budgets(project.baseline.replace("n_layers: 4", "n_layers: 5"))
    project.run("budgets/model.yaml::baseline::limits", "--flops-report", "head")
    return str(project.root / "base/flops.json"), str(project.root / "head/flops.json")


def test_compare_exits_with_1_and_names_what_got_dearer(
    reports: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    base, head = reports
    capsys.readouterr()
    assert main(["compare", base, head]) == 1
    told = capsys.readouterr().out
    assert "baseline" in told
    assert "layer_4" in told


def test_compare_exits_with_0_where_nothing_got_dearer(
    reports: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    base, head = reports
    assert main(["compare", base, base]) == 0
    assert main(["compare", head, base]) == 0
    # A fifth layer is 139,386,880 of 16,287,760,384 forward FLOPs: 0.86 %, and new by itself. It is
    # no regression then, but it is over the head's own limit.
    capsys.readouterr()
    assert main(["compare", base, head, "--tolerance", "2%"]) == 1
    told = capsys.readouterr()
    assert "no regression" in told.out
    assert f"{head} is red by itself: Red: the one budget is over its limit" in told.err


def test_compare_refuses_a_head_that_measured_nothing(
    reports: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads(Path(reports[0]).read_text("utf-8"))
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({**record, "entries": []}), "utf-8")
    assert main(["compare", reports[0], str(empty)]) == 2
    assert "measured nothing, so there is nothing to compare" in capsys.readouterr().err


def test_compare_is_red_for_a_head_that_was_cut_short(
    reports: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads(Path(reports[0]).read_text("utf-8"))
    short = tmp_path / "short.json"
    short.write_text(json.dumps({**record, "complete": False}), "utf-8")
    assert main(["compare", reports[0], str(short)]) == 1
    assert "the run did not come to its end" in capsys.readouterr().err


def test_no_report_that_is_given_is_overwritten(
    reports: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    base, head = reports
    before = [Path(report).read_bytes() for report in reports]
    assert main(["merge", base, head, "--output", str(Path(base).parent)]) == 2
    assert main(["html", head, "--output", head]) == 2
    assert main(["html", head, "--base", base, "--output", base]) == 2
    assert main(["html", base, head, "--output", head]) == 2
    assert main(["trace", head, "--output", head]) == 2
    assert main(["badge", head, "--output", head]) == 2
    assert capsys.readouterr().err.count("is one of the reports given") >= 2
    assert [Path(report).read_bytes() for report in reports] == before


@pytest.mark.parametrize(
    ("format_", "begins"),
    [("text", "FLOPs"), ("markdown", "## "), ("json", "{"), ("github", "::error file=")],
)
def test_compare_speaks_four_formats(
    reports: tuple[str, str], capsys: pytest.CaptureFixture[str], format_: str, begins: str
) -> None:
    capsys.readouterr()
    assert main(["compare", *reports, "--format", format_]) == 1
    told = capsys.readouterr().out
    assert told.startswith(begins)
    if format_ == "json":
        assert json.loads(told)["regressed"] is True


def test_a_console_that_lacks_a_character_gets_its_escape(reports: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "pytest_flops", "compare", *reports, "--format", "markdown"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}  # of a file or pipe on Windows
    done = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(b"## \\u274c ")  # a red cross


def test_merge_joins_shards_and_writes_all_three_files(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    project.budgets()
    project.budgets(project.baseline.replace("baseline:", "second:"), path="budgets/two.yaml")
    project.run("budgets/model.yaml::baseline::limits", "--flops-report", "one")
    project.run("budgets/two.yaml::second::limits", "--flops-report", "two")
    shards = [str(project.root / shard / "flops.json") for shard in ("one", "two")]
    capsys.readouterr()
    assert main(["merge", *shards, "-o", str(project.root / "all")]) == 0
    merged = json.loads((project.root / "all/flops.json").read_text())
    assert [entry["budget"] for entry in merged["entries"]] == ["baseline", "second"]
    assert (project.root / "all/flops.html").exists()
    assert "flops.md" in capsys.readouterr().out


def test_html_renders_a_report_with_its_base_and_history(
    reports: tuple[str, str], project: Any
) -> None:
    base, head = reports
    page = project.root / "page.html"
    history = str(project.root / "base")
    assert main(["html", head, "-o", str(page), "--base", base, "--history", history]) == 0
    assert "layer_4" in page.read_text(encoding="utf-8")


def test_a_trend_says_what_it_left_out_and_refuses_what_is_of_one_report(
    reports: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, head = reports
    missing = str(tmp_path / "none.json")
    assert main(["html", base, head, missing, "-o", str(tmp_path / "trend.html")]) == 0
    assert f"left out: cannot read the report {missing}" in capsys.readouterr().err
    assert "cannot read the report" in (tmp_path / "trend.html").read_text("utf-8")
    (tmp_path / "empty").mkdir()
    for wrong, told in {
        ("--base", base): "--base is for the page of one report, and here are several",
        ("--history", str(tmp_path)): "--history is for the page of one report",
        ("--tolerance", "1%"): "--tolerance is for the page of one report",
    }.items():
        assert main(["html", base, head, *wrong]) == 2
        assert told in capsys.readouterr().err
    assert main(["html", str(tmp_path / "empty")]) == 2
    assert "there is no report of pytest-flops in" in capsys.readouterr().err


def test_trace_writes_events_beside_the_report(
    reports: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    base, _ = reports
    capsys.readouterr()
    assert main(["trace", base]) == 0
    written = Path(capsys.readouterr().out.strip())
    assert written == Path(base).with_name("flops.trace.json")
    events = json.loads(written.read_text("utf-8"))["traceEvents"]
    phases = ("forward", "backward", "optimizer")
    calls = {event["name"]: event["dur"] for event in events if event["name"] in phases}
    assert sum(calls.values()) == 48_917_969_080


def test_badge_says_the_total_of_the_one_budget(
    reports: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for report, color, total in zip(
        reports, ("brightgreen", "red"), ("48.918 GFLOP", "49.336 GFLOP"), strict=True
    ):
        capsys.readouterr()
        assert main(["badge", report]) == 0
        file, readme = capsys.readouterr().out.splitlines()
        assert Path(file) == Path(report).with_name("flops.badge.json")
        assert json.loads(Path(file).read_text("utf-8")) == {
            "schemaVersion": 1,
            "label": "flops",
            "message": total,
            "color": color,
        }
        assert readme.startswith("![FLOPs](https://img.shields.io/endpoint?url=")


@pytest.mark.parametrize(
    ("entries", "changes", "message"),
    [
        (("a", "b"), {}, "2 budgets hold"),
        (("a", "b", "red"), {}, "1 of 3 red"),
        (("a", "b"), {"complete": False}, "red"),
    ],
    ids=["all-hold", "one-red", "cut-short"],
)
def test_badge_of_several_budgets_says_how_many_hold(
    tmp_path: Path, entries: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    found = [
        Entry(name, name, (name,), (Verdict("limit", name != "red", "total", None, 1, 1),))
        for name in entries
    ]
    file = tmp_path / "flops.json"
    file.write_text(to_json(build_report(found, **changes)))
    assert main(["badge", str(file), "-o", str(tmp_path / "out/badge.json")]) == 0
    assert json.loads((tmp_path / "out/badge.json").read_text())["message"] == message


def test_explain_prints_the_exact_cost_as_a_formula(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.budgets()
    assert main(["explain", f"{file}::baseline"]) == 0
    # 16,287,760,384 / (32 x 128), by the reference page.
    assert "forward = 3,976,504 * batch_size * seq_len" in capsys.readouterr().out
    assert main(["explain", str(file), "--over", "batch_size", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)["costs"]
    assert costs[0]["polynomial"] == f"{16_287_760_384 // 32:,} * batch_size"


def test_explain_finds_a_builder_in_the_current_folder(
    project: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        "square.py",
        """
        import torch
        class Square(torch.nn.Module):
            def forward(self, x): return x @ x
        def build(side): return Square(), torch.ones(side, side, requires_grad=True)
        """,
    )
    project.budget(
        "square",
        "limits: {total: 1 TFLOP}",
        "workload: {model: 'square:build', config: {side: 4}, optimizer: none}",
    )
    monkeypatch.chdir(project.root)
    assert main(["explain", "budgets/model.yaml", "--over", "side"]) == 0
    # The product, and the sum that stands for a loss.
    assert "forward = 2 * side^3 + side^2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["compare", "gone.json", "gone.json"], "cannot read the report gone.json"),
        (["compare", "b", "h", "--tolerance", "a lot"], "a lot"),
        (["merge", "gone.json"], "cannot read the report gone.json"),
        (["html", "gone.json"], "cannot read the report gone.json"),
        (["explain", "gone.yaml"], "gone.yaml:1:1: cannot be read"),
    ],
)
def test_unusable_files_and_arguments_exit_with_2_and_a_message(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err


def test_explain_wants_one_budget_with_a_workload(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.budgets("""
        version: 1
        budgets:
          a: {limits: {total: 1}}
          b: {limits: {total: 1}}
    """)
    assert main(["explain", str(file)]) == 2
    assert "it has a, b" in capsys.readouterr().err
    assert main(["explain", f"{file}::a"]) == 2
    assert "has no workload" in capsys.readouterr().err


@pytest.mark.parametrize("of", ["report", "budgets"])
def test_schema_prints_a_json_schema(of: str, capsys: pytest.CaptureFixture[str]) -> None:
    from jsonschema import Draft202012Validator

    assert main(["schema", of]) == 0
    Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_flops", "--version"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("pytest-flops ")
