"""The threads that run Python code, whoever has started them, and how long a processor ran each.

Linux tells the CPU time of each thread (clock_gettime(2)); no other system does.
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from itertools import chain, starmap, tee
from operator import itemgetter
from pathlib import Path
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

_CPU_TIME_OF_A_THREAD = 6  # the last three bits of a clock's number; the rest is the thread's
_alone = threading.RLock()
_AROUND = ("torch", "pytest_flops")
_Frame: TypeAlias = tuple[int, FrameType]


@dataclass(frozen=True)
class RunningThread:
    """A thread, as it was at one moment.

    Attributes:
        native_id: What the system calls it, or what Python does where only that is known.
        name: Its name; of a thread that Python has not named, what it runs.
        function: What it was started with, if that is written in Python.
    """

    native_id: int
    name: str
    function: Code | None


@dataclass(frozen=True)
class Code:
    """Where a function is written."""

    file: str
    names: dict[str, Any]

    @property
    def module(self) -> str:
        """The name of its module."""
        return str(self.names.get("__name__"))


def is_part_of(module: object, packages: tuple[str, ...]) -> bool:
    """Whether a module, given by its name, is one of these packages or in one of them."""
    name = f"{module}."
    return any(name.startswith(f"{package}.") for package in packages)


def running_threads() -> list[RunningThread]:
    """All but the calling thread."""
    started = _started_threads()
    here = threading.get_ident()
    return [
        _running_thread(native_id, started.get(ident), frame)
        for (ident, frame), native_id in _native_ids_of(_current_frames())
        if ident != here
    ]


def _started_threads() -> dict[int, threading.Thread]:
    # Not by threading.enumerate(): while it holds its lock, a signal's handler can wait for good.
    return threading._active.copy()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001


def _current_frames() -> Iterator[_Frame]:
    """Python's number of each thread, and the call it is in."""
    return chain.from_iterable(map(dict.items, starmap(sys._current_frames, ((),))))  # noqa: SLF001


def _native_ids_of(frames: Iterator[_Frame]) -> list[tuple[_Frame, int]]:
    if sys.platform != "linux":
        return [((ident, frame), ident) for ident, frame in frames]
    # A thread that has ended must not be asked for its clock. None ends before this thread runs
    # Python code again, so from the first frame to the last clock everything is done in C.
    frames, again = tee(frames)
    clocks = map(time.pthread_getcpuclockid, map(itemgetter(0), again))
    with _alone:
        collects = gc.isenabled()
        try:
            gc.disable()  # while frames are made, it can block for good (python/cpython#106883)
            found = list(zip(frames, clocks))  # noqa: B905 - they are as many
        finally:
            if collects:
                gc.enable()
    return [(frame, ~clock >> 3) for frame, clock in found]


def cpu_time(native_id: int) -> int | None:
    """Nanoseconds; None if the thread has ended or the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime_ns(~native_id << 3 | _CPU_TIME_OF_A_THREAD)
    except OSError:
        return None


def is_about_to_run(native_id: int) -> bool:
    """Whether a thread waits for nothing but a processor, by proc(5)."""
    try:
        told = Path(f"/proc/self/task/{native_id}/stat").read_bytes()
    except OSError:
        return False
    return told.rpartition(b") ")[2].startswith(b"R")


def _running_thread(
    native_id: int, thread: threading.Thread | None, frame: FrameType
) -> RunningThread:
    if thread is None or isinstance(thread, threading._DummyThread):  # noqa: SLF001
        first = _first_call(frame)
        code = Code(first.f_code.co_filename, first.f_globals)
        return RunningThread(native_id, _name(thread, first), code)
    function = _function_of(thread)
    written = Code(function.__code__.co_filename, function.__globals__) if function else None
    return RunningThread(native_id, thread.name, written)


def name_of_this_thread() -> str:
    """As in `RunningThread`; unlike `threading.current_thread()`, it puts the thread in no list."""
    thread = _started_threads().get(threading.get_ident())
    return _name(thread, _first_call(sys._getframe()))  # noqa: SLF001


def _name(thread: threading.Thread | None, first: FrameType) -> str:
    return thread.name if thread else f"running {first.f_code.co_name}"


def _first_call(frame: FrameType) -> FrameType:
    """The call that a thread began with, besides what PyTorch or a meter has put around it."""
    calls = calls_up_to(frame)
    return next((call for call in calls if not is_part_of(module_of(call), _AROUND)), calls[0])


def calls_up_to(frame: FrameType) -> list[FrameType]:
    """The calls that a thread is in, outermost first."""
    calls = [frame]
    while (caller := calls[-1].f_back) is not None:
        calls.append(caller)
    return calls[::-1]


def module_of(call: FrameType) -> str:
    """The name of the module in which a function that is being called is written."""
    return str(call.f_globals.get("__name__"))


def _function_of(thread: threading.Thread) -> FunctionType | None:
    run = type(thread).run
    function: Any = run
    if run is threading.Thread.run:
        function = getattr(thread, "_target", None)
    elif isinstance(thread, threading.Timer):
        function = thread.function
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - it, not whether
    if isinstance(function, FunctionType):
        wrapped = inspect.unwrap(function)  # by torch.no_grad(), say
        function = getattr(wrapped, "__func__", wrapped)
    return function if isinstance(function, FunctionType) else None
