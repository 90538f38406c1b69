"""Updates of a lock file: merged, atomic, told; where one cannot be done, what was there stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.files.lock import lock_text, read_lock
from pytest_flops.budgets.files.update import difference, lowered, recorded_from, update_lock
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement

OLD = {("budgets", "a"): Recorded(FLOPsCount(1, 2, 3))}
NEW = {("budgets", "b"): Recorded(FLOPsCount(4, 5, 6))}


def merged(old):
    return {**old, **NEW}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "net.lock.json"
    path.write_text(lock_text(OLD))
    return path


def test_new_records_are_merged_with_those_in_the_file(path):
    assert update_lock(path, "net", merged) == OLD
    assert read_lock(path, "net") == {**OLD, **NEW}
    assert list(path.parent.iterdir()) == [path]


def test_a_first_record_makes_the_file_and_the_last_to_go_deletes_it(tmp_path):
    path = tmp_path / "net.lock.json"
    assert update_lock(path, "net", merged) == {}
    assert path.read_text() == lock_text(NEW)
    update_lock(path, "net", lambda _old: {})
    assert not path.exists()
    update_lock(path, "net", lambda _old: {})


def test_the_same_records_write_nothing(path):
    before = path.stat()
    update_lock(path, "net", dict)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.posix("links without a right to them")
def test_the_target_of_a_symbolic_link_is_written_and_the_link_stays(path, tmp_path):
    link = tmp_path / "link.lock.json"
    link.symlink_to(path)
    update_lock(link, "net", merged)
    assert link.is_symlink()
    assert read_lock(path, "net") == {**OLD, **NEW}


WRITER = """\
import sys
from pathlib import Path
from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.files.update import update_lock
from pytest_flops.counting.count import FLOPsCount
for number in range(25):
    key = ("budgets", f"{sys.argv[2]} {number}")
    record = Recorded(FLOPsCount(number))
    update_lock(Path(sys.argv[1]), "net", lambda old: {**old, key: record})
"""


@pytest.mark.posix("lock on a folder")
def test_runs_that_write_at_the_same_time_lose_nothing(path):
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name]) for name in ("x", "y", "z")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(read_lock(path, "net")) == 1 + 3 * 25
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def refused(path):
    """The message of a refused update, after which the folder is as it was."""

    def refuse():
        before = path.read_bytes()
        with pytest.raises(BudgetError) as caught:
            update_lock(path, "net", merged)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refuse


def test_an_edit_by_somebody_else_in_the_same_moment(path, monkeypatch):
    def edit_meanwhile(_handle):
        path.write_text("edited")

    monkeypatch.setattr(os, "fsync", edit_meanwhile)
    with pytest.raises(BudgetError, match="changed while it was being updated"):
        update_lock(path, "net", merged)
    assert path.read_text() == "edited"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_it_cannot_read_is_not_overwritten(path, refused):
    path.write_text(f"<<<<<<< HEAD\n{lock_text(OLD)}")
    assert refused().startswith("net was not updated: net:1:1: a merge conflict is left")
    path.write_text(lock_text(OLD).replace('"version": 1', '"version": 2'))
    assert "a newer one wrote it" in refused()


def test_a_read_only_file(path, refused):
    path.chmod(0o444)
    assert refused() == "net was not updated: it is read-only; what was there is intact"


def test_a_full_disk(refused, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device; what was there is intact" in refused()


def test_a_write_that_the_system_cuts_short(refused):
    resource = pytest.importorskip("resource", reason="needs POSIX limits on file size")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        assert "File too large" in refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_control_c_in_the_middle_leaves_the_old_file_alone(path, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        update_lock(path, "net", merged)
    assert path.read_text() == lock_text(OLD)
    assert list(path.parent.iterdir()) == [path]


def test_all_that_costs_something_is_recorded_at_any_depth():
    costs = {"a": (3, 2, 1), "a.b": (2, 1, 0), "a.b.c.d": (1, 1, 0), "idle": (0, 0, 0)}
    components = {path: FLOPsCount(*cost) for path, cost in costs.items()}
    operations = {"aten.mm": FLOPsCount(6), "aten.view": FLOPsCount()}
    measurement = Measurement(
        FLOPsCount(3, 2, 1), components, "meter", "executed", operations=operations
    )
    recorded = recorded_from(measurement)
    assert recorded.count == FLOPsCount(3, 2, 1)
    assert list(recorded.components) == ["a", "a.b", "a.b.c.d"]
    assert list(recorded.operations) == ["aten.mm"]


def test_a_record_is_lowered_phase_by_phase_and_never_raised():
    old = Recorded(FLOPsCount(9, 9, 9), {"a": FLOPsCount(5), "gone": FLOPsCount(1)})
    new = Recorded(FLOPsCount(8, 10, 9), {"a": FLOPsCount(6), "new": FLOPsCount(1)})
    assert lowered(old, new) == Recorded(FLOPsCount(8, 9, 9), {"a": FLOPsCount(5)})


def layers(cost, **others):
    counts = {f"layer_{number}": FLOPsCount(cost) for number in range(3)}
    return {**counts, **{name: FLOPsCount(flops) for name, flops in others.items()}}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            Recorded(FLOPsCount(2000, 10)),
            Recorded(FLOPsCount(3000, 10)),
            "forward 2 kFLOP -> 3 kFLOP, total 2.01 kFLOP -> 3.01 kFLOP",
        ),
        (
            Recorded(FLOPsCount(10**7)),
            Recorded(FLOPsCount(10**7 + 1)),
            "forward 10,000,000 FLOP -> 10,000,001 FLOP, total 10,000,000 FLOP -> 10,000,001 FLOP",
        ),
        (
            Recorded(FLOPsCount(10), layers(3, head=1)),
            Recorded(FLOPsCount(10), layers(2, head=4)),
            "the same in total; in head, layer_{0..2}",
        ),
        (
            Recorded(FLOPsCount(1), operations={"aten.mm": FLOPsCount(1)}),
            Recorded(FLOPsCount(1), operations={"aten.bmm": FLOPsCount(1)}),
            "the same in total; in aten.mm, aten.bmm",
        ),
    ],
)
def test_a_change_is_told_by_quantity_and_where(old, new, words):
    assert difference(old, new) == words
