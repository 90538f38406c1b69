"""Counting in every thread: PyTorch's dispatch modes are active in one thread only.

A thread that starts while a meter is active joins it, and is counted whole. In a thread that is
older than the meter, such as a pool's worker, the modules it calls are counted; what it does
outside modules cannot be seen and is reported as uncounted.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flops.counting.dispatch import CountingMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flops.counting.attribution import Attribution


class Threads:
    """Brings the counting into threads other than the one that entered the meter."""

    def __init__(self, attribution: Attribution) -> None:
        self._attribution = attribution
        self._joined = {threading.get_ident()}
        self._visits: dict[int, CountingMode] = {}
        attribution.on_outermost_call = self._enter_older_thread
        attribution.on_outermost_return = self._leave_older_thread
        attribution.on_step = self._report_step

    @contextmanager
    def joining(self) -> Iterator[None]:
        """While active, threads that start are counted from their first operator on."""
        original = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            thread.run = self._counted(thread.run)  # type: ignore[method-assign]
            original(thread)

        threading.Thread.start = start  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            threading.Thread.start = original  # type: ignore[method-assign]

    def _counted(self, run: Callable[[], None]) -> Callable[[], None]:
        starter = self._attribution.here.frames[-1]

        def counted_run() -> None:
            self._joined.add(threading.get_ident())
            self._attribution.adopt(starter)
            with CountingMode(self._attribution):
                run()

        return counted_run

    def _enter_older_thread(self) -> None:
        if not self._is_counted():
            mode = CountingMode(self._attribution)
            self._visits[threading.get_ident()] = mode
            mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave_older_thread(self) -> None:
        mode = self._visits.pop(threading.get_ident(), None)
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._report("outside modules")

    def _report_step(self) -> None:
        if not self._is_counted():
            self._report("an optimizer step")

    def _is_counted(self) -> bool:
        if threading.get_ident() in self._joined:
            return True
        return any(  # autograd's own threads inherit the modes of the thread they work for
            isinstance(mode, CountingMode) and mode.attribution is self._attribution
            for mode in _get_current_dispatch_mode_stack()
        )

    def _report(self, what: str) -> None:
        name = threading.current_thread().name
        self._attribution.here.uncounted[f"({what}, in thread {name}, older than the meter)"] += 1
