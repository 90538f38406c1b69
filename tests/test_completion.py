"""Completion of `pytest-flops` in a shell, by argcomplete's protocol; and without argcomplete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flops.cli import main


def completed(line: str, folder: Path) -> set[str]:
    """What a shell is offered for the last word of a line."""
    told = folder / "told"
    asking = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(told),
        "_ARGCOMPLETE_SHELL": "zsh",  # bash adds a space to what is unique
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "-m", "pytest_flops"]
    path = os.pathsep.join(sys.path)
    env = os.environ | asking | {"PYTHONPATH": path}
    run = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return {word.partition(":")[0].strip() for word in told.read_text("utf-8").split("\n") if word}


def test_commands_options_and_files_are_completed(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    (tmp_path / "budgets.yaml").touch()
    assert completed("pytest-flops co", tmp_path) == {"count", "compare"}
    assert completed("pytest-flops count --ma", tmp_path) == {"--macs"}
    assert completed("pytest-flops explain bu", tmp_path) == {"budgets.yaml"}


def test_without_argcomplete_a_command_runs_as_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    assert main(["schema", "budgets"]) == 0
    assert "a file of FLOPs budgets" in capsys.readouterr().out


def test_a_run_that_no_shell_asks_for_does_not_import_it() -> None:
    code = "import sys; from pytest_flops.cli import main; main(['schema', 'budgets'])"
    code += "; assert 'argcomplete' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
