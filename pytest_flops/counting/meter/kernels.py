"""Triton kernels that are launched directly, `kernel[grid](...)`: no dispatch mode sees them.

While a meter counts, the two classes of Triton whose `run` launches a kernel, compiled or in
Triton's interpreter, report each launch to the meters of the calling thread, as a call without a
cost. A launch inside an operator is a part of it, which has a cost or is reported itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from importlib import import_module
from typing import Any

from pytest_flops.counting.measurement import KERNEL
from pytest_flops.counting.meter.dispatch import counting_modes


@contextmanager
def report_launches() -> Iterator[None]:
    """While active, every launch in a counted thread is reported as uncounted."""
    with ExitStack() as undo:
        for launcher in _launchers():
            undo.enter_context(_reporting(launcher))
        yield


@cache
def _launchers() -> tuple[type, ...]:
    """Triton's, if it is installed; imported here (0.15 s), since a block may do so too."""
    try:
        compiled = import_module("triton.runtime.jit").JITFunction
        interpreted = import_module("triton.runtime.interpreter").InterpretedFunction
    except ImportError:
        return ()
    return compiled, interpreted


@contextmanager
def _reporting(launcher: Any) -> Iterator[None]:
    before = launcher.run

    @wraps(before)
    def ours(kernel: Any, *args: Any, warmup: bool = False, **kwargs: Any) -> Any:
        if not warmup:
            for mode in counting_modes():
                mode.attribution.local.state.uncounted[KERNEL + kernel.fn.__name__] += 1
        return before(kernel, *args, warmup=warmup, **kwargs)

    launcher.run = ours
    try:
        yield
    finally:
        if launcher.run is ours:  # else somebody has put theirs around it
            launcher.run = before
