"""`flex_attention` refuses to train on the CPU, also where nothing is computed.

PyTorch: it has no kernel for a backward on the CPU, and refuses tensors there that require a
gradient, before it looks whether they are fake. A step on fake tensors has no need of a kernel, so
fakes are let through.
Seen in: 2.11 to 2.14.
May go when: `test_a_training_step_of_flex_attention_is_counted_without_a_gpu` passes without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch._subclasses import FakeTensor

from pytest_flops.counting.replacing import replaced


@contextmanager
def train_on_fakes() -> Iterator[None]:
    """While active, `flex_attention` takes fake tensors on the CPU that require a gradient."""
    library: Any = sys.modules.get("torch.nn.attention.flex_attention")
    if not hasattr(library, "_validate_device"):
        yield
        return
    with replaced(library, "_validate_device", _unless_fake):
        yield


def _unless_fake(before: Callable[..., None], query: Tensor, key: Tensor, value: Tensor) -> None:
    if not isinstance(query, FakeTensor):
        before(query, key, value)
