"""Three operators run on real tensors, but not on fake ones: shapes of their results.

PyTorch: `_grouped_mm`, the product inside a mixture of experts, takes float32 on the CPU
(pytorch/pytorch#162059), and on fake tensors bfloat16 alone. `_ctc_loss` has no fake kernel, since
how large its result is depends on the longest target, a value; the results have the largest size
that the shapes allow. `sparse_mask` of fakes stores nothing, and so the gradient of a sparse
tensor's values is empty and refused.
Seen in: 2.11 to 2.13.
May go when: `test_grouped_products_of_experts_count_as_in_a_real_step` and
`test_a_ctc_loss_counts_as_in_a_real_step_whose_targets_are_the_longest` pass without it, and
`test_values_of_a_sparse_tensor_are_trained_on_fakes_as_for_real`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def running_on_fakes(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the operator of this name; on fake tensors, its kernel here if it has one."""
    kernel = _KERNELS.get(name)
    if kernel is None:
        return run

    def run_on_fakes(first: Tensor, *rest: Any, **kwargs: Any) -> Any:
        # Of bfloat16 PyTorch fakes grouped products itself, and computes no CTC loss.
        own = first.dtype != torch.bfloat16 or kernel is _sparse_mask
        if isinstance(first, FakeTensor) and own:
            return kernel(first, *rest, **kwargs)
        return run(first, *rest, **kwargs)

    return run_on_fakes


def _grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    _bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`a @ b` for groups that `offs` ends; where both are matrices it splits what is summed over.

    The result is `(rows, columns)`, and `(groups, rows, columns)` where every group has its own.
    """
    groups: list[int] = []
    if a.dim() == b.dim():
        groups = [a.shape[0] if offs is None else len(offs)]
    return a.new_empty([*groups, a.shape[-2], b.shape[-1]], dtype=out_dtype or a.dtype)


def _ctc_loss(log_probabilities: Tensor, targets: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    """The loss `(batch,)`, and the log-probability of every state `(batch, steps, states)`.

    `log_probabilities` are `(steps, batch, classes)`; `targets` `(batch, longest)`, or all in one.
    """
    steps, batch, _classes = log_probabilities.shape
    loss = log_probabilities.new_empty(batch)
    return loss, loss.new_empty(batch, steps, 2 * targets.shape[-1] + 1)


def _ctc_loss_backward(_gradient: Tensor, log_probabilities: Tensor, *_: Any) -> Tensor:
    """The gradient of the log-probabilities."""
    return log_probabilities.new_empty(log_probabilities.shape)


def _sparse_mask(dense: Tensor, mask: Tensor) -> Tensor:
    """The values of `dense` that `mask` stores."""
    stored = dense.new_empty((mask._nnz(), *mask.shape[mask.sparse_dim() :]))  # noqa: SLF001
    return torch.sparse_coo_tensor(mask._indices(), stored, mask.shape)  # noqa: SLF001


_KERNELS: Mapping[str, Callable[..., Any]] = {
    "aten._grouped_mm": _grouped_mm,
    "aten._ctc_loss": _ctc_loss,
    "aten._ctc_loss_backward": _ctc_loss_backward,
    "aten.sparse_mask": _sparse_mask,
}
