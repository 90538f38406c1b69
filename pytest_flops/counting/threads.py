"""Counting in every thread: PyTorch's dispatch modes are active in one thread only.

What a counted thread sets going is counted whole: a thread that it starts, and work that it gives
to a pool, even one that is older than the meter. Of other threads that are older than the meter,
the modules that they call are counted; that they ran is reported, since nobody sees what they
compute besides: as uncounted if it may well belong to a model, else as unseen. A thread with a
meter of its own is left to that meter.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flops.counting.backward_in_place import backward_in_place
from pytest_flops.counting.dispatch import CountingMode
from pytest_flops.counting.hand_over import hand_over
from pytest_flops.counting.older_threads import OlderThreads, may_be_the_models
from pytest_flops.counting.raw_threads import RawThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.nn import Module

    from pytest_flops.counting.attribution import Attribution, Frame


class Threads:
    """Brings the counting into threads other than the one that entered the meter."""

    def __init__(self, attribution: Attribution) -> None:
        self._attribution = attribution
        self._older = OlderThreads()
        self._raw = RawThreads()
        self._owner = threading.get_native_id()
        self._joined = {threading.get_ident()}
        self._visits: dict[int, CountingMode] = {}
        attribution.on_outermost_call = self._enter_older_thread
        attribution.on_outermost_return = self._leave_older_thread
        attribution.on_step = self._report_step

    @contextmanager
    def joining(self) -> Iterator[None]:
        """While active, what counted threads set going is counted from its first operator on."""
        self._older.begin()
        hand_over.begin(self)
        raw = 0
        try:
            self._raw.begin()
            try:
                yield
            finally:
                raw = self._raw.beside(self._attribution.pytorchs_threads.copy())
        finally:
            hand_over.end(self)
            for thread in self._older.that_ran():
                if may_be_the_models(thread):
                    self._report(thread.name)
                else:
                    self._attribution.unseen.add(thread.name)
            if raw:
                self._attribution.unseen.add(f"{raw} of the module _thread, or in C")
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
                with backward_in_place(), CountingMode(self._attribution):
                    yield
            finally:
                self._joined.discard(thread)  # the number may become another thread's

    def _enter_older_thread(self) -> None:
        if not self.counts_here() and not hand_over.left_to_another(self):
            mode = CountingMode(self._attribution)
            self._visits[threading.get_ident()] = mode
            mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave_older_thread(self) -> None:
        mode = self._visits.pop(threading.get_ident(), None)
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._report_this_thread()

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
        if not self.counts_here() and not hand_over.left_to_another(self):
            self._report_this_thread()

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
        return other._owner != self._owner and threading.get_ident() in other._joined

    def watch(self, thread: threading.Thread) -> None:
        """Report a thread that a counted one starts, but that runs what others gave."""
        self._older.watch(thread)

    def ignore_owner_of(self, other: Threads) -> None:
        """Leave the thread that entered another meter to that meter."""
        if other._owner != self._owner:
            self._older.ignore(other._owner)

    def _report_this_thread(self) -> None:
        self._older.ignore(threading.get_native_id())  # once is enough
        self._report(threading.current_thread().name)

    def _report(self, thread: str) -> None:
        report = f"(thread {thread}, older than the meter, where only modules are counted)"
        self._attribution.here.uncounted[report] = 1
