"""Threads: what counted code starts or submits counts as a part of the call that does so.

PyTorch's dispatch modes are active in one thread only. So while a meter counts,
`threading.Thread.start` and `concurrent.futures.ThreadPoolExecutor.submit` wrap the work that they
are given, and the wrapper enters the meter's dispatch mode where the work runs. Nothing else is
looked at: a module or an optimizer's step in any other thread is reported as uncounted by the hooks
of `attribution`.

No dispatch mode reaches into another process, so the processes that counted code starts, such as
the workers of a `DataLoader`, are only numbered.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from pytest_flops.counting.meter.attribution import Attribution, Frame
from pytest_flops.counting.meter.dispatch import counting_here, counting_modes
from pytest_flops.counting.replacing import replaced

# Whatever starts a process by a name of the standard library; one may start it through another.
_PROCESSES: tuple[tuple[type | ModuleType, str], ...] = (
    (BaseProcess, "start"),
    (subprocess.Popen, "__init__"),
    *((os, name) for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system")),
)


@contextmanager
def hand_over_to_threads() -> Iterator[None]:
    """While active, counted threads hand over what they start, and number child processes."""
    with ExitStack() as stack:
        stack.enter_context(replaced(threading.Thread, "start", _start))
        stack.enter_context(replaced(ThreadPoolExecutor, "submit", _submit))
        for owner, name in _PROCESSES:
            if hasattr(owner, name):  # Windows has few of them
                stack.enter_context(replaced(owner, name, _start_process))
        yield


def _handed_over(work: Callable[..., Any]) -> Callable[..., Any]:
    """Work for another thread, counted there by each meter that counts the calling thread."""
    for mode in reversed(counting_modes()):  # so that the modes have the same order there
        work = _as_part_of(mode.attribution, mode.attribution.call_in_progress(), work)
    return work


def _as_part_of(
    attribution: Attribution, call: Frame, work: Callable[..., Any]
) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        if not attribution.active:
            return work(*args, **kwargs)
        with attribution.during(call), counting_here(attribution):
            return work(*args, **kwargs)

    return counted


class _Inside(threading.local):
    """Whether the calling thread is inside a call."""

    active = False


# `submit` may start a worker of the executor. A worker is not counted, only what is submitted: it
# would hold the first submitter's frame, and the dispatch mode, for as long as it lives.
_submitting = _Inside()
_starting_process = _Inside()


def _submit(
    submit: Callable[..., Future[Any]],
    executor: ThreadPoolExecutor,
    fn: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Future[Any]:
    before, _submitting.active = _submitting.active, True
    try:
        return submit(executor, _handed_over(fn), *args, **kwargs)
    finally:
        _submitting.active = before


def _start(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    # `start` itself refuses a thread that has been started already.
    if not _submitting.active and thread.ident is None:
        _hand_over_run(thread)
    start(thread)


def _hand_over_run(thread: threading.Thread) -> None:
    """Replace `run` on the instance until it is called.

    Leaving it there would keep the thread alive through a reference cycle.
    """
    work = thread.run
    counted = _handed_over(work)
    if counted is work:
        return
    attributes = vars(thread)
    own_run = attributes.get("run")

    def run_once() -> None:
        del attributes["run"]
        if own_run is not None:
            attributes["run"] = own_run
        counted()

    attributes["run"] = run_once


def _start_process(start: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if _starting_process.active:  # `multiprocessing` forks, `subprocess` spawns: it is one process
        return start(*args, **kwargs)
    _starting_process.active = True
    try:
        result = start(*args, **kwargs)
    finally:
        _starting_process.active = False
    for mode in counting_modes():
        mode.attribution.local.state.child_processes += 1
    return result
