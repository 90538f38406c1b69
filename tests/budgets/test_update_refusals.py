"""Where an update cannot be done rightly, it is refused in one paragraph and the file is intact."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.files.update import digest, update_recorded
from pytest_flops.counting.count import FLOPsCount

TEXT = """\
version: 1
budgets:
  a:
    recorded: {forward: 1, backward: 2, optimizer: 3}
"""
CHANGES = {"a": Recorded(FLOPsCount(10, 20, 30))}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def refused(path):
    """The message of a refused update, after which the folder holds the old file and no other."""

    def refuse(text=TEXT, changes=CHANGES, **options):
        path.write_text(text)
        with pytest.raises(BudgetError) as caught:
            update_recorded(path, changes, name="b.yaml", **options)
        assert path.read_text() == text
        assert list(path.parent.iterdir()) == [path]
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refuse


def test_a_file_that_changed_since_it_was_loaded(path, refused):
    loaded = digest(path)
    assert "b.yaml was not updated: it changed since its budgets were loaded" in refused(
        TEXT + "# edited meanwhile\n", expected=loaded
    )


def test_a_file_that_is_as_it_was_loaded_is_updated(path):
    assert update_recorded(path, CHANGES, expected=digest(path))
    assert path.read_text() == TEXT.replace("1, b", "10, b").replace("2,", "20,").replace(
        "3}", "30}"
    )


def test_a_file_that_changes_during_the_update(path, monkeypatch):
    def edit_meanwhile(_handle):
        path.write_text("edited")

    monkeypatch.setattr(os, "fsync", edit_meanwhile)
    with pytest.raises(BudgetError, match="changed while it was being updated"):
        update_recorded(path, CHANGES)
    assert path.read_text() == "edited"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(BudgetError, match=r"gone\.yaml was not updated: No such file"):
        update_recorded(tmp_path / "gone.yaml", CHANGES)
    with pytest.raises(BudgetError, match="No such file"):
        digest(tmp_path / "gone.yaml")


def test_a_directory(tmp_path):
    with pytest.raises(BudgetError, match="was not updated: Is a directory"):
        update_recorded(tmp_path, CHANGES)


def test_a_read_only_file(path, refused):
    path.chmod(0o444)
    try:
        with pytest.raises(BudgetError, match="was not updated: it is read-only"):
            update_recorded(path, CHANGES)
    finally:
        path.chmod(0o644)
    assert path.read_text() == TEXT


def test_a_link_to_nothing(tmp_path):
    link = tmp_path / "b.yaml"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BudgetError, match="No such file"):
        update_recorded(link, CHANGES)
    assert link.is_symlink()


def test_a_full_disk(refused, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = refused()
    assert "No space left on device" in message
    assert "the old file is intact" in message


def test_a_write_that_the_system_cuts_short(path):
    resource = pytest.importorskip("resource", reason="needs POSIX limits on file size")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(BudgetError, match=r"was not updated: File too large; the old file is"):
            update_recorded(path, CHANGES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == TEXT
    assert list(path.parent.iterdir()) == [path]


def test_control_c_in_the_middle_leaves_the_old_file_alone(path, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        update_recorded(path, CHANGES)
    assert path.read_text() == TEXT
    assert list(path.parent.iterdir()) == [path]


def test_a_budget_that_is_not_in_the_file(refused):
    assert "it has no 'b' of its own" in refused(changes={"b": CHANGES["a"]})


def test_a_file_that_holds_mistakes(refused):
    assert "did you mean 'limits'?" in refused(TEXT + "  b: {workload: {model: m}, limts: {}}\n")


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("recorded: {", "recorded: &r {") + "  b: {recorded: *r}\n",
        (
            "version: 1\nx-r: &r {forward: 1, backward: 2, optimizer: 3}\n"
            "budgets:\n  a:\n    recorded: *r\n  b: {recorded: *r}\n"
        ),
        (
            "version: 1\nx-r: &r {forward: 1, backward: 2, optimizer: 3}\n"
            "budgets:\n  a:\n    recorded: {<<: *r, forward: 5}\n"
        ),
        (
            "version: 1\nx-n: &n 1\n"
            "budgets:\n  a:\n    recorded: {forward: *n, backward: 2, optimizer: 3}\n"
        ),
    ],
)
def test_a_record_that_is_shared_through_an_anchor(refused, text):
    message = refused(text)
    assert "`recorded` of 'a' was not updated: it is shared through an anchor" in message
    assert message.startswith("b.yaml:")


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("a:\n", "a: &a\n") + "  b:\n    <<: *a\n",
        TEXT.replace("a:\n", "a: &a\n") + "  b: *a\n",
    ],
)
def test_a_record_that_another_budget_inherits(refused, text):
    assert "would change other parts of the file" in refused(text)
