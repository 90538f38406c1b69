"""Threads that `threading` has not started: those of the module `_thread` itself, and those in C.

Python numbers the states of its threads as they begin, whoever starts them and however soon they
end, so the number of one that begins now tells how many there were (PyThreadState_GetID,
https://docs.python.org/3/c-api/init.html). A thread in C has a new state for each of its calls of
Python; one that never calls Python is not known at all.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTLING = 0.002  # seconds, after which a thread that has ended is taken from the count
_AUTOGRADS = "pt_autograd_"  # how PyTorch names the threads of devices, one for each

_state = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_Get", ctypes.pythonapi))
_number_of = ctypes.PYFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(
    ("PyThreadState_GetID", ctypes.pythonapi)
)
_start = _thread.start_new_thread  # while a meter counts, another function has its name


class RawThreads:
    """How many there were since a meter has begun."""

    def begin(self) -> None:
        """Note which there are."""
        self._older = _alive()
        self._autograds = _autograds()
        self._number = _number_of_next()
        self._not_raw = _not_raw.begun

    def beside(self, counted: Mapping[int, int]) -> int:
        """How many there were or are, beside those of the first hour.

        Args:
            counted: Those that are counted: their numbers, and their native identifiers.
        """
        begun = _number_of_next() - self._number - (_not_raw.begun - self._not_raw)
        known = {native for number, native in counted.items() if number > self._number}
        known |= _autograds() - self._autograds
        # one that was just being started when the meter began is there now
        return max(max(self._older + begun, _alive()) - len(known), 0)


class _NotRaw:
    """How many have begun that `threading` or this module has started."""

    def __init__(self) -> None:
        self.begun = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.begun += 1


_not_raw = _NotRaw()
note_other = _not_raw.add
"""Note that a thread has begun that is not raw."""


def is_raw() -> bool:
    """Whether the calling thread is raw; those of devices, which autograd has started, are."""
    return threading.get_ident() not in _started_by_threading()


def number() -> int:
    """The number of the calling thread's state; the later it has begun, the higher."""
    return int(_number_of(_state()))


def _number_of_next() -> int:
    numbers: list[int] = []
    told = _thread.allocate_lock()
    told.acquire()

    def tell() -> None:
        numbers.append(number())
        told.release()

    _start(tell, ())
    note_other()
    told.acquire()
    return numbers[0]


def _started_by_threading() -> list[int | None]:
    threads = threading.enumerate()  # lists raw ones, too, once they have asked who they are
    return [thread.ident for thread in threads if not isinstance(thread, threading._DummyThread)]  # noqa: SLF001


def _autograds() -> set[int]:
    """Native identifiers of the threads of devices; Linux tells, by proc(5)."""
    tasks = Path("/proc/self/task").glob("*")
    return {int(task.name) for task in tasks if _name(task).startswith(_AUTOGRADS)}


def _name(task: Path) -> str:
    try:
        return task.joinpath("comm").read_text(errors="replace")
    except OSError:
        return ""  # it has ended


def _alive() -> int:
    found = _count() - _of_the_first_hour
    if found > 0:
        time.sleep(_SETTLING)
        found = min(found, _count() - _of_the_first_hour)
    return max(found, 0)


def _count() -> int:
    main = 1  # which Python does not count
    return _thread._count() - len(_started_by_threading()) + main  # noqa: SLF001 - no public one


def _begin_to_count() -> None:
    """Those that are there already are the surroundings', such as pytest-xdist's."""
    global _of_the_first_hour  # noqa: PLW0603
    _of_the_first_hour = _count()


_of_the_first_hour = 0
_begin_to_count()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_to_count)  # where the parent's are counted still
