"""Triton kernels that are launched directly, `kernel[grid](...)`: no dispatch mode sees them.

While a meter counts, the two classes of Triton whose `run` launches a kernel, compiled or in
Triton's interpreter, tell each launch to the meters of the calling thread, as a call of the
kernel's function. A launch inside an operator that has a cost is a part of it. What an autotuner
runs in order to choose is no part of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import copy
from functools import cache
from importlib import import_module
from inspect import signature
from math import prod
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs import registered_cost
from pytest_flops.counting.costs.kernels import GRID
from pytest_flops.counting.measurement import KERNEL
from pytest_flops.counting.meter.dispatch import counting_modes
from pytest_flops.counting.meter.interpreter import Executed, executed
from pytest_flops.counting.meter.kernel_work import work_of
from pytest_flops.counting.replacing import replaced


def report_launches() -> AbstractContextManager[None]:
    """While active, every launch in a counted thread is counted."""
    return _replaced(run=_tell, _bench=_try_untold)


def nothing_launched_on_fakes() -> AbstractContextManager[None]:
    """While active, a launch on fake tensors does nothing; an autotuner takes its first choice."""
    return _replaced(run=_pass_over_fakes)


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
def _replaced(**changes: Callable[..., Any]) -> Iterator[None]:
    """While active, these methods of the launchers are what is made of them."""
    with ExitStack() as undo:
        for owner in _launchers():
            for name, change in changes.items():
                if name in vars(owner):
                    undo.enter_context(replaced(owner, name, change))
        yield


def _tell(run: Callable[..., Any], kernel: Any, *args: Any, **kwargs: Any) -> Any:
    if _is_wrapper(kernel) or kwargs.get("warmup"):
        return run(kernel, *args, **kwargs)
    modes = counting_modes()
    has_cost = not modes or registered_cost("flops", kernel.fn)
    interpreted = type(kernel).__name__ == "InterpretedFunction"
    watched = interpreted and not (has_cost or _fakes(args, kwargs))
    with (
        _disable_current_modes(),  # the interpreter copies by operators
        executed() if watched else nullcontext() as work,
    ):
        result = run(kernel, *args, **kwargs)
    if modes:
        values, options = _call_of(kernel.fn, args, **kwargs)
        name = f"{KERNEL}{kernel.fn.__name__}"
        if not has_cost and name not in modes[0].attribution.remarks:
            if not interpreted:
                work = work_of(kernel.fn, values, options[GRID])
            proposal = _proposal(kernel.fn.__name__, work, options[GRID], interpreted)
            for mode in modes:
                mode.attribution.remarks.setdefault(name, proposal)
        for mode in modes:
            mode.saw(kernel.fn, values, options)
    return result


def _proposal(name: str, work: Executed | None, grid: tuple[int, ...], interpreted: bool) -> str:
    """What a launch executes, and a cost where each program does the same."""
    if work is None:
        return f"what {KERNEL}{name} executes, its code alone does not tell"
    where = "in Triton's interpreter" if interpreted else "by its code, masks aside,"
    told = f"{where} the first launch of {KERNEL}{name} comes to {work}"
    if not work.alike or not prod(grid):
        return told
    cost = f"register_cost({name})(lambda grid: {work.flops // prod(grid)} * math.prod(grid))"
    return f"{told}; with pytest_flops.counting.costs, for launches of these sizes: {cost}"


def _try_untold(bench: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _disable_current_modes():
        return bench(*args, **kwargs)


def _pass_over_fakes(run: Callable[..., Any], kernel: Any, *args: Any, **kwargs: Any) -> Any:
    fakes = _fakes(args, kwargs)
    if not fakes:
        return run(kernel, *args, **kwargs)
    if not _is_wrapper(kernel):
        for fake in fakes:
            if fake.constant is not None:  # it may have been written
                converter = fake.fake_mode.fake_tensor_converter
                converter.invalidate_constant_aliases(fake.constant)
        return None
    if hasattr(kernel, "configs"):  # on a copy, so that what it chooses is not kept
        kernel = copy(kernel)
        kernel.configs = kernel.configs[:1]
    return run(kernel, *args, **kwargs)


def _fakes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[FakeTensor]:
    given = map(_plain, tree_leaves((args, kwargs)))
    return [value for value in given if isinstance(value, FakeTensor)]


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
