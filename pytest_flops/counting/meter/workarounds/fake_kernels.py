"""Shapes of operators on fake tensors, where PyTorch's fake kernel refuses what the real one takes.

`_grouped_mm`, the product inside a mixture of experts, takes float32 on the CPU, and bfloat16 alone
on fake tensors. The CTC loss has no fake kernel, since its longest target is a value (torch 2.11 to
2.13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def grouped_mm(
    run: Callable[..., Any],
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    *rest: Any,
    out_dtype: torch.dtype | None = None,
) -> Any:
    """`a @ b` for groups that `offs` ends; where both are matrices it splits what is summed over.

    The result is `(rows, columns)`, and `(groups, rows, columns)` where every group has its own.
    """
    if not isinstance(a, FakeTensor) or a.dtype == torch.bfloat16:
        return run(a, b, offs, *rest, out_dtype=out_dtype)
    groups: list[int] = []
    if a.dim() == b.dim():
        groups = [a.shape[0] if offs is None else len(offs)]
    return a.new_empty([*groups, a.shape[-2], b.shape[-1]], dtype=out_dtype or a.dtype)


def ctc_loss(
    run: Callable[..., Any], log_probabilities: Tensor, targets: Tensor, *rest: Any, **out: Any
) -> Any:
    """The loss `(batch,)`, and the log-probability of every state `(batch, steps, states)`.

    `log_probabilities` are `(steps, batch, classes)`; `targets` `(batch, longest)`, or all in one.
    """
    if out or not isinstance(log_probabilities, FakeTensor):
        return run(log_probabilities, targets, *rest, **out)
    steps, batch, _ = log_probabilities.shape
    loss = log_probabilities.new_empty(batch)
    return loss, loss.new_empty(batch, steps, 2 * targets.shape[-1] + 1)


def ctc_loss_backward(
    run: Callable[..., Any], gradient: Tensor, log_probabilities: Tensor, *rest: Any, **out: Any
) -> Any:
    """The gradient of the log-probabilities."""
    if out or not isinstance(log_probabilities, FakeTensor):
        return run(gradient, log_probabilities, *rest, **out)
    return log_probabilities.new_empty(log_probabilities.shape)


FAKE_KERNELS: Mapping[str, Callable[..., Any]] = {
    "aten._grouped_mm": grouped_mm,
    "aten._ctc_loss": ctc_loss,
    "aten._ctc_loss_backward": ctc_loss_backward,
}
"""By the operator's name: a function of what PyTorch runs, and of the operator's own arguments."""
