"""Compiled code hides its operators, so it runs eagerly while a meter counts.

PyTorch: code that `torch.compile` has compiled runs kernels that no dispatch mode sees.
`torch.compiler.set_stance("force_eager")` prevents that, but imports the compiler, which takes
seconds. So the stance is taken at once if the compiler is there, else when `torch.compile` is
called, which imports it.
Seen in: 2.11 to 2.14.
May go when: `tests/counting/test_compiled_code.py` passes without it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from typing import Any

import torch


@contextmanager
def run_eagerly() -> Iterator[None]:
    """While active, compiled code runs as its operators, in every thread."""
    with ExitStack() as undo:
        # The compiler warns that a module has our hooks, which add nothing to its path, and
        # PyTorch 2.12 that a whole graph (`fullgraph=True`) was not compiled, which is the stance.
        unneeded = "Using `torch.compile.* global hooks|torch.compile with fullgraph=True found no"
        warnings.filterwarnings("ignore", message=unneeded)
        undo.callback(_remove_filter, warnings.filters[0])
        if "torch._dynamo" in sys.modules:
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        else:
            undo.enter_context(_at_first_compilation(undo))
        yield


@contextmanager
def _at_first_compilation(undo: ExitStack) -> Iterator[None]:
    """While active, the first call of `torch.compile` takes the stance, until `undo`."""
    before = torch.compile

    @wraps(before)
    def ours(*args: Any, **kwargs: Any) -> Any:
        if torch.compile is ours:  # code that has imported ours by name keeps it for longer
            torch.compile = before
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        return before(*args, **kwargs)

    torch.compile = ours
    try:
        yield
    finally:
        if torch.compile is ours:
            torch.compile = before


def _remove_filter(entry: Any) -> None:
    with suppress(ValueError):  # somebody else has taken it out
        warnings.filters.remove(entry)  # type: ignore[attr-defined]
