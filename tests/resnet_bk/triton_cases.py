"""Run by `test_bk_triton.py` in a process of its own: Triton's interpreter, or its compiler.

Writes JSON to standard output: errors of the interpreted kernels, or the kernels that compiled.
"""

from __future__ import annotations

import json
import sys

import torch

from pytest_flops import bk_core
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
    found = (
        compile_kernels()
        if sys.argv[1:] == ["compile"]
        else {name: interpret(*CASES[name]) for name in sys.argv[1:] or CASES}
    )
    sys.stdout.write(json.dumps(found))
