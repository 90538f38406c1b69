"""Threads that `threading` has not started: those of the module `_thread` itself, and those in C.

Python numbers the states of its threads as they begin, whoever starts them and however soon they
end, so the number of a new one tells how many there were (PyThreadState_GetID,
https://docs.python.org/3/c-api/init.html). A thread in C has a new state for each of its calls of
Python; one that never calls Python is not known at all.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SETTLING = 0.005  # seconds, after which a thread runs that has just been started
_ATTEMPTS = 5
_TASKS = "/proc/self/task"
_AUTOGRADS = b"pt_autograd_"  # how PyTorch names the threads of devices, one for each

# The interpreter's own functions; all of them want the lock that a call from Python holds.
_Pointer = ctypes.c_void_p
_interpreter = ctypes.PYFUNCTYPE(_Pointer)(("PyInterpreterState_Get", ctypes.pythonapi))
_new = ctypes.PYFUNCTYPE(_Pointer, _Pointer)(("PyThreadState_New", ctypes.pythonapi))
_current = ctypes.PYFUNCTYPE(_Pointer)(("PyThreadState_Get", ctypes.pythonapi))
_number = ctypes.PYFUNCTYPE(ctypes.c_uint64, _Pointer)(("PyThreadState_GetID", ctypes.pythonapi))
_clear = ctypes.PYFUNCTYPE(None, _Pointer)(("PyThreadState_Clear", ctypes.pythonapi))
_delete = ctypes.PYFUNCTYPE(None, _Pointer)(("PyThreadState_Delete", ctypes.pythonapi))


class RawThreads:
    """How many there were since a meter has begun."""

    def begin(self) -> None:
        """Note which there are."""
        _states.settle()
        self._older = max(_alive() - is_raw(), 0)  # beside the one that counts
        self._autograds = _autograds()
        self._number, self._others, _ = _states.look()

    def beside(self, counted: Mapping[int, int]) -> int:
        """How many there were or are, beside those of the first hour.

        Args:
            counted: Those that are counted: their numbers, and their native identifiers.
        """
        if _is_distributed():
            return self._older
        last, _, others = _states.look()
        begun = last - self._number - (others - self._others)
        known = {native for made, native in counted.items() if made > self._number}
        for _ in range(_ATTEMPTS):
            if begun > len(known):
                known |= _autograds() - self._autograds
                time.sleep(_SETTLING)  # one begins, and then takes its name
        return self._older + max(begun - len(known), 0)


@dataclass(frozen=True)
class Seen:
    """The work of a thread that is seen to start, and so is not raw."""

    work: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do it."""
        return self.work(*args, **kwargs)


_OUTERMOST = (threading.Thread._bootstrap.__code__, Seen.__call__.__code__)  # type: ignore[attr-defined]  # noqa: SLF001


class _States:
    """The numbers of states, and how many of them are no raw thread's.

    Those are of threads that `threading` starts, or made here for nobody.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may start a thread at any time
        self._others_begin = self._others_begun = 0
        self._raw_at_rest = 0

    @contextmanager
    def beginning_other(self) -> Iterator[None]:
        """While active, a thread is started that is not raw."""
        with self._lock:
            self._others_begin += 1
        try:
            yield
        except BaseException:  # none has begun
            with self._lock:
                self._others_begin -= 1
            raise
        with self._lock:
            self._others_begun += 1

    def look(self) -> tuple[int, int, int]:
        """The next number; of those before, how many others there are, and how many may be."""
        with self._lock:
            self._others_begin += 1
            self._others_begun += 1
            return _next_number(), self._others_begun, self._others_begin

    def settle(self) -> None:
        """Let raw threads that have just been started run, so that they are found."""
        number, others, _ = self.look()
        if number - others > self._raw_at_rest:
            self._raw_at_rest = number - others
            time.sleep(_SETTLING)


def _is_distributed() -> bool:
    """Whether PyTorch's communication runs: its threads in C drop tensors, each with a state."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


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


def is_raw() -> bool:
    """Whether the calling thread is raw; those of devices, which autograd has started, are."""
    if threading.get_ident() == threading.main_thread().ident:
        return False
    frame = sys._getframe()  # noqa: SLF001
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code not in _OUTERMOST


def _alive() -> int:
    """How many of the module `_thread` there are, beside those of the first hour."""
    found = _count() - _of_the_first_hour
    for _ in range(_ATTEMPTS):
        if found <= 0:
            return 0
        time.sleep(_SETTLING)  # one that ends is in no list any more, and counts for a while
        found = min(found, _count() - _of_the_first_hour)
    return found


def _count() -> int:
    # sys._current_frames() would tell which they are, but it can deadlock (seen in 3.11.7)
    threads = threading.enumerate()  # lists raw ones, too, once they have asked who they are
    listed = [thread for thread in threads if not isinstance(thread, threading._DummyThread)]  # noqa: SLF001
    main = 1  # which Python does not count
    return _thread._count() - len(listed) + main  # noqa: SLF001 - there is no public count


def _begin_to_count() -> None:
    """Those that are there already are the surroundings', such as pytest-xdist's."""
    global _of_the_first_hour  # noqa: PLW0603
    _of_the_first_hour = _count()


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
_of_the_first_hour = 0
_begin_to_count()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_to_count)  # where the parent's are counted still
