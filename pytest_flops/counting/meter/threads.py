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

from pytest_flops.counting.meter.backward_in_place import backward_in_place
from pytest_flops.counting.meter.dispatch import CountingMode
from pytest_flops.counting.meter.hand_over import hand_over
from pytest_flops.counting.meter.older_threads import OlderThreads
from pytest_flops.counting.meter.raw_threads import RawThreads
from pytest_flops.counting.meter.running_threads import name_of_this_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.nn import Module

    from pytest_flops.counting.meter.attribution import Attribution, Frame


class Threads:
    """Brings the counting into threads other than the one that entered the meter."""

    def __init__(self, attribution: Attribution) -> None:
        self._attribution = attribution
        self._older = OlderThreads()
        self._raw = RawThreads()
        self.joined = {threading.get_native_id()}
        self.owner = threading.get_native_id()
        self._visits: dict[int, CountingMode] = {}
        attribution.on_outermost_call = self._enter_older_thread
        attribution.on_outermost_return = self._leave_older_thread
        attribution.on_step = self._report_step

    @contextmanager
    def joining(self) -> Iterator[None]:
        """While active, what counted threads set going is counted from its first operator on."""
        with self._beside_other_meters():
            self._raw.begin()
            self._older.begin()
            try:
                yield
            finally:
                self._report_what_ran()
                if self._visits:
                    self._leave_when_they_return()

    @contextmanager
    def _beside_other_meters(self) -> Iterator[None]:
        try:
            hand_over.begin(self)
            for other in hand_over.meters_of_other_threads(self):
                other.leave(self.owner)
                for thread in tuple(other.joined):
                    self.leave(thread)
            yield
        finally:
            hand_over.end(self)
            for other in hand_over.meters_of_other_threads(self):
                for thread in tuple(self.joined):
                    other.take_back(thread)

    def _report_what_ran(self) -> None:
        raw = self._raw.beside(self._attribution.pytorchs_threads.copy())
        if raw:
            self._attribution.unseen.add(f"{raw} of the module _thread, or in C")
        for thread in self._older.that_ran():
            if self._older.may_be_the_models(thread):
                self._report(thread.name)
            else:
                self._attribution.unseen.add(thread.name)

    def counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Work for another thread, as a part of the call that sets it going."""
        giver = self._attribution.here.frames[-1]

        def counted_work(*args: Any, **kwargs: Any) -> Any:
            with self._joined_by(giver):
                return work(*args, **kwargs)

        return counted_work

    @contextmanager
    def _joined_by(self, giver: Frame) -> Iterator[None]:
        with self._attribution.adopted_by(giver):
            if self.counts_here():
                yield
                return
            thread = threading.get_native_id()
            self.joined.add(thread)
            others = hand_over.meters_of_other_threads(self)  # a later one sees who has joined
            try:
                for other in others:
                    other.leave(thread)
                with backward_in_place(), CountingMode(self._attribution):
                    yield
            finally:
                self.joined.discard(thread)  # the number may become another thread's
                for other in others:
                    other.take_back(thread)

    def _enter_older_thread(self) -> None:
        if self._is_nobodys():
            mode = CountingMode(self._attribution)
            self._visits[threading.get_ident()] = mode
            mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave_older_thread(self) -> None:
        mode = self._visits.pop(threading.get_ident(), None)
        if mode is not None:
            mode.__exit__(None, None, None)
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
        if self._is_nobodys():
            self._report_this_thread()

    def counts_here(self) -> bool:
        """Whether the calling thread is counted."""
        return threading.get_native_id() in self.joined or self.sees_here()

    def sees_here(self) -> bool:
        """Whether the next operator is counted; inside one that is, nothing else is."""
        return any(  # autograd's own threads inherit the modes of the thread they work for
            isinstance(mode, CountingMode) and mode.attribution is self._attribution
            for mode in _get_current_dispatch_mode_stack()
        )

    def leave(self, thread: int) -> None:
        """Leave a thread to another meter, which counts it now."""
        self._older.leave(thread)

    def take_back(self, thread: int) -> None:
        """A meter of another thread counts a thread no more."""
        if not self._is_left_to_another(thread):
            self._older.take_back(thread)

    def _is_left_to_another(self, thread: int) -> bool:
        return any(thread in other.joined for other in hand_over.meters_of_other_threads(self))

    def _is_nobodys(self) -> bool:
        """Whether no meter counts the calling thread."""
        return not self.counts_here() and not self._is_left_to_another(threading.get_native_id())

    def watch(self, thread: threading.Thread) -> None:
        """Report a thread that a counted one starts, but that runs what others gave."""
        self._older.watch(thread)

    def _report_this_thread(self) -> None:
        self._older.ignore(threading.get_native_id())  # once is enough
        self._report(name_of_this_thread())

    def _report(self, thread: str) -> None:
        report = f"(thread {thread}, older than the meter, where only modules are counted)"
        self._attribution.here.uncounted[report] = 1
