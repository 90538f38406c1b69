"""Compiled code runs as its operators, which can be seen, while any meter counts."""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def run_eagerly() -> Iterator[None]:
    """While active, what is or gets compiled runs eagerly, in every thread."""
    _eager.begin()
    try:
        yield
    finally:
        _eager.end()


class _Eager:
    """The compiler's eager stance, which belongs to all meters: they may overlap in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters = 0
        self._undo = ExitStack()

    def begin(self) -> None:
        with self._lock:
            if not self._meters:
                self._enter()
            self._meters += 1

    def end(self) -> None:
        with self._lock:
            self._meters -= 1
            if not self._meters:
                self._undo.close()

    def _enter(self) -> None:
        self._undo.enter_context(warnings.catch_warnings())
        # An extra hook on the compiled wrapper is no harm: it adds nothing to a path.
        warnings.filterwarnings("ignore", message="Using `torch.compile.* global hooks")
        if "torch._dynamo" in sys.modules:
            self._undo.enter_context(torch.compiler.set_stance("force_eager"))
        else:
            self._await_compiler()

    def _await_compiler(self) -> None:
        """Take the stance when something first compiles: importing the compiler takes seconds."""
        original = torch.compile

        def restore() -> None:
            torch.compile = original

        def compile_eagerly(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                if self._meters and torch.compile is compile_eagerly:
                    restore()  # before the import: the compiler knows functions by identity
                    self._undo.enter_context(torch.compiler.set_stance("force_eager"))
            return original(*args, **kwargs)

        torch.compile = compile_eagerly
        self._undo.callback(restore)


_eager = _Eager()
