"""Compiled code runs as its operators, which can be seen, while any meter counts.

So do higher-order operators; and operators run as they do where no dispatch mode is active.
"""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from pytest_flops.counting.meter.higher_order import under_autograd
from pytest_flops.counting.meter.workarounds.spectra import without_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_COMPILER = "torch._dynamo"


@contextmanager
def run_eagerly() -> Iterator[None]:
    """While active, what is or gets compiled runs eagerly, in every thread."""
    meter = object()
    try:
        _eager.begin(meter)
        yield
    finally:
        _eager.end(meter)


class _Eager:
    """What PyTorch does otherwise; it belongs to all meters, which may overlap in any order."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._meters: list[object] = []
        self._undo = ExitStack()

    def begin(self, meter: object) -> None:
        with self._lock:
            if not self._meters:
                self._undo.enter_context(under_autograd())
                self._undo.enter_context(without_vectors())
                self._ignore_warnings()
                if _COMPILER in sys.modules:
                    self.take_stance()
                else:
                    self._await_compiler()
            self._meters.append(meter)

    def end(self, meter: object) -> None:
        with self._lock:
            if meter in self._meters:  # not where an interruption came first
                self._meters.remove(meter)
            if not self._meters:
                self._undo.close()

    def take_stance(self) -> None:
        self._undo.enter_context(torch.compiler.set_stance("force_eager"))

    def _ignore_warnings(self) -> None:
        # An extra hook on the compiled wrapper is no harm: it adds nothing to a path.
        warnings.filterwarnings("ignore", message="Using `torch.compile.* global hooks")
        ours = warnings.filters[0]
        self._undo.callback(_remove, warnings.filters, ours)  # type: ignore[arg-type]

    def _await_compiler(self) -> None:
        """Importing the compiler takes seconds, so it is left to who needs it."""
        finder = _CompilerFinder(self.compiler_arrives)
        sys.meta_path.insert(0, finder)
        self._undo.callback(_remove, sys.meta_path, finder)

    def compiler_arrives(self) -> None:
        with self._lock:
            if self._meters:
                self.take_stance()


class _CompilerFinder:
    """Calls `arrived` when the compiler is imported; finds nothing by itself."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name != _COMPILER:
            return None
        _remove(sys.meta_path, self)
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_tell(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)  # once, though a finder was left behind
            execute(module)
            self._arrived()

        loader.exec_module = execute_and_tell
        return spec


def _remove(entries: list[Any], entry: object) -> None:
    """Take out what we put in, unless somebody else has done so."""
    with suppress(ValueError):
        entries.remove(entry)


_eager = _Eager()
