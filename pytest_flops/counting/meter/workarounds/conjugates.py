"""Composite kernels lose conjugates under a dispatch mode, so the meter's would change results.

PyTorch: `conj()` sets a bit of the tensor, which the dispatch key `Conjugate` resolves. Inside a
kernel that a dispatch mode has called, that key is excluded. A kernel that conjugates and then
calls other operators computes with what is not conjugated: `linalg.pinv` and `lstsq` of complex
matrices, from 2.14 on `linalg.polar` and `matrix_sqrth` too, are wrong inside any
`TorchDispatchMode` (pytorch/pytorch#198118). So are composite operators, which reach a mode whole
under `torch.inference_mode`, and any custom operator may be.
Seen in: 2.11 to 2.14.
May go when: `test_complex_pseudoinverses_and_least_squares_are_right_inside_the_meter`,
`test_complex_polar_factors_and_square_roots_are_right_inside_the_meter` and
`test_conjugates_inside_an_operator_are_heeded` pass without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._C import DispatchKey


def may_conjugate_inside(name: str) -> bool:
    """Whether the kernel of an operator may conjugate: linear algebra, or a custom one."""
    return name.startswith("aten.linalg_") or not name.startswith(("aten.", "prims."))


def resolving_conjugates(run: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, run with the keys that resolve conjugate and negative bits."""

    def run_resolving(*args: Any, **kwargs: Any) -> Any:
        included = torch._C._dispatch_tls_local_include_set()  # noqa: SLF001
        excluded = torch._C._dispatch_tls_local_exclude_set()  # noqa: SLF001
        excluded = excluded.remove(DispatchKey.Conjugate).remove(DispatchKey.Negative)
        with torch._C._ForceDispatchKeyGuard(included, excluded):  # noqa: SLF001
            return run(*args, **kwargs)

    return run_resolving
