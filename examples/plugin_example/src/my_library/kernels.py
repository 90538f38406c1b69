"""`halved`: a Triton kernel that is launched directly, without an operator around it."""

# mypy: ignore-errors
# Triton's language, which Triton compiles.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn


@triton.jit
def halve(x, y, n, BLOCK: tl.constexpr):  # noqa: N803 - a constant
    """Half of `n` elements."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n) * 0.5, mask=at < n)


def halved(x: Tensor) -> Tensor:
    """Half of each element, on the GPU."""
    y = torch.empty_like(x)
    halve[triton.cdiv(x.numel(), 1024),](x, y, x.numel(), BLOCK=1024)
    return y


class Half(nn.Module):
    """The same as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Half of each element."""
        return halved(x)
