"""Which threads, older than a meter, have run meanwhile: what they computed, nobody has seen.

A dispatch mode belongs to one thread, and nothing puts one into another thread. PyTorch's profiler
can watch all threads, but to stop it while they compute crashes the process, and so does its
execution trace where they compute with sparse tensors (2.11 to 2.13). So it is only known that a
thread has run at all, by the CPU time that Linux has given it. Where the system does not tell, a
thread is taken for running.

What the main thread ran may well belong to a model, and so may what an event loop ran, or a thread
that was started with a function of the project or of a package that uses PyTorch. Other threads are
those of a progress bar, a logger, a server: they wake now and then. A pool's worker is one of them:
what it ran besides the work that is counted, nobody knows.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType

from pytest_flops.counting.meter.raw_threads import let_raw_threads_begin
from pytest_flops.counting.meter.running_threads import (
    Code,
    RunningThread,
    cpu_time,
    is_about_to_run,
    is_part_of,
    running_threads,
)

_STANDARD_LIBRARY = Path(threading.__file__).parent
# They start threads that compute nothing of a model; execnet's are those of pytest-xdist.
_NEVER_AT_WORK = (
    "execnet",
    "pytest_flops",
    "torch._inductor",
    "torch.distributed.elastic",
    "torch.utils.data",
)
_SETTLING = 0.002  # seconds, after which a thread that has just been started waits for work
_ATTEMPTS = 25


class OlderThreads:
    """The threads that were there before a meter, and how much each had run.

    While another meter counts a thread it is left to that meter. What it ran besides may be no more
    than a meter's own code, so it is never taken for the model's.
    """

    def __init__(self) -> None:
        self._threads: dict[int, RunningThread] = {}
        self._cpu_times: dict[int, int | None] = {}
        self._started: list[threading.Thread] = []
        self._ran: set[int] = set()
        self._left: set[int] = set()
        self._have_been_left: set[int] = set()
        self._ignored: set[int] = set()

    def begin(self) -> None:
        """Note what each has run, once those that have just been started are idle."""
        let_raw_threads_begin()
        self._look()
        for _ in range(_ATTEMPTS if self._threads else 0):
            time.sleep(_SETTLING)
            before = self._cpu_times
            self._look()
            if self._cpu_times == before and not any(map(is_about_to_run, before)):
                break
        if cpu_time(threading.get_native_id()) is not None:
            self._ignored |= {each for each, ran in self._cpu_times.items() if ran is None}  # ended

    def _look(self) -> None:
        self._threads |= {each.native_id: each for each in running_threads() if _is_watched(each)}
        self._cpu_times = {native_id: cpu_time(native_id) for native_id in self._threads}

    def watch(self, thread: threading.Thread) -> None:
        """Look at a thread that is being started, too: it runs what was given before."""
        self._started.append(thread)

    def leave(self, native_id: int) -> None:
        """Another meter counts a thread from now on."""
        if native_id in self._cpu_times and self._has_run(native_id):
            self._ran.add(native_id)
        self._left.add(native_id)
        self._have_been_left.add(native_id)

    def take_back(self, native_id: int) -> None:
        """The other meter has counted a thread up to now."""
        if native_id in self._cpu_times:
            self._cpu_times[native_id] = cpu_time(native_id)
        self._left.discard(native_id)

    def ignore(self, native_id: int) -> None:
        """From now on, what a thread runs is none of this meter's business."""
        self._ignored.add(native_id)

    def that_ran(self) -> list[RunningThread]:
        """Those that have run since, or may have."""
        ran = [
            thread
            for native_id, thread in self._threads.items()
            if native_id in self._ran or (native_id not in self._left and self._has_run(native_id))
        ]
        ran += [
            RunningThread(thread.native_id, thread.name, None)
            for thread in self._started
            if thread.native_id is not None
        ]
        return [thread for thread in ran if thread.native_id not in self._ignored]

    def _has_run(self, native_id: int) -> bool:
        before, now = self._cpu_times[native_id], cpu_time(native_id)
        return before is None or now is None or now > before

    def may_be_the_models(self, thread: RunningThread) -> bool:
        """Whether what a thread ran may well be a part of a model's step."""
        if thread.native_id in self._have_been_left:
            return False
        return thread.native_id == threading.main_thread().native_id or _is_at_work(thread.function)


def _is_at_work(function: Code | None) -> bool:
    if function is None:
        return False
    if is_part_of(function.module, ("asyncio",)):
        return True  # what a loop runs was given to it later
    return not _is_installed(function.file) or any(map(_is_torchs, [*function.names.values()]))


def _is_watched(thread: RunningThread) -> bool:
    return thread.function is None or not is_part_of(thread.function.module, _NEVER_AT_WORK)


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
        return is_part_of(vars(value).get("__name__"), ("torch",))
    return isinstance(value, type | FunctionType) and is_part_of(value.__module__, ("torch",))
