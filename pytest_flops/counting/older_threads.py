"""Operators in threads that counting cannot enter are found by PyTorch's profiler, and reported.

A dispatch mode belongs to one thread, and nothing puts one into another thread. The profiler sees
every thread, but a process has only one, which the user may want. So it runs only while there is a
thread, older than the meter, that may run operators: one that was started with a function of the
project, or of a package that uses PyTorch. Threads that the meter counts are kept out of it.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.profiler import profile

from pytest_flops.counting.costs import rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping
    from contextlib import AbstractContextManager

_another_is_active: Callable[[], bool] = vars(torch.autograd)["_profiler_enabled"]
_record: Callable[[bool], None] = vars(torch.autograd)["_enable_record_function"]
_STANDARD_LIBRARY = Path(threading.__file__).parent
_NEVER_AT_WORK = ("torch", "pytest_flops")  # their own threads compute nothing of the model
_INTEGERS = {"bool", "unsigned char", "signed char", "short int", "int", "long int"}
_NOT_TENSORS = {"", "Scalar", "ScalarList"}


def report_name(what: str, thread: str) -> str:
    """How uncounted work of an older thread is reported; parentheses: it is not an operator."""
    return f"({what} in thread {thread}, older than the meter)"


class OlderThreads:
    """Threads older than a meter, and what arithmetic they run that no meter counts."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    @contextmanager
    def watched(self, uncounted: MutableMapping[str, int]) -> Iterator[None]:
        """While active, arithmetic in these threads is noted; at the end it is in `uncounted`."""
        self._names = _threads_that_may_run_operators()
        if not self._names:
            yield
            return
        watch = _Watch(self._names)
        _profiler.begin(watch)
        try:
            with _unrecorded():
                yield
        finally:
            _profiler.end(watch)
            self._names = {}
            for what, calls in watch.uncounted.items():
                uncounted[what] = uncounted.get(what, 0) + calls

    def ignore(self, thread: threading.Thread) -> None:
        """From now on, what a thread runs is none of this meter's business."""
        self._names.pop(thread.native_id or 0, None)

    def watches_here(self) -> bool:
        """Whether the calling thread is one of them."""
        return threading.get_native_id() in self._names

    def counted(self) -> AbstractContextManager[Any]:
        """While active, the meter counts what the calling thread runs."""
        return _unrecorded() if self.watches_here() else nullcontext()


class _Depth(threading.local):
    """How often the calling thread is kept out of the profiler."""

    depth = 0


_silence = _Depth()


@contextmanager
def _unrecorded() -> Iterator[None]:
    """While active, our profiler does not see the calling thread."""
    if not _profiler.runs:
        yield
        return
    _silence.depth += 1
    _record(False)
    try:
        yield
    finally:
        _silence.depth -= 1
        if not _silence.depth:
            _record(True)


@dataclass
class _Watch:
    """What one meter wants to know of the profiler's events.

    Attributes:
        threads: Names of the threads to watch, by native id.
        uncounted: What they ran while no meter counted them, with the number of calls.
    """

    threads: dict[int, str]
    uncounted: Counter[str] = field(default_factory=Counter)

    def see(self, events: Iterable[Any]) -> None:
        """Note the arithmetic among events, which are in the order of their start."""
        covered: defaultdict[int, int] = defaultdict(int)  # until when a thread's events are known
        for event in events:
            thread = event.device_resource_id()
            if thread not in self.threads or event.start_ns() < covered[thread]:
                continue
            does_arithmetic = _does_arithmetic(event.name())
            if does_arithmetic is None:
                continue
            covered[thread] = event.start_ns() + event.duration_ns()
            if does_arithmetic and not _on_integers(event.dtypes()):
                operator = event.name().replace("::", ".")
                self.uncounted[report_name(operator, self.threads[thread])] += 1

    def miss(self) -> None:
        """Note that nothing could be seen: what cannot be watched is not taken for idle."""
        for name in self.threads.values():
            report = (
                f"(thread {name}, older than the meter, unwatched: another profiler was active)"
            )
            self.uncounted[report] += 1


class _Profiler:
    """PyTorch's profiler, of which a process has one, for all meters that watch threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: list[_Watch] = []
        self._session: profile | None = None
        self._prepare = profile._prepare_trace  # noqa: SLF001

    def begin(self, watch: _Watch) -> None:
        with self._lock:
            self._stop()
            self._watches.append(watch)
            self._start()

    def end(self, watch: _Watch) -> None:
        with self._lock:
            self._stop()
            self._watches.remove(watch)
            if self._watches:
                self._start()

    @property
    def runs(self) -> bool:
        """Whether it watches now; not so while it serves somebody else."""
        return self._session is not None

    def _start(self) -> None:
        if _another_is_active():
            self._miss()
            return
        everywhere = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # noqa: SLF001
        session = profile(use_kineto=True, record_shapes=True, experimental_config=everywhere)
        session.__enter__()  # type: ignore[no-untyped-call]
        self._session = session
        self._prepare = profile._prepare_trace  # noqa: SLF001

        def prepare_another(another: profile) -> None:
            self._give_way()
            another._prepare_trace()  # type: ignore[no-untyped-call]  # noqa: SLF001

        profile._prepare_trace = prepare_another  # type: ignore[method-assign]  # noqa: SLF001

    def _stop(self) -> None:
        if self._session is None:
            return
        profile._prepare_trace = self._prepare  # type: ignore[method-assign]  # noqa: SLF001
        session, self._session = self._session, None
        session.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        assert session.kineto_results is not None
        events = sorted(session.kineto_results.events(), key=lambda event: event.start_ns())
        for watch in self._watches:
            watch.see(events)

    def _give_way(self) -> None:
        """Leave the profiler to the calling thread, which starts one of its own."""
        with self._lock:
            self._stop()
            self._miss()
        _record(True)

    def _miss(self) -> None:
        for watch in self._watches:
            watch.miss()


_profiler = _Profiler()


@cache
def _does_arithmetic(name: str) -> bool | None:
    """Whether an operator of this name costs something; None: look at what it calls."""
    namespace, _, operator = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), operator, None) if operator else None
    if packet is None:
        return None  # a label, not an operator
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    rules = [rule for overload in overloads if (rule := rule_of(overload)) is not None]
    if rules:
        return any(rule.cost is not None for rule in rules)
    return None if any(overload._can_decompose() for overload in overloads) else True  # noqa: SLF001


def _on_integers(dtypes: Iterable[str]) -> bool:
    tensors = set(dtypes) - _NOT_TENSORS
    return bool(tensors) and tensors <= _INTEGERS


def _threads_that_may_run_operators() -> dict[int, str]:
    """Names of the other threads that run code of the project, or that uses PyTorch, by native id.

    What a thread was started with says so. Where it is now, its frames would say better, but to
    look at them can crash CPython (3.12's garbage collector traverses them while they run).
    """
    return {
        thread.native_id: thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread()
        and thread.native_id is not None
        and (thread is threading.main_thread() or _may_run_operators(_code_of(thread)))
    }


def _code_of(thread: threading.Thread) -> FunctionType | None:
    """The function that a thread was started with, if it is written in Python."""
    run = type(thread).run
    function: Any = getattr(thread, "_target", None) if run is threading.Thread.run else run
    while isinstance(function, partial):
        function = function.func
    if not isinstance(function, FunctionType | MethodType | BuiltinFunctionType):
        function = vars(type(function)).get("__call__")
    function = getattr(function, "__func__", function)
    return function if isinstance(function, FunctionType) else None


def _may_run_operators(function: FunctionType | None) -> bool:
    if function is None or _package(function.__module__) in _NEVER_AT_WORK:
        return False
    file, names = function.__code__.co_filename, function.__globals__
    return not _is_installed(file) or any(map(_is_torchs, [*names.values()]))


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
