"""The line that says how far a long sweep is."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

pty = pytest.importorskip("pty", reason="a terminal is made as POSIX has it")

SLOW_BUILDER = """
    import time, torch
    def build(width):
        time.sleep(0.4)
        return torch.nn.Linear(width, 3), torch.ones(2, width)
    def test_it(flops): flops.scaling(build, width=[8, 16, 32], max_exponent=1)
"""


def on_a_terminal(project: Any, *arguments: str) -> str:
    """What a real run writes to a terminal."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    told = bytearray()
    with subprocess.Popen(command, cwd=project.root, stdin=its, stdout=its, stderr=its):
        os.close(its)
        with suppress(OSError):  # where the run has ended, Linux says so by EIO
            while data := os.read(ours, 4096):
                told.extend(data)
    os.close(ours)
    return told.decode(errors="replace")


@pytest.mark.long
def test_a_long_sweep_shows_its_progress_on_a_terminal(project: Any) -> None:
    project.test(SLOW_BUILDER)
    told = on_a_terminal(project)
    assert "counting test_model.py::test_it: width = " in told
    assert "1 passed" in told


def test_nothing_is_shown_where_the_output_is_no_terminal(project: Any) -> None:
    project.test(SLOW_BUILDER)
    assert "sizes counted" not in project.run().stdout.str()
