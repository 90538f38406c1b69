"""Triton kernels that are launched directly, `kernel[grid](...)`: no dispatch mode sees them.

While a meter counts, the two classes of Triton whose `run` launches a kernel, compiled or in
Triton's interpreter, tell each launch to the meters of the calling thread, as a call of the
kernel's function. A launch inside an operator that has a cost is a part of it. What an autotuner
runs in order to choose is no part of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from copy import copy
from functools import cache, wraps
from importlib import import_module
from inspect import signature
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flops.counting.costs import registered_cost
from pytest_flops.counting.costs.kernels import GRID
from pytest_flops.counting.measurement import KERNEL
from pytest_flops.counting.meter.dispatch import counting_modes
from pytest_flops.counting.meter.interpreter import executed


@contextmanager
def report_launches() -> Iterator[None]:
    """While active, every launch in a counted thread is counted."""
    with _replaced(run=_telling, _bench=_untold):
        yield


@contextmanager
def nothing_launched_on_fakes() -> Iterator[None]:
    """While active, a launch on fake tensors does nothing; an autotuner takes its first choice."""
    with _replaced(run=_passing_over_fakes):
        yield


@cache
def _launchers() -> tuple[type, ...]:
    """Triton's, if it is installed; imported here (0.15 s), since a block may do so too."""
    try:
        compiled = import_module("triton.runtime.jit").JITFunction
        interpreted = import_module("triton.runtime.interpreter").InterpretedFunction
        tuned = import_module("triton.runtime.autotuner").Autotuner
    except ImportError:
        return ()
    return compiled, interpreted, tuned


@contextmanager
def _replaced(**changes: Callable[[Any], Any]) -> Iterator[None]:
    """While active, these methods of the launchers are what is made of them."""
    with ExitStack() as undo:
        for owner in _launchers():
            for name, change in changes.items():
                if name in vars(owner):
                    undo.callback(_restore, owner, name, *_replace(owner, name, change))
        yield


def _replace(owner: type, name: str, change: Callable[[Any], Any]) -> tuple[Any, Any]:
    before = vars(owner)[name]
    ours = wraps(before)(change(before))
    setattr(owner, name, ours)
    return before, ours


def _restore(owner: type, name: str, before: Any, ours: Any) -> None:
    if vars(owner)[name] is ours:  # else somebody has put theirs around it
        setattr(owner, name, before)


def _telling(run: Callable[..., Any]) -> Callable[..., Any]:
    def ours(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_wrapper(kernel) or kwargs.get("warmup"):
            return run(kernel, *args, **kwargs)
        modes = counting_modes()
        watches = modes and type(kernel).__name__ == "InterpretedFunction"
        watches = watches and registered_cost("flops", kernel.fn) is None
        with (
            _disable_current_modes(),  # the interpreter copies by operators
            executed() if watches else nullcontext() as work,
        ):
            result = run(kernel, *args, **kwargs)
        for mode in modes:
            mode.saw(kernel.fn, *_call_of(kernel.fn, args, **kwargs))
            if work is not None:
                name = f"{KERNEL}{kernel.fn.__name__}"
                proposal = f"in Triton's interpreter the first launch of {name} executed {work}"
                mode.attribution.remarks.setdefault(name, proposal)
        return result

    return ours


def _untold(bench: Callable[..., Any]) -> Callable[..., Any]:
    def ours(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return bench(*args, **kwargs)

    return ours


def _passing_over_fakes(run: Callable[..., Any]) -> Callable[..., Any]:
    def ours(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(value, FakeTensor) for value in (*args, *kwargs.values())):
            return run(kernel, *args, **kwargs)
        if _is_wrapper(kernel):  # a copy, so that what it chooses is not kept
            kernel = copy(kernel)
            kernel.configs = kernel.configs[:1]
            return run(kernel, *args, **kwargs)
        return None

    return ours


def _is_wrapper(kernel: Any) -> bool:
    return hasattr(kernel.fn, "run")


def _call_of(
    function: Any, args: tuple[Any, ...], grid: Any, **options: Any
) -> tuple[list[Any], dict[str, Any]]:
    """A launch as a call: all arguments by position, and the grid as three integers."""
    of_kernel = signature(function)
    options = {name: value for name, value in options.items() if name in of_kernel.parameters}
    given = of_kernel.bind(*args, **options)
    given.apply_defaults()
    values = {name: _plain(value) for name, value in given.arguments.items()}
    sizes = grid(values) if callable(grid) else grid
    return [*values.values()], {GRID: (*map(int, sizes), 1, 1)[:3]}


def _plain(value: Any) -> Any:
    """What a constant of Triton's is, and the tensor that a tensor descriptor is of."""
    name = {"constexpr": "value", "TensorDescriptor": "base"}.get(type(value).__name__)
    return getattr(value, name) if name else value
