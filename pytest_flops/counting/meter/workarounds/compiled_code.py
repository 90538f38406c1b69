"""Compiled code hides its operators, so it runs eagerly while a meter counts.

PyTorch: code that `torch.compile` has compiled runs kernels that no dispatch mode sees.
`torch.compiler.set_stance("force_eager")` prevents that, but imports the compiler, which takes
seconds. So the stance is taken at once if the compiler is there, else when somebody imports it.
Seen in: 2.11 to 2.13.
May go when: `tests/counting/test_compiled_code.py` passes without it.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_COMPILER = "torch._dynamo"


@contextmanager
def run_eagerly() -> Iterator[None]:
    """While active, compiled code runs as its operators, in every thread."""
    with ExitStack() as undo:
        # The compiler warns that a compiled module has our hooks. They add nothing to its path.
        warnings.filterwarnings("ignore", message="Using `torch.compile.* global hooks")
        undo.callback(_remove, warnings.filters, warnings.filters[0])  # type: ignore[arg-type]
        if _COMPILER in sys.modules:
            _take_stance(undo)
        else:
            finder = _CompilerFinder(lambda: _take_stance(undo))
            sys.meta_path.insert(0, finder)
            undo.callback(finder.withdraw)
        yield


def _take_stance(undo: ExitStack) -> None:
    undo.enter_context(torch.compiler.set_stance("force_eager"))


class _CompilerFinder:
    """Calls `arrived` when the compiler has been imported; finds nothing by itself."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived: Callable[[], None] | None = arrived

    def withdraw(self) -> None:
        """Call nobody from now on, though an import may have begun."""
        self._arrived = None
        _remove(sys.meta_path, self)

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
            vars(loader).pop("exec_module", None)
            execute(module)
            if self._arrived is not None:
                self._arrived()

        loader.exec_module = execute_and_tell
        return spec


def _remove(entries: list[Any], entry: object) -> None:
    """Take out what was put in, unless somebody else has done so."""
    with suppress(ValueError):
        entries.remove(entry)
