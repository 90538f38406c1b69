"""`pytest-flops html` of many reports: the page of their trend, from runs at real commits."""

from __future__ import annotations

import html
import re
import subprocess
from typing import Any

import pytest

from pytest_flops.cli import main

MODEL = """
import torch

NARROW, WIDE = 10, 100


def forward(width):
    torch.nn.Linear(8, width, bias=False)(torch.ones(4, 8))
"""
TESTS = """
import pytest
import model


@pytest.mark.flops_budget(total="1 MFLOP")
def test_narrow():
    model.forward(model.NARROW)


@pytest.mark.flops_budget(total="1 MFLOP")
def test_wide():
    model.forward(model.WIDE)
"""
LATE = """

@pytest.mark.flops_budget(total="1 MFLOP")
def test_late():
    model.forward(5)
"""


def git(*arguments: str) -> str:
    identity = "-c", "user.name=a", "-c", "user.email=a@b.c"
    command = ["git", *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def text_of(page: str) -> str:
    return " ".join(
        html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S)).split()
    )


@pytest.fixture
def commits(project: Any) -> list[str]:
    """Four commits with a run at each, in a history; the days of the runs are 2026-01-01 to 04."""
    project.ini("pythonpath = .\naddopts = -p no:cacheprovider --flops-history=past")
    git("init", "--quiet")
    versions = [
        (MODEL, TESTS),
        (MODEL.replace("10, 100", "12, 101"), TESTS),
        (MODEL.replace("10, 100", "12, 90"), TESTS + LATE),
        (MODEL.replace("10, 100", "12, 90") + "# more\n", TESTS + LATE),
    ]
    found = []
    for day, (model, tests) in enumerate(versions, 1):
        project.write("model.py", model)
        project.test(tests)
        git("add", "model.py", "test_model.py")
        git("commit", "--quiet", "-m", f"Version {day}")
        found.append(git("rev-parse", "HEAD"))
        assert project.run("--flops-report=").ret == 0
        (kept,) = [file for file in (project.root / "past").iterdir() if "T" in file.name]
        time = project.report(f"past/{kept.name}")["environment"]["time"]
        kept.write_text(kept.read_text().replace(time, f"2026-01-0{day}T10:00:00+00:00"))
        kept.rename(kept.with_name(f"of-day-{day}.json"))
    return found


def test_the_commits_that_moved_a_budget_are_told_with_how_much(
    project: Any, commits: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A forward of `Linear(8, n)` on 4 rows is 2 x 4 x 8 x n = 64 n.

    Narrow: 640, then 768, +20.0 %. Wide: 6,400, then 6,464, +1.0 %; then 5,760, -704 or -10.9 %,
    and from the first -640 or -10.0 %.
    """
    capsys.readouterr()
    assert main(["html", "past"]) == 0
    assert capsys.readouterr().out == "past/trend.html\n"
    page = (project.root / "past/trend.html").read_text(encoding="utf-8")
    text = text_of(page)
    second, third, last = (f"2026-01-0{day} {commits[day - 1][:9]}" for day in (2, 3, 4))

    assert (
        "1 of 3 budgets grew, test_narrow: +20.0 % 1 of 3 budgets fell, test_wide: -10.0 %" in text
    )
    moved = text.index(f"{second} moved 2 budgets, the largest +20.0 % : test_narrow")
    assert "then test_wide +1.0 %" in text
    assert moved < text.index(f"{third} moved test_wide : -10.9 % new: test_late")
    assert f"{last} moved" not in text

    rows = text[text.index("moved most by") :]
    assert f"640 FLOP 640 FLOP 768 FLOP 768 FLOP +20.0 % {second} +20.0 %" in rows
    assert f"6.4 kFLOP 5.76 kFLOP 6.464 kFLOP 5.76 kFLOP -10.0 % {third} -10.9 %" in rows
    assert f"New in {third}." in rows
    assert f"{third} 5.76 kFLOP 5,760 -704 FLOP -10.9 %" in rows
    assert not re.search(r"<(script|link|img|iframe)|https?://|url\(", page)


def test_reports_by_name_are_a_trend_and_one_is_its_own_page(
    project: Any, commits: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_, last = sorted(str(file) for file in (project.root / "past").iterdir())
    assert main(["html", last, first]) == 0
    text = text_of((project.root / "past/trend.html").read_text(encoding="utf-8"))
    assert f"2 reports · 2026-01-01 {commits[0][:9]} to 2026-01-04 {commits[3][:9]}" in text
    assert main(["html", first]) == 0
    capsys.readouterr()
    assert "Green: all 2 budgets hold" in (project.root / "past/of-day-1.html").read_text()
