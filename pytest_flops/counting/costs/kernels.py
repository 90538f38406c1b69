"""The costs of Triton kernels: formulas of a kernel's arguments, by their names, and of its grid.

    @register_cost(add_kernel)
    def cost(n_elements): return n_elements

A kernel is known by the Python function that it was made of, which `triton.autotune` and
`triton.heuristics` wrap, and which is the same in Triton's compiler and in its interpreter.
"""

from __future__ import annotations

from inspect import signature
from types import FunctionType
from typing import Any

from pytest_flops.counting.costs.table import Args, Cost, Formula, Kwargs

GRID = "grid"
"""The parameter of a formula that is the launch's grid: three integers."""


def function_of(kernel: object) -> FunctionType | None:
    """The function that a Triton kernel was made of; None of anything else."""
    while hasattr(kernel, "run") and hasattr(kernel, "fn"):
        kernel = kernel.fn
        if isinstance(kernel, FunctionType):
            return kernel
    return None


def cost_of_launches(function: FunctionType, formula: Formula) -> Cost:
    """The formula as a function of launches: of all arguments by position, and the grid by name.

    Raises:
        TypeError: The formula reads an argument that the kernel does not have.
    """
    names = [*signature(function).parameters]
    reads = [*signature(formula).parameters]
    for name in reads:
        if name not in (*names, GRID):
            raise TypeError(
                f"the kernel {function.__name__} has no argument {name!r}, which its cost reads; "
                f"there are {', '.join(names)}, and {GRID}"
            )

    def cost(args: Args, kwargs: Kwargs, _out: Any) -> int | None:
        given = {**dict(zip(names, args, strict=True)), GRID: kwargs[GRID]}
        flops: int | None = formula(**{name: given[name] for name in reads})
        return flops

    return cost
