"""`running_mean` and `mean_of_rows`: custom operators, in a form PyTorch can trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("my_library::running_mean", mutates_args=())
def running_mean(x: Tensor) -> Tensor:
    """The mean of all elements up to each one, along the last dimension."""
    positions = torch.arange(1, x.shape[-1] + 1, device=x.device)
    return x.cumsum(-1) / positions


@running_mean.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("my_library::running_mean_backward", mutates_args=())
def _running_mean_backward(gradient: Tensor) -> Tensor:
    """Element j is in the means from j on, each with its weight."""
    positions = torch.arange(1, gradient.shape[-1] + 1, device=gradient.device)
    return (gradient / positions).flip(-1).cumsum(-1).flip(-1)


@_running_mean_backward.register_fake
def _(gradient: Tensor) -> Tensor:
    return torch.empty_like(gradient)


def _differentiate(_context: Any, gradient: Tensor) -> Tensor:
    backward: Tensor = torch.ops.my_library.running_mean_backward(gradient)
    return backward


running_mean.register_autograd(_differentiate)


@torch.library.custom_op("my_library::mean_of_rows", mutates_args=())
def mean_of_rows(table: Tensor, rows: Tensor) -> Tensor:
    """The mean of some rows of a table; all others are not read."""
    return table[rows].mean(0)


@mean_of_rows.register_fake
def _(table: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001 - the operator's schema
    return table.new_empty(table.shape[1:])
