"""`HandOver`: the ways to set another thread to work, replaced while any meter counts.

PyTorch's dispatch modes are active in one thread only, so what a counted thread gives to another
one, a new thread or a pool's worker, is wrapped on the way: it counts where it runs.
"""

from __future__ import annotations

import _thread
import inspect
import threading
from collections.abc import Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from multiprocessing.pool import AsyncResult, Pool, ThreadPool
from typing import TYPE_CHECKING, Any
from weakref import ref

from torch._C import Future as TorchFuture

from pytest_flops.counting.meter.raw_threads import Seen, beginning_other

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_flops.counting.meter.threads import Threads

_END = object()
_INHERITED = object()
_COMPUTE_NOTHING = (list, tuple, range, str, bytes, dict, set, frozenset)


class _Starts(threading.local):
    """Whether what the calling thread starts are workers of a pool, and of an older one.

    They may outlive the meter, so only their work is counted. An older pool's begin with an
    initializer that was given before.
    """

    workers = False
    of_older_pool = False


class HandOver:
    """Meters may overlap in any order, so what is replaced belongs to all of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._meters: list[Threads] = []
        self._starts = _Starts()
        self._made: dict[int, ref[ThreadPoolExecutor]] = {}  # pools, while a meter counts
        self._undo = ExitStack()

    def begin(self, meter: Threads) -> None:
        """Let a meter count what the threads that it counts set going."""
        with self._lock:
            if not self._meters:
                self._replace_all()
            self._meters.append(meter)

    def end(self, meter: Threads) -> None:
        """The last meter to end leaves everything as the first has found it."""
        with self._lock:
            if meter in self._meters:  # not where an interruption came first
                self._meters.remove(meter)
            if not self._meters:
                self._undo.close()
                self._made.clear()

    def meters_of_other_threads(self, meter: Threads) -> list[Threads]:
        """The meters that another thread has entered."""
        return [other for other in tuple(self._meters) if other.owner != meter.owner]

    def _replace_all(self) -> None:
        start = threading.Thread.start
        start_raw = _thread.start_new_thread

        @wraps(start)
        def start_counted(thread: threading.Thread) -> None:
            if not self._starts.workers:
                self._count_run_of(thread)
            elif self._starts.of_older_pool:
                for meter in self._counting_here():
                    meter.watch(thread)
            with beginning_other():
                start(thread)

        @wraps(start_raw)
        def start_raw_counted(function: Callable[..., Any], *args: Any) -> int:
            counted = self._counted(function) if callable(function) else function
            if counted is function:
                return start_raw(function, *args)
            with beginning_other():
                return start_raw(Seen(counted), *args)

        self._replace(threading.Thread, "start", start_counted)
        self._replace(_thread, "start_new_thread", start_raw_counted)
        self._replace(_thread, "start_new", start_raw_counted)
        make = self._taking(ThreadPoolExecutor.__init__, "initializer")

        @wraps(make)
        def make_counted(pool: ThreadPoolExecutor, *args: Any, **kwargs: Any) -> None:
            make(pool, *args, **kwargs)
            self._made[id(pool)] = ref(pool)

        self._replace(ThreadPoolExecutor, "__init__", make_counted)
        submit = self._starting_workers(ThreadPoolExecutor.submit)
        self._replace(ThreadPoolExecutor, "submit", self._taking(submit, "fn"))
        self._replace(Future, "add_done_callback", self._taking(Future.add_done_callback, "fn"))
        for name in ("then", "add_done_callback"):
            self._replace(TorchFuture, name, self._taking_callback(getattr(TorchFuture, name)))
        self._replace(ThreadPool, "__init__", self._taking(ThreadPool.__init__, "initializer"))
        self._replace(Pool, "__init__", self._starting_workers(Pool.__init__))
        for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
            self._replace(ThreadPool, name, self._taking(getattr(ThreadPool, name), "func"))
            # what is given to a process is not counted, but the items are this one's work
            self._replace(Pool, name, self._taking(getattr(Pool, name)))
        callbacks = ("callback", "error_callback")
        self._replace(AsyncResult, "__init__", self._taking(AsyncResult.__init__, *callbacks))

    def _replace(self, owner: Any, name: str, replacement: Any) -> None:
        self._undo.callback(_restore, owner, name, replacement, vars(owner).get(name, _INHERITED))
        setattr(owner, name, replacement)

    def _count_run_of(self, thread: threading.Thread) -> None:
        """A thread's `run`, once: a thread that has a `run` of its own holds itself."""
        work = thread.run
        counted = self._counted(work)
        if counted is work:
            return
        before = vars(thread).get("run")

        def run_once() -> None:
            vars(thread).pop("run", None)
            if before is not None:
                vars(thread)["run"] = before
            counted()

        vars(thread)["run"] = run_once

    def _taking(self, take: Callable[..., Any], *parameters: str) -> Callable[..., Any]:
        """A pool's method, so that the functions it is given by these parameters are counted.

        So is what an `iterable` computes, since another thread may go through it.
        """
        signature = inspect.signature(take)

        @wraps(take)
        def take_counted(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return take(*args, **kwargs)  # which says what is wrong
            for name in parameters:
                if callable(given.arguments.get(name)):
                    given.arguments[name] = self._counted(given.arguments[name])
            if "iterable" in given.arguments:
                given.arguments["iterable"] = self._counted_items(given.arguments["iterable"])
            return take(*given.args, **given.kwargs)

        return take_counted

    def _taking_callback(self, take: Callable[..., Any]) -> Callable[..., Any]:
        """A method in C++, of which Python knows no parameter."""

        @wraps(take)
        def take_counted(future: TorchFuture[Any], *given: Any) -> Any:
            if len(given) == 1 and callable(given[0]):
                return take(future, self._counted(given[0]))
            return take(future, *given)  # which says what is wrong

        return take_counted

    def _starting_workers(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A pool's method that may start workers, which are not counted themselves."""

        @wraps(call)
        def call_uncounted(pool: Any, /, *args: Any, **kwargs: Any) -> Any:
            starts = self._starts
            before = starts.workers, starts.of_older_pool
            starts.workers, starts.of_older_pool = True, self._is_older(pool)
            try:
                return call(pool, *args, **kwargs)
            finally:
                starts.workers, starts.of_older_pool = before

        return call_uncounted

    def _is_older(self, pool: Any) -> bool:
        made = self._made.get(id(pool))
        return isinstance(pool, ThreadPoolExecutor) and (made is None or made() is not pool)

    def _counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        for meter in self._counting_here():
            work = meter.counted(work)
        return work

    def _counting_here(self) -> list[Threads]:
        return [meter for meter in tuple(self._meters) if meter.sees_here()]

    def _counted_items(self, items: Iterable[Any]) -> Iterable[Any]:
        if type(items) in _COMPUTE_NOTHING:
            return items
        counted = _CountedItems if not isinstance(items, Sized) else _CountedSizedItems
        return counted(items, self._counted(next))


def _restore(owner: Any, name: str, replacement: Any, before: Any) -> None:
    if vars(owner).get(name) is not replacement:
        return  # somebody else has replaced it meanwhile, or an interruption came first
    if before is _INHERITED:
        delattr(owner, name)
    else:
        setattr(owner, name, before)


@dataclass(frozen=True)
class _CountedItems:
    """What is gone through, each step by `take`, which is `next` as a part of what is counted."""

    items: Iterable[Any]
    take: Callable[..., Any]

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.items)
        while (item := self.take(iterator, _END)) is not _END:
            yield item


class _CountedSizedItems(_CountedItems):
    """The same of what has a length."""

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]


hand_over = HandOver()
