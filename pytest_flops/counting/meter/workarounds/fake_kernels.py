"""Two operators run on real tensors, but not on fake ones: shapes of their results.

PyTorch: `_grouped_mm`, the product inside a mixture of experts, takes float32 on the CPU
(pytorch/pytorch#162059), and on fake tensors bfloat16 alone. `_ctc_loss` has no fake kernel, since
how large its result is depends on the longest target, a value; the results have the largest size
that the shapes allow.
Seen in: 2.11 to 2.13.
May go when: `test_grouped_products_of_experts_count_as_in_a_real_step` and
`test_a_ctc_loss_counts_as_in_a_real_step_whose_targets_are_the_longest` pass without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


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
