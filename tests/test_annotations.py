"""In a GitHub workflow a run annotates the lines of its budgets by itself."""

from __future__ import annotations

from typing import Any

import pytest

BUDGETS = """\
version: 1
budgets:
  over: {limits: {total: 9 FLOP}}
  "100%, stale": {limits: {total: 9 FLOP}}
"""


def commands(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("::")]


def test_what_is_red_is_annotated_at_its_budget(
    project: Any, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.budgets(BUDGETS)
    project.counted("'over'", "10")
    stale, over = commands(project.run(*mode))
    assert over == (
        "::error file=budgets/model.yaml,line=3,col=3,title=FLOPs budget::"
        "the budget 'over': total: 10 FLOP, limit 9 FLOP, over by 1 FLOP (+11.1 %25)"
    )
    assert stale.startswith("::error file=budgets/model.yaml,line=4,col=3,title=FLOPs budget::")
    assert "100%25, stale" in stale


def test_a_project_in_a_subfolder_names_its_files_from_the_checkout(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.root.parent))
    project.budgets(BUDGETS)
    project.counted("'over'", "10")
    annotated = commands(project.run("test_model.py"))
    assert annotated[0].startswith(f"::error file={project.root.name}/budgets/model.yaml,line=3,")


def test_green_runs_and_runs_elsewhere_annotate_nothing(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.budgets(BUDGETS)
    project.counted("'over'", "10")
    assert commands(project.run("test_model.py")) == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.counted("'over'", "9")
    assert commands(project.run("test_model.py")) == []
