"""The line that says how far a long sweep is."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path
from typing import Any

SLOW_BUILDER = """
    import time, torch
    def build(width):
        time.sleep(0.4)
        return torch.nn.Linear(width, 3), torch.ones(2, width)
    def test_it(flops): flops.scaling(build, width=[8, 16, 32], max_exponent=1)
"""


def on_a_terminal(project: Any, *arguments: str) -> str:
    """What a real run writes to a terminal."""
    told = bytearray()

    def keep(descriptor: int) -> bytes:
        told.extend(data := os.read(descriptor, 4096))
        return data

    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    previous = Path.cwd()
    os.chdir(project.root)
    try:
        pty.spawn(command, keep)
    finally:
        os.chdir(previous)
    return told.decode(errors="replace")


def test_a_long_sweep_shows_its_progress_on_a_terminal(project: Any) -> None:
    project.test(SLOW_BUILDER)
    told = on_a_terminal(project)
    assert "counting test_model.py::test_it: width = " in told
    assert "1 passed" in told


def test_nothing_is_shown_where_the_output_is_no_terminal(project: Any) -> None:
    project.test(SLOW_BUILDER)
    assert "sizes counted" not in project.run().stdout.str()
