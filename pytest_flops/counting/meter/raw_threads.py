"""Threads that `threading` has not started: those of the module `_thread` itself, and those in C.

Python numbers the states of its threads as they begin, whoever starts them and however soon they
end, so the number of a new one tells how many there were (PyThreadState_GetID,
https://docs.python.org/3/c-api/init.html). A thread in C has a new state for each of its calls of
Python, or keeps one between them. One that never calls Python is not known.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain, repeat, starmap, takewhile
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.meter.running_threads import (
    calls_up_to,
    is_part_of,
    module_of,
    running_threads,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SETTLING = 0.005  # seconds, after which a thread runs that has just been started
_ATTEMPTS = 5
_PATIENCE = 0.1  # seconds
_AT_WORK_IN_C = ("torch", "pytest_flops", "contextlib")
_TASKS = "/proc/self/task"
_AUTOGRADS = b"pt_autograd_"  # how PyTorch names the threads of devices, one for each

# The interpreter's own functions; all of them want the lock that a call from Python holds.
_Pointer = ctypes.c_void_p
_interpreter = ctypes.PYFUNCTYPE(_Pointer)(("PyInterpreterState_Get", ctypes.pythonapi))
_head = ctypes.PYFUNCTYPE(_Pointer, _Pointer)(("PyInterpreterState_ThreadHead", ctypes.pythonapi))
_next = ctypes.PYFUNCTYPE(_Pointer, _Pointer)(("PyThreadState_Next", ctypes.pythonapi))
_new = ctypes.PYFUNCTYPE(_Pointer, _Pointer)(("PyThreadState_New", ctypes.pythonapi))
_current = ctypes.PYFUNCTYPE(_Pointer)(("PyThreadState_Get", ctypes.pythonapi))
_number = ctypes.PYFUNCTYPE(ctypes.c_uint64, _Pointer)(("PyThreadState_GetID", ctypes.pythonapi))
_clear = ctypes.PYFUNCTYPE(None, _Pointer)(("PyThreadState_Clear", ctypes.pythonapi))
_delete = ctypes.PYFUNCTYPE(None, _Pointer)(("PyThreadState_Delete", ctypes.pythonapi))


class RawThreads:
    """How many have begun since a meter has, and how many were there in no call of Python."""

    def begin(self) -> None:
        """Note the last that has begun."""
        self._autograds = _autograds()
        self._in_no_call = _in_no_call(len(self._autograds))
        self._number, self._others = _states.look()

    def beside(self, counted: Mapping[int, int]) -> int:
        """How many have begun since, though they may have ended, or may have called Python since.

        Args:
            counted: PyTorch's own: their numbers, and their native identifiers.
        """
        return self._in_no_call + self._begun_beside(counted)

    def _begun_beside(self, counted: Mapping[int, int]) -> int:
        last, others = _states.look()
        begun = last - self._number - (others - self._others)
        newer = {made: native for made, native in counted.items() if made > self._number}
        unknown = begun - len(newer)
        if unknown <= 0:
            return 0
        for _ in range(_ATTEMPTS):
            devices = _autograds() - self._autograds - {*newer.values()}
            if unknown <= len(devices):
                return 0
            time.sleep(_SETTLING)  # one begins, and then takes its name
        return unknown - len(devices)


def _in_no_call(devices: int) -> int:
    """How many threads there are, beside those of devices, that have a state but run no Python.

    A thread in C may keep its state between two calls, and one of the module `_thread` may have
    been started with a function that is written in C.
    """
    for _ in range(_ATTEMPTS):
        found = _count_states() - len(running_threads()) - 1 - devices
        if found <= 0:
            return 0
        time.sleep(_SETTLING)  # it may just begin or end
    return found


@dataclass(frozen=True)
class Seen:
    """The work of a thread that is seen to start, and so is not raw."""

    work: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do it."""
        return self.work(*args, **kwargs)


class _States:
    """The numbers of states, and how many of them are no raw thread's.

    Those are of threads that `threading` starts, or made here for nobody.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._others = 0
        self._raw_at_rest = 0

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While active, nobody else starts a thread that is not raw, or looks."""
        # In vain only where a finalizer starts a thread in one that is being started just now.
        got = self._lock.acquire(timeout=_PATIENCE)
        try:
            yield
        finally:
            if got:
                self._lock.release()

    @contextmanager
    def beginning_other(self) -> Iterator[None]:
        """While active, a thread is started that is not raw."""
        with self._alone():
            before = _next_number()
            try:
                yield
            finally:
                made = _next_number() - before - 1
                self._others += 2 + min(made, 1)  # none, where the start has failed

    def look(self) -> tuple[int, int]:
        """The next number, and of those up to it, how many others there are."""
        with self._alone():
            self._others += 1
            return _next_number(), self._others

    def let_raw_threads_begin(self) -> None:
        """Let raw threads that have just been started run, so that they are found."""
        number, others = self.look()
        if number - others > self._raw_at_rest:
            self._raw_at_rest = number - others
            time.sleep(_SETTLING)


def _count_states() -> int:
    # None is let go of while this thread runs no Python code, so the way through them is in C.
    first = starmap(_head, ((_interpreter(),),))
    states = accumulate(chain(first, repeat(0)), _next)  # which ignores its second argument
    return len([*takewhile(bool, states)])


def _next_number() -> int:
    """The number of a state that is made for nobody."""
    state = _new(_interpreter())
    made = int(_number(state))
    _clear(state)
    _delete(state)
    return made


def number() -> int:
    """The number of the calling thread's state; the later it has begun, the higher."""
    return int(_number(_current()))


def belongs_to_pytorch() -> bool:
    """Whether the calling thread is in C, and PyTorch alone has made it call Python.

    All that it runs is counted. A raw thread may run something besides what is.
    """
    calls = calls_up_to(sys._getframe(1))  # noqa: SLF001 - not this call, which would hold itself
    is_started = calls[0].f_code is Seen.__call__.__code__
    return not is_started and all(is_part_of(module_of(call), _AT_WORK_IN_C) for call in calls)


def _autograds() -> set[int]:
    """Native identifiers of the threads of devices, where there is proc(5)."""
    try:
        tasks = os.listdir(_TASKS)  # noqa: PTH208 - a processor each may have a thread: be quick
    except OSError:
        return set()
    return {int(task) for task in tasks if _name(task).startswith(_AUTOGRADS)}


def _name(task: str) -> bytes:
    try:
        file = os.open(f"{_TASKS}/{task}/comm", os.O_RDONLY)
    except OSError:
        return b""  # it has ended
    try:
        return os.read(file, 16)
    except OSError:
        return b""
    finally:
        os.close(file)


_states = _States()
beginning_other = _states.beginning_other
let_raw_threads_begin = _states.let_raw_threads_begin
