"""A project as pytest configures it, for what runs without any test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_flops.session.session import Session

Result = TypeVar("Result")


def in_project(run: Callable[[Session], Result], path: Path | None = None) -> Result | None:
    """Call `run` in the place of pytest's own session, with all that comes before one.

    So the ini file is read and its `pythonpath` importable, and the plugins and each `conftest.py`
    that pytest loads at the start have registered their builders, costs and metrics.

    Args:
        run: Gets a session without tests.
        path: A file or folder of the project; the current folder unless given.

    Returns:
        What `run` returns; `None` where pytest cannot be configured, and has said why.
    """
    found: list[Result] = []

    class InPlaceOfTests:
        @pytest.hookimpl(tryfirst=True)
        def pytest_cmdline_main(self, config: pytest.Config) -> int:
            from pytest_flops.session.hooks import hooks_of

            found.append(run(hooks_of(config).session))
            return 0

    importable = [*sys.path]
    try:
        # The plugin itself, also where addopts or the environment leave it out.
        pytest.main(["-p", "flops", *([str(path)] if path else [])], [InPlaceOfTests()])
    finally:
        sys.path[:] = importable
    return found[0] if found else None
