"""Run by `test_bk_triton.py` in a process of its own: Triton's interpreter, or its compiler.

Writes JSON to standard output: errors of the interpreted kernels, or what they execute, or the
kernels that compiled.
"""

# ruff: noqa: N803 - a formula reads a kernel's arguments by their names
from __future__ import annotations

import json
import sys
from inspect import signature
from typing import Any

import torch

from pytest_flops import FLOPsMeter, bk_core
from pytest_flops.counting.costs import register_cost
from pytest_flops.counting.meter.interpreter import executed
from pytest_flops.counting.meter.kernel_work import work_of
from pytest_flops.resnet_bk.bk_core import triton as bk_triton
from pytest_flops.resnet_bk.bk_core import triton_kernels as kernels

bk_triton._LANES, bk_triton._LENGTH = 32, 4

CASES = {
    "halo-1": ("halo", 1, 1j, torch.float32),
    "halo-2": ("halo", 2, 1j, torch.float32),
    "halo-tile": ("halo", 80, 1j, torch.float32),
    "halo-tiles": ("halo", 170, 0.3 - 1.2j, torch.float32),
    "scan-1": ("scan", 1, 0.1j, torch.float32),
    "scan-3": ("scan", 3, 0.1j, torch.float32),
    "scan-tile": ("scan", 128, 0.01j, torch.float32),
    "scan-tiles": ("scan", 300, 0.2 - 0.3j, torch.float32),
    "scan-float64": ("scan", 129, 1e-3j, torch.float64),
}


def _relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double() - truth).abs().max() / truth.abs().max())


def interpret(kind: str, length: int, z: complex, dtype: torch.dtype) -> dict[str, float]:
    """Errors of features and gradients against the CPU in float64, relative to the largest."""
    bk_triton._MOST_PASSES = 8 if kind == "halo" else 0
    torch.manual_seed(length)
    a = torch.randn(length, 2, dtype=dtype).t()
    b, c = torch.rand(2, length - 1, dtype=dtype), torch.rand(length - 1, dtype=dtype).expand(2, -1)
    incoming = torch.randn(2, length, 2, dtype=dtype)
    leaves = [tensor.double().clone().requires_grad_() for tensor in (a, b, c)]
    truth = bk_core(*leaves, z)
    truth.backward(incoming.double())
    features = bk_triton.green(a, b, c, z)
    to_alpha, slope = bk_triton.exact_gradient(a, b, c, z, incoming, factors_too=True)
    errors = {"features": _relative(features, truth.detach())}
    errors["he_diag"] = _relative(to_alpha.real, leaves[0].grad)
    if length > 1:
        errors["h0_super"] = _relative(slope[:, :-1] * c, leaves[1].grad)
    return errors


def halo_flops(grid: Any, LANES: int, L: int, PASSES: int, DUAL: bool) -> int:
    """What `halo` executes, counted by hand from its source, a line per function.

    A step of a walk is `_minus` and `_inverse`: 4 + 7, and 8 + 19 of dual numbers.
    """
    step = 27 if DUAL else 11
    load = (3 if DUAL else 2) * L + 1  # a - Re z, b c, of the last b c; the conjugate of h
    nothing = 2
    passes = (PASSES - 1) * 2 * L * step
    store = L * (3 * step + (21 if DUAL else 0))  # left, G, right; G g and a sign
    return grid[0] * (LANES * (load + nothing + passes + store) + 1)  # 1: -Im z


def scan_flops(grid: Any, LANES: int, L: int, DUAL: bool) -> int:
    """Likewise of `scan`, for rows of one tile."""
    step, times, plus = (27, 20, 4) if DUAL else (11, 6, 2)
    minus, inverse = (8, 19) if DUAL else (4, 7)
    parts = 4 if DUAL else 2
    load = (3 if DUAL else 2) * L + 1
    entries = 2 * parts * 2
    normalised = 4 * 3 + 3 + 1 + 4 * parts  # sizes, their maximum, a division, products
    walk = 2 * 2 + L * 2 * (times + minus) + L // 4 * normalised
    scan = (LANES.bit_length() - 1) * (8 * times + 4 * plus + normalised)
    entered = 2 * (times + plus) + inverse + times
    store = L * (3 * step + (21 if DUAL else 0))
    return grid[0] * (LANES * (load + entries + 2 * (walk + scan + entered) + store) + 1)


def execute(kind: str, length: int, z: complex, dtype: torch.dtype) -> dict[str, Any]:
    """What the kernels of forward and backward execute, and what these formulas say."""
    bk_triton._MOST_PASSES = 8 if kind == "halo" else 0
    register_cost(kernels.halo)(halo_flops)
    register_cost(kernels.scan)(scan_flops)
    matrix = (torch.rand(2, length, dtype=dtype), *torch.rand(2, 2, length - 1, dtype=dtype))
    found = {}
    for phase in ("forward", "backward"):
        with FLOPsMeter() as meter, executed() as work:
            if phase == "forward":
                bk_triton.green(*matrix, z)
            else:
                incoming = torch.rand(2, length, 2, dtype=dtype)
                bk_triton.exact_gradient(*matrix, z, incoming, factors_too=False)
        by_formula = meter.operations[f"triton.{kind}"].forward
        found[phase] = (work.flops, by_formula, work.loaded, work.stored)
    return found


def read(kind: str, length: int, z: complex, dtype: torch.dtype) -> dict[str, Any]:
    """What the kernels' code says of the launches that `execute` makes in the interpreter."""
    bk_triton._MOST_PASSES = 8 if kind == "halo" else 0
    formula = {"halo": halo_flops, "scan": scan_flops}[kind]
    reads = [name for name in signature(formula).parameters if name != "grid"]
    found: dict[str, Any] = {}

    def work_of_launch(kernel: Any, *args: Any, grid: Any, **constants: Any) -> None:
        values = {**dict(zip(kernel.arg_names, args, strict=False)), **constants}
        work = work_of(kernel.fn, [values[name] for name in kernel.arg_names], (*grid, 1, 1)[:3])
        by_formula = formula(grid, **{name: values[name] for name in reads})
        found["dual" if values["DUAL"] else "plain"] = (work and work.flops, by_formula)

    type(kernels.halo).run = work_of_launch
    matrix = (torch.rand(2, length, dtype=dtype), *torch.rand(2, 2, length - 1, dtype=dtype))
    bk_triton.green(*matrix, z)
    bk_triton.exact_gradient(*matrix, z, torch.rand(2, length, 2, dtype=dtype), factors_too=False)
    return found


def compile_kernels() -> list[str]:
    """Compile every kernel for Hopper, which takes no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_kernel

    sizes = {"LANES": 32, "L": 2, "PASSES": 2, "TILES": 32}
    integers = {"a_row", "b_row", "c_row", "a_step", "b_step", "c_step", "length", "rows", "tiles"}
    compiled = []
    for kernel in (kernels.halo, kernels.scan, kernels.summarise, kernels.carry):
        for dual in (False, True):
            values = {**sizes, "DUAL": dual, "FACTORS": dual}
            constants = {name: values[name] for name in kernel.arg_names if name.isupper()}
            types = {
                name: "constexpr" if name.isupper() else "i32" if name in integers else "*fp32"
                for name in kernel.arg_names
            }
            source = ASTSource(fn=kernel, signature=types, constexprs=constants)
            binary = compile_kernel(
                source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}
            )
            assert binary.asm["cubin"]
            compiled.append(f"{kernel.__name__}{' dual' if dual else ''}")
    return compiled


if __name__ == "__main__":
    task, *names = sys.argv[1:]
    if task == "compile":
        found: Any = compile_kernels()
    else:
        of_case = {"interpret": interpret, "execute": execute, "read": read}[task]
        found = {name: of_case(*CASES[name]) for name in names or CASES}
    sys.stdout.write(json.dumps(found))
