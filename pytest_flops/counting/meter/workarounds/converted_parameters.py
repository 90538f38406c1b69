"""A module with fake parameters cannot be converted: `.to(dtype)`, `.half()`, `.float()` raise.

PyTorch: `Module._apply` exchanges a fake parameter with its converted form by `swap_tensors`, which
refuses tensors with weak references; the memo of every `FakeTensorMode` holds one of each fake. A
real parameter takes the converted data instead, and so do fakes here.
Seen in: 2.11 to 2.13.
May go when: `test_a_forward_may_convert_its_modules` passes without it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flops.counting.replacing import replaced


def converting_fake_parameters() -> AbstractContextManager[None]:
    """While active, a fake tensor that is swapped with another takes its data, in every thread."""
    return replaced(torch.utils, "swap_tensors", _swap)


def _swap(before: Callable[..., Any], first: Tensor, second: Tensor) -> None:
    if not isinstance(first, FakeTensor) or not isinstance(second, FakeTensor):
        before(first, second)
        return
    first.data = second
    first.fake_device = second.fake_device
