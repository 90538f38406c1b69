"""Killed while it writes, disks that fill up, folders nobody may write to: nothing is lost, and
nothing that went wrong is green."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_flops.budgets.files.lock import read_lock
from pytest_flops.reports.read import load_report

pytestmark = pytest.mark.posix("faults of these kinds")

COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(100, 200, 30))
"""
BUDGET = """\
version: 1
budgets:
  step:
    limits: {total: 1 kFLOP}
"""
LOCK = "budgets/model.lock.json"
WRITTEN = [LOCK, "reports/flops.json", "reports/flops.html", "reports/flops.md"]


@pytest.fixture
def counted(project: Any) -> Any:
    """A project whose report is of an earlier run, and whose record waits for an update."""
    project.budgets(BUDGET)
    project.records(step=(900, 900, 900))
    project.test(COUNTED.replace("100", "99"))
    assert project.run().ret == 0
    project.test(COUNTED)
    return project


def run_as_a_process(
    project: Any, *arguments: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)


def contents(project: Any) -> dict[str, bytes]:
    return {name: (project.root / name).read_bytes() for name in WRITTEN}


KILL = """\
import os, pathlib, signal

def killing(function, number, *, before):
    calls = []
    def wrapped(*args, **kwargs):
        calls.append(args)
        if before and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

def pytest_runtestloop(session):
    moment, number = os.environ['KILLED'].split()
    if moment == 'writing':
        os.fsync = killing(os.fsync, int(number), before=True)
    else:
        replace = killing(pathlib.Path.replace, int(number), before=moment == 'replacing')
        pathlib.Path.replace = replace
"""


@pytest.mark.parametrize("moment", ["writing", "replacing", "replaced"])
@pytest.mark.parametrize("number", [1, 2, 3, 4], ids=WRITTEN)
def test_kill_9_leaves_each_file_old_or_new_and_whole(
    counted: Any, monkeypatch: pytest.MonkeyPatch, moment: str, number: int
) -> None:
    before = contents(counted)
    counted.write("conftest.py", KILL)
    monkeypatch.setenv("KILLED", f"{moment} {number}")
    result = counted.run_apart("--flops-update")
    assert result.ret == -signal.SIGKILL
    after = contents(counted)
    written = number if moment == "replaced" else number - 1
    assert [name for name in WRITTEN if after[name] != before[name]] == WRITTEN[:written]
    (record,) = read_lock(counted.root / LOCK, LOCK).values()
    assert record.count.forward in (100, 900)
    load_report(counted.root / WRITTEN[1])
    # What the dead run left lying about is in nobody's way.
    (counted.root / "conftest.py").unlink()
    again = counted.run("--flops-update")
    assert again.ret == 0
    assert counted.report()["passed"] is True
    assert counted.recorded("step")["forward"] == 100


FULL = """\
import resource, signal
def pytest_runtestloop(session):
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
"""


@pytest.mark.parametrize(
    ("room", "lost"),
    [(100, WRITTEN[0]), (400, WRITTEN[1]), (6000, WRITTEN[2])],
    ids=["budgets", "json", "html"],
)
def test_a_write_that_stops_halfway_is_red_and_leaves_the_old_file(
    counted: Any, room: int, lost: str
) -> None:
    before = contents(counted)
    counted.write("conftest.py", FULL.replace("ROOM", str(room)))
    result = run_as_a_process(counted, "--flops-update")
    assert result.returncode == 1
    output = result.stdout + result.stderr
    assert lost.rpartition("/")[2] in output
    assert "File too large" in output
    assert "Traceback" not in output
    after = contents(counted)
    assert after[lost] == before[lost]
    assert left_over(counted) == []
    if after[WRITTEN[1]] != before[WRITTEN[1]]:
        assert counted.report()["passed"] is False


def left_over(project: Any) -> list[str]:
    """Files beside those that a run writes."""
    folders = (project.root / "budgets", project.root / "reports")
    names = {"model.yaml", *(Path(name).name for name in WRITTEN)}
    return [file.name for folder in folders for file in folder.iterdir() if file.name not in names]


def test_a_page_that_cannot_be_written_makes_the_json_red_too(counted: Any) -> None:
    page = counted.root / "reports/flops.html"
    page.unlink()
    page.mkdir()
    result = counted.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: cannot write *flops.html: *"])
    report = counted.report()
    assert report["passed"] is False
    assert "flops.html" in report["errors"][0]["message"]


def run_bound_by_permissions(project: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest so that permissions bind it, also where the tests run as root."""
    if os.geteuid() != 0:
        return run_as_a_process(project, *arguments)
    drop = shutil.which("setpriv") or pytest.skip("nothing binds root without setpriv")
    rights = "-dac_override,-dac_read_search,-fowner"
    bound = (drop, f"--bounding-set={rights}", f"--inh-caps={rights}")
    return run_as_a_process(project, *arguments, before=bound)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("budgets", "error: budgets/model.lock.json was not updated: Permission denied"),
        ("reports", "error: cannot write "),
    ],
)
def test_a_folder_nobody_may_write_to_is_told_and_red(
    counted: Any, folder: str, words: str
) -> None:
    before = contents(counted)
    (counted.root / folder).chmod(0o555)
    try:
        result = run_bound_by_permissions(counted, "--flops-update")
    finally:
        (counted.root / folder).chmod(0o755)
    assert result.returncode == 1
    assert words in result.stdout
    assert "Permission denied" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    after = contents(counted)
    assert all(after[name] == before[name] for name in WRITTEN if name.startswith(folder))
    assert left_over(counted) == []
    if folder == "budgets":
        assert counted.report()["passed"] is False


def test_a_report_folder_that_cannot_be_made_is_told_and_red(counted: Any) -> None:
    shutil.rmtree(counted.root / "reports")
    counted.root.chmod(0o555)
    try:
        result = run_bound_by_permissions(counted)
    finally:
        counted.root.chmod(0o755)
    assert result.returncode == 1
    assert "error: cannot write" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


CRASH = """\
import os, pytest
@pytest.hookimpl(tryfirst=True)
def HOOK(session):
    if os.environ.get('PYTEST_XDIST_WORKER') == 'gw0':
        os._exit(3)
"""


@pytest.mark.parametrize("hook", ["pytest_sessionstart", "pytest_collection_finish"])
def test_a_worker_that_never_got_to_its_tests_is_red_and_records_nothing(
    counted: Any, hook: str
) -> None:
    counted.write("conftest.py", CRASH.replace("HOOK", hook))
    before = (counted.root / WRITTEN[0]).read_bytes()
    result = counted.run_apart("-n", "1", "--max-worker-restart", "0", "--flops-update")
    assert result.ret != 0
    assert (counted.root / WRITTEN[0]).read_bytes() == before


SOUND = (
    '{"format": "pytest-flops lock file", "version": 1, "budgets":\n'
    ' {"step": {"flops": {"count": {"forward": 900}}}}}'
)


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (SOUND[:-1].encode(), "2:50"),
        (SOUND.replace("900", "NaN").encode(), "1:1"),
        (SOUND.replace("900", '1, "forward": 2').encode(), "1:1"),
        (SOUND.replace("900", "[" * 10**5).encode(), "1:1"),
        (SOUND.replace("step", "coût").encode("latin-1"), "2:6"),
    ],
    ids=["cut", "nan", "a-key-twice", "deep", "latin-1"],
)
@pytest.mark.parametrize("option", ["--flops-report=reports", "--flops-update"])
def test_a_broken_lock_file_is_refused_at_its_place_and_kept(
    counted: Any, broken: bytes, place: str, option: str
) -> None:
    (counted.root / LOCK).write_bytes(broken)
    counted.refuses(option, told=[f"ERROR: *{LOCK}:{place}: *"])
    assert (counted.root / LOCK).read_bytes() == broken
    assert left_over(counted) == []
