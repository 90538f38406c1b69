"""Which threads, older than a meter, have run meanwhile: what they computed, nobody has seen.

A dispatch mode belongs to one thread, and nothing puts one into another thread. PyTorch's profiler
can watch all threads, but to stop it while they compute crashes the process (2.11 to 2.13). So it
is only known that a thread has run at all, by the CPU time that Linux has given it. Where the
system does not tell, a thread is taken for running.

What the main thread ran may well belong to a model, and so may what an event loop ran, or a thread
that was started with a function of the project or of a package that uses PyTorch. Other threads are
those of a progress bar, a logger, a server: they wake now and then. A pool's worker is one of them:
what it ran besides the work that is counted, nobody knows.
"""

from __future__ import annotations

import threading
import time
from functools import cache, partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

_STANDARD_LIBRARY = Path(threading.__file__).parent
_NEVER_AT_WORK = ("torch", "pytest_flops")  # their own threads compute nothing of the model
_SETTLING = 0.002  # seconds, after which a thread that has just been started waits for work
_ATTEMPTS = 25


class OlderThreads:
    """The threads that were there before a meter, and how much each had run."""

    def __init__(self) -> None:
        self._cpu_times: dict[threading.Thread, int | None] = {}
        self._suspects: set[threading.Thread] = set()

    def begin(self) -> None:
        """Note what each has run, once those that have just been started are idle."""
        threads = [thread for thread in threading.enumerate() if _is_watched(thread)]
        # one that has ended does not tell
        self._suspects = set(filter(_is_suspect, threads))
        self._cpu_times = _cpu_times(threads)
        for _ in range(_ATTEMPTS if threads else 0):
            time.sleep(_SETTLING)
            before, self._cpu_times = self._cpu_times, _cpu_times(threads)
            if self._cpu_times == before and not any(map(_is_about_to_run, threads)):
                break
        if _cpu_time(threading.current_thread()) is not None:
            # Python lists threads that it has not started even when they have ended
            self._cpu_times = {t: ran for t, ran in self._cpu_times.items() if ran is not None}

    def watch(self, thread: threading.Thread) -> None:
        """Look at a thread that is being started, too: it runs what was given before."""
        self._cpu_times[thread] = 0

    def ignore(self, thread: threading.Thread) -> None:
        """From now on, what a thread runs is none of this meter's business."""
        self._cpu_times.pop(thread, None)

    def may_be_the_models(self, thread: threading.Thread) -> bool:
        """Whether what a thread ran may well be a part of a model's step."""
        return thread in self._suspects

    def that_ran(self) -> list[threading.Thread]:
        """Those that have run since, or may have."""
        return [
            thread
            for thread, before in self._cpu_times.items()
            if before is None or (now := _cpu_time(thread)) is None or now > before
        ]


def _cpu_times(threads: list[threading.Thread]) -> dict[threading.Thread, int | None]:
    return {thread: _cpu_time(thread) for thread in threads}


def _cpu_time(thread: threading.Thread) -> int | None:
    """Nanoseconds, by proc(5); None if the thread has ended or the system does not tell."""
    told = _proc(thread, "schedstat")
    return int(told.split()[0]) if told else None


def _is_about_to_run(thread: threading.Thread) -> bool:
    """Whether it waits for nothing but a processor."""
    _, _, told = _proc(thread, "stat").rpartition(b") ")
    return told.startswith(b"R")


def _proc(thread: threading.Thread, file: str) -> bytes:
    try:
        return Path(f"/proc/self/task/{thread.native_id}/{file}").read_bytes()
    except OSError:
        return b""


def _is_suspect(thread: threading.Thread) -> bool:
    return thread is threading.main_thread() or _is_at_work(_function_of(thread))


def _is_watched(thread: threading.Thread) -> bool:
    if thread is threading.current_thread():
        return False
    function = _function_of(thread)
    return function is None or _package(function.__module__) not in _NEVER_AT_WORK


def _function_of(thread: threading.Thread) -> FunctionType | None:
    """The function that a thread was started with, if it is written in Python."""
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
    return function if isinstance(function, FunctionType) else None


def _is_at_work(function: FunctionType | None) -> bool:
    if function is None:
        return False
    if _package(function.__module__) == "asyncio":
        return True  # what a loop runs was given to it later
    names = [*function.__globals__.values()]
    return not _is_installed(function.__code__.co_filename) or any(map(_is_torchs, names))


@cache
def _is_installed(file: str) -> bool:
    path = Path(file)
    return (
        file.startswith("<")
        or path.is_relative_to(_STANDARD_LIBRARY)
        or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    )


def _is_torchs(value: object) -> bool:
    if isinstance(value, ModuleType):
        return _package(vars(value).get("__name__")) == "torch"
    return isinstance(value, type | FunctionType) and _package(value.__module__) == "torch"


def _package(module: object) -> str:
    return str(module).partition(".")[0]
