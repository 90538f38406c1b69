"""Counting in every thread: PyTorch's dispatch modes are active in one thread only.

What a counted thread sets going is counted whole: a thread that it starts, and work that it gives
to a pool, even one that is older than the meter. Of other threads that are older than the meter,
the modules that they call are counted; that they ran is reported as uncounted, since nobody sees
what they compute besides. A thread with a meter of its own is left to that meter.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import wraps
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flops.counting.dispatch import CountingMode
from pytest_flops.counting.older_threads import OlderThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.nn import Module

    from pytest_flops.counting.attribution import Attribution, Frame


class Threads:
    """Brings the counting into threads other than the one that entered the meter."""

    def __init__(self, attribution: Attribution) -> None:
        self._attribution = attribution
        self._older = OlderThreads()
        self._owner = threading.current_thread()
        self._joined = {threading.get_ident()}
        self._visits: dict[int, CountingMode] = {}
        attribution.on_outermost_call = self._enter_older_thread
        attribution.on_outermost_return = self._leave_older_thread
        attribution.on_step = self._report_step

    @contextmanager
    def joining(self) -> Iterator[None]:
        """While active, what counted threads set going is counted from its first operator on."""
        self._older.begin()
        _hand_over.begin(self)
        try:
            yield
        finally:
            _hand_over.end(self)
            for thread in self._older.that_ran():
                self._report(thread)
            if self._visits:
                self._leave_when_they_return()

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
        if not self.counts_here() and not _hand_over.left_to_another(self):
            mode = CountingMode(self._attribution)
            self._visits[threading.get_ident()] = mode
            mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave_older_thread(self) -> None:
        mode = self._visits.pop(threading.get_ident(), None)
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._report(threading.current_thread())

    def _leave_when_they_return(self) -> None:
        """Take the counting out of threads that are inside a module when the meter ends."""

        def leave(module: Module, _inputs: Any, _output: Any) -> None:
            frames = self._attribution.here.frames
            if len(frames) > 1 and frames[1].call is module:
                self._leave_older_thread()
            if not self._visits:
                hook.remove()

        hook = register_module_forward_hook(leave, always_call=True)

    def _report_step(self) -> None:
        if not self.counts_here() and not _hand_over.left_to_another(self):
            self._report(threading.current_thread())

    def counts_here(self) -> bool:
        """Whether the calling thread is counted."""
        if threading.get_ident() in self._joined:
            return True
        return any(  # autograd's own threads inherit the modes of the thread they work for
            isinstance(mode, CountingMode) and mode.attribution is self._attribution
            for mode in _get_current_dispatch_mode_stack()
        )

    def leaves_to(self, other: Threads) -> bool:
        """Whether another meter, of another thread, counts the calling thread."""
        return other._owner is not self._owner and threading.get_ident() in other._joined

    def ignore_owner_of(self, other: Threads) -> None:
        """Leave the thread that entered another meter to that meter."""
        if other._owner is not self._owner:
            self._older.ignore(other._owner)

    def _report(self, thread: threading.Thread) -> None:
        self._older.ignore(thread)  # once is enough
        report = f"(thread {thread.name}, older than the meter, where only modules are counted)"
        self._attribution.here.uncounted[report] = 1


class _Starts(threading.local):
    """Whether what the calling thread starts are workers of a pool.

    They may outlive the meter, so only their work is counted.
    """

    workers = False


class _HandOver:
    """The ways to set another thread to work, replaced while any meter counts.

    Meters may overlap in any order, so what is replaced belongs to all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters: list[Threads] = []
        self._starts = _Starts()
        self._undo = ExitStack()

    def begin(self, meter: Threads) -> None:
        with self._lock:
            if not self._meters:
                self._replace()
            for other in self._meters:
                other.ignore_owner_of(meter)
                meter.ignore_owner_of(other)
            self._meters.append(meter)

    def end(self, meter: Threads) -> None:
        with self._lock:
            self._meters.remove(meter)
            if not self._meters:
                self._undo.close()

    def left_to_another(self, meter: Threads) -> bool:
        """Whether the calling thread is the business of another meter."""
        return any(meter.leaves_to(other) for other in tuple(self._meters))

    def _replace(self) -> None:
        begin_thread = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if not self._starts.workers:
                thread.run = self._counted(thread.run)  # type: ignore[method-assign]
            begin_thread(thread)

        self._replace_method(threading.Thread, "start", start)
        self._replace_method(ThreadPoolExecutor, "submit", self._giving(ThreadPoolExecutor.submit))
        for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
            self._replace_method(ThreadPool, name, self._giving(getattr(ThreadPool, name)))
        self._replace_method(ThreadPool, "__init__", self._uncounted(ThreadPool.__init__))

    def _replace_method(self, owner: type, name: str, method: Any) -> None:
        if name in vars(owner):
            self._undo.callback(setattr, owner, name, vars(owner)[name])
        else:
            self._undo.callback(delattr, owner, name)
        setattr(owner, name, method)

    def _giving(self, give: Callable[..., Any]) -> Callable[..., Any]:
        """A pool's method that takes work first, so that the work is counted."""
        give = self._uncounted(give)

        @wraps(give)
        def give_counted(pool: Any, /, *args: Any, **kwargs: Any) -> Any:
            if args:
                return give(pool, self._counted(args[0]), *args[1:], **kwargs)
            if "func" in kwargs:
                kwargs["func"] = self._counted(kwargs["func"])
            return give(pool, **kwargs)

        return give_counted

    def _uncounted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A pool's method that may start workers, which are not counted themselves."""

        @wraps(call)
        def call_uncounted(*args: Any, **kwargs: Any) -> Any:
            before, self._starts.workers = self._starts.workers, True
            try:
                return call(*args, **kwargs)
            finally:
                self._starts.workers = before

        return call_uncounted

    def _counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        for meter in tuple(self._meters):
            if meter.counts_here():
                work = meter.counted(work)
        return work


_hand_over = _HandOver()
