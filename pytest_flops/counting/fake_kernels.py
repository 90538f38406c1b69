"""Shapes of operators on fake tensors, where PyTorch's fake kernel refuses what the real one takes.

`_grouped_mm`, the product inside a mixture of experts, takes float32 on the CPU, and bfloat16 alone
on fake tensors (torch 2.11 to 2.13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`a @ b` for groups that `offs` ends; where both are matrices it splits what is summed over.

    The result is `(rows, columns)`, and `(groups, rows, columns)` where every group has its own.
    """
    if not isinstance(a, FakeTensor) or a.dtype == torch.bfloat16:
        run: Callable[..., Tensor] = torch.ops.aten._grouped_mm.default._op  # noqa: SLF001
        return run(a, b, offs, bias, out_dtype)
    groups: list[int] = []
    if a.dim() == b.dim():
        groups = [a.shape[0] if offs is None else len(offs)]
    return a.new_empty([*groups, a.shape[-2], b.shape[-1]], dtype=out_dtype or a.dtype)


FAKE_KERNELS: Mapping[str, Callable[..., Any]] = {"aten._grouped_mm": grouped_mm}
