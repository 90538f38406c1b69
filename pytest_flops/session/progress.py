"""How far a long sweep is: one line on a terminal, gone when the sweep is done."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest import PytestPluginManager, TerminalReporter

_PATIENCE_IN_SECONDS = 1.0


class Progress:
    """A line on the terminal for one sweep.

    Args:
        plugins: pytest's; without a terminal reporter that writes to a terminal nothing is said.
        subject: What is swept, e.g. `resnet-bk-baseline: seq_len`.
    """

    def __init__(self, plugins: PytestPluginManager, subject: str) -> None:
        self._reporter: TerminalReporter | None = plugins.get_plugin("terminalreporter")
        self._capture = plugins.get_plugin("capturemanager")
        self._subject = subject
        self._start = time.monotonic()
        self._counted = 0
        self._shown = False

    def __call__(self, size: int) -> None:
        """Show the size that is counted next, once the sweep takes longer than people like."""
        if time.monotonic() - self._start > _PATIENCE_IN_SECONDS:
            self._show(f"counting {self._subject} = {size:,} ({self._counted:,} sizes counted)")
        self._counted += 1

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            self._show("")

    def _show(self, line: str) -> None:
        if self._reporter is None or not self._reporter.isatty:
            return
        uncaptured = self._capture.global_and_fixture_disabled if self._capture else nullcontext
        with uncaptured():
            if not self._shown:
                self._reporter.ensure_newline()
            self._reporter.rewrite(line, erase=True)
        self._shown = True
