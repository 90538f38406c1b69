"""Counting in every thread: PyTorch's dispatch modes are active in one thread only.

What a counted thread sets going is counted whole: a thread that it starts, and work that it gives
to a `ThreadPoolExecutor`, even one that is older than the meter. Of other threads that are older
than the meter, such as a `multiprocessing` thread pool's, the modules that they call are counted;
the rest is not seen. That something may be missing is then reported as uncounted, provided the
thread called a module or an optimizer.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flops.counting.dispatch import CountingMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flops.counting.attribution import Attribution, Frame


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
        """While active, what counted threads set going is counted from its first operator on."""
        _hand_over.begin(self)
        try:
            yield
        finally:
            _hand_over.end(self)

    def counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Work for another thread, as a part of the call that sets it going."""
        giver = self._attribution.here.frames[-1]

        def counted_work(*args: Any, **kwargs: Any) -> Any:
            with self._joined_by(giver):
                return work(*args, **kwargs)

        return counted_work

    @contextmanager
    def _joined_by(self, giver: Frame) -> Iterator[None]:
        thread = threading.get_ident()
        with self._attribution.adopted_by(giver):
            if thread in self._joined:
                yield
                return
            self._joined.add(thread)
            try:
                with CountingMode(self._attribution):
                    yield
            finally:
                self._joined.discard(thread)  # the number may become another thread's

    def _enter_older_thread(self) -> None:
        if not self.counts_here():
            mode = CountingMode(self._attribution)
            self._visits[threading.get_ident()] = mode
            mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave_older_thread(self) -> None:
        mode = self._visits.pop(threading.get_ident(), None)
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._report("outside modules")

    def _report_step(self) -> None:
        if not self.counts_here():
            self._report("an optimizer step")

    def counts_here(self) -> bool:
        """Whether the calling thread is counted."""
        if threading.get_ident() in self._joined:
            return True
        return any(  # autograd's own threads inherit the modes of the thread they work for
            isinstance(mode, CountingMode) and mode.attribution is self._attribution
            for mode in _get_current_dispatch_mode_stack()
        )

    def _report(self, what: str) -> None:
        name = threading.current_thread().name
        self._attribution.here.uncounted[f"({what}, in thread {name}, older than the meter)"] += 1


class _Submits(threading.local):
    """Whether the calling thread is giving work to a pool, which may start a worker for it.

    The worker outlives the meter, so only its work is counted.
    """

    here = False


class _HandOver:
    """The two ways to set another thread to work, replaced while any meter counts.

    Meters may overlap in any order, so what is replaced belongs to all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters: list[Threads] = []
        self._submits = _Submits()
        self._start = threading.Thread.start
        self._submit = ThreadPoolExecutor.submit

    def begin(self, meter: Threads) -> None:
        with self._lock:
            if not self._meters:
                self._replace()
            self._meters.append(meter)

    def end(self, meter: Threads) -> None:
        with self._lock:
            self._meters.remove(meter)
            if not self._meters:
                threading.Thread.start = self._start  # type: ignore[method-assign]
                ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]

    def _replace(self) -> None:
        self._start, self._submit = threading.Thread.start, ThreadPoolExecutor.submit

        def start(thread: threading.Thread) -> None:
            if not self._submits.here:
                thread.run = self._counted(thread.run)  # type: ignore[method-assign]
            self._start(thread)

        def submit(pool: Any, work: Any, /, *args: Any, **kwargs: Any) -> Any:
            counted = self._counted(work)
            self._submits.here = True
            try:
                return self._submit(pool, counted, *args, **kwargs)
            finally:
                self._submits.here = False

        threading.Thread.start = start  # type: ignore[method-assign, assignment]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]

    def _counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        for meter in tuple(self._meters):
            if meter.counts_here():
                work = meter.counted(work)
        return work


_hand_over = _HandOver()
