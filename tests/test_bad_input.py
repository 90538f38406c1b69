"""Unusable files: one paragraph, the right exit code, the old file intact."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flops import cli

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(100, 200, 30))
"""
BUDGET = "version: 1\nbudgets:\n  step:\n    limits: {total: 1 kFLOP}\n"


def newer(report: dict[str, Any]) -> str:
    return json.dumps({**report, "version": 99})


def cut_off(report: dict[str, Any]) -> str:
    return json.dumps(report)[:-40]


def foreign(report: dict[str, Any]) -> str:
    return json.dumps({"benchmarks": [], "version": "5.1.0"})


def without_entries(report: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in report.items() if key != "entries"})


def not_json(report: dict[str, Any]) -> str:
    return "<html>404 Not Found</html>"


UNUSABLE = pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (newer, "written by a newer pytest-flops"),
        (cut_off, "not complete JSON"),
        (foreign, "is not a report of pytest-flops"),
        (without_entries, "breaks the schema"),
        (not_json, "not complete JSON"),
        (None, "cannot read the report"),
    ],
    ids=["newer-schema", "truncated", "foreign", "incomplete", "no-json", "gone"],
)
Spoil = Callable[[dict[str, Any]], str]


@pytest.fixture
def counted(project: Any) -> Any:
    project.budgets(BUDGET)
    project.test(COUNTED)
    return project


def spoil_base(project: Any, spoil: Spoil | None) -> None:
    assert project.run("--flops-report", "good").ret == 0
    if spoil is not None:
        project.write("base.json", spoil(project.report("good/flops.json")))


@UNUSABLE
def test_an_unusable_base_is_a_usage_error_of_the_run(
    counted: Any, spoil: Spoil | None, words: str
) -> None:
    spoil_base(counted, spoil)
    result = counted.run("--flops-compare", "base.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    output = result.stderr.str()
    assert words in output
    assert "base.json" in output
    assert len([line for line in output.splitlines() if line]) == 1
    assert "Traceback" not in output + result.stdout.str()


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run `pytest-flops` in a project; its exit code and what it said to stderr."""

    def run(project: Any, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(project.root)
        capsys.readouterr()
        code = cli.main(arguments)
        return code, capsys.readouterr().err

    return run


@UNUSABLE
@pytest.mark.parametrize(
    "command",
    [
        ("compare", "base.json", "good/flops.json"),
        ("compare", "good/flops.json", "base.json"),
        ("merge", "base.json", "-o", "out"),
        ("html", "base.json", "-o", "out/page.html"),
    ],
    ids=["base", "head", "merge", "html"],
)
def test_an_unusable_file_ends_a_command_with_2(
    counted: Any,
    command_line: Callable[..., tuple[int, str]],
    spoil: Spoil | None,
    words: str,
    command: tuple[str, ...],
) -> None:
    spoil_base(counted, spoil)
    code, error = command_line(counted, *command)
    assert code == 2
    assert error.startswith("pytest-flops: error: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (counted.root / "out").exists()


def test_the_report_of_another_project_is_no_base(
    counted: Any, command_line: Callable[..., tuple[int, str]]
) -> None:
    counted.run("--flops-report", "ours")
    counted.budgets(BUDGET.replace("step", "theirs"))
    (counted.root / "test_model.py").unlink()
    counted.test(COUNTED.replace("step", "theirs"), path="test_theirs.py")
    result = counted.run("--flops-compare", "ours/flops.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: the base has no budget *another project's report?"])
    assert command_line(counted, "compare", "ours/flops.json", "reports/flops.json")[0] == 1


LOCK = "budgets/model.lock.json"


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        ("file.chmod(0o444)", "it is read-only"),
        pytest.param(
            "file.unlink(); file.mkdir()",
            "*cannot be read: Is a directory",
            marks=pytest.mark.posix("error of its own for folders"),
        ),
        (
            "file.write_text('<<<<<<< HEAD\\n' + text)",
            "*:1:1: a merge conflict is left in this lock file",
        ),
        ("file.write_text(text[:30])", "*:1:*: not valid JSON"),
        ("file.write_text(text.replace(': 1,', ': 2,'))", "*a newer one wrote it"),
    ],
    ids=["read-only", "a-directory", "conflict", "cut-off", "newer"],
)
def test_what_befalls_a_lock_file_before_its_update_is_told_and_nothing_is_written(
    counted: Any, mode: tuple[str, ...], happens: str, words: str
) -> None:
    file = counted.records(step=(90, 200, 30))
    counted.test(
        f"{COUNTED}"
        "def test_later():\n"
        "    import pathlib\n"
        f"    file = pathlib.Path({str(file)!r})\n"
        "    text = file.read_text()\n"
        f"    {happens}\n"
    )
    result = counted.run("--flops-update", *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"error: {LOCK} was not updated: {words}*"])
    assert "Traceback" not in result.stdout.str()
    assert counted.report()["passed"] is False
    assert {path.name for path in file.parent.iterdir()} == {"model.yaml", file.name}
    assert file.is_dir() or ": 100" not in file.read_text()


@pytest.mark.parametrize("options", [(), ("--flops-update",)], ids=["run", "update"])
@pytest.mark.parametrize("marker", ["('step')", ""], ids=["budgets", "tests"])
def test_a_lock_file_with_a_mistake_is_an_error_of_every_run_and_stays(
    project: Any, mode: tuple[str, ...], marker: str, options: tuple[str, ...]
) -> None:
    project.test(COUNTED.replace("('step')", marker))
    name = LOCK if marker else "test_model.lock.json"
    if marker:
        project.budgets(BUDGET)
    project.run("--flops-update")
    file = project.root / name
    conflict = f"<<<<<<< HEAD\n{file.read_text()}=======\n>>>>>>> branch\n"
    file.write_text(conflict)
    result = project.run(*options, *mode)
    assert result.ret != 0
    output = result.stdout.str() + result.stderr.str()
    assert f"{name}:1:1: a merge conflict is left in this lock file: take either side" in output
    assert "Traceback" not in output
    assert file.read_text() == conflict


@pytest.mark.posix("links without a right to them")
def test_a_dangling_link_is_told_in_one_line(counted: Any) -> None:
    file = counted.root / "budgets/model.yaml"
    file.unlink()
    file.symlink_to("nowhere.yaml")
    told = ["ERROR: budgets/model.yaml:1:1: *symbolic link to nowhere.yaml, which is not there"]
    counted.refuses("--flops-budgets", "budgets/model.yaml", told=told)


def test_a_full_disk_leaves_the_old_lock_file(
    counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = counted.records(step=(90, 200, 30))
    before = file.read_text()

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    result = counted.run("--flops-update", "--flops-report=")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"error: {LOCK} was not updated: No space left on device*"])
    assert {path.name for path in file.parent.iterdir()} == {"model.yaml", file.name}
    assert file.read_text() == before


MOUNTED = "*Device or resource busy; *mount the folder that holds it instead*"


@pytest.fixture
def mounted(counted: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project in which each file of a run is a mount point, as `docker -v FILE:FILE` makes it."""

    def busy(path: Path, target: Path | None = None) -> None:
        if target is None and path.name.startswith("."):
            return unlink(path)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    unlink = Path.unlink
    monkeypatch.setattr(Path, "replace", busy)
    monkeypatch.setattr(Path, "unlink", busy)
    return counted


def test_a_lock_file_that_is_mounted_by_itself_is_told_to_mount_its_folder(mounted: Any) -> None:
    file = mounted.records(step=(90, 200, 30))
    before = file.read_text()
    assert mounted.run("--flops-update", "--flops-report=").ret == 1
    result = mounted.run("--flops-update", "--flops-report=")
    result.stdout.fnmatch_lines([f"error: {LOCK} was not updated: {MOUNTED}"])
    assert file.read_text() == before
    assert {path.name for path in file.parent.iterdir()} == {"model.yaml", file.name}


def test_a_lock_file_that_would_be_deleted_and_is_mounted_is_told_alike(mounted: Any) -> None:
    file = mounted.records(gone=(90, 200, 30))
    mounted.test(COUNTED.replace("def test_step", "@pytest.mark.skip\ndef test_step"))
    result = mounted.run("--flops-update", "--flops-report=")
    result.stdout.fnmatch_lines([f"error: {LOCK} was not updated: {MOUNTED}"])
    assert file.exists()


def test_a_report_that_is_mounted_by_itself_is_told_alike(mounted: Any) -> None:
    result = mounted.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"error: cannot write *flops.json: {MOUNTED}"])


def test_a_full_disk_leaves_the_old_report(counted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted.run()
    old = (counted.root / "reports/flops.json").read_bytes()

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    result = counted.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: cannot write *flops.json: No space left on device*"])
    assert (counted.root / "reports/flops.json").read_bytes() == old
    assert len(list((counted.root / "reports").iterdir())) == 3


WAITING = """
def test_wait():
    import pathlib, time
    pathlib.Path('waiting').touch()
    time.sleep(60)
"""


@pytest.mark.posix("signals")
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["plain", "xdist"])
def test_ctrl_c_leaves_the_records_alone_and_a_report_that_says_so(
    counted: Any, workers: tuple[str, ...]
) -> None:
    counted.test(COUNTED + WAITING)
    command = [sys.executable, "-m", "pytest", "--flops-update", *workers]
    with subprocess.Popen(
        command, cwd=counted.root, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        until = time.monotonic() + 60
        while not (counted.root / "waiting").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)
        output = run.communicate(timeout=60)[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert not (counted.root / LOCK).exists()
    assert "nothing was recorded: the run did not come to its end" in output
    report = counted.report()
    assert report["complete"] is False
    assert report["passed"] is False
    assert not re.findall("INTERNALERROR", output)
