"""Losses: what their plain parts cost, per input element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flops.counting.costs.elements import has_no_values, per_input
from pytest_flops.counting.costs.table import FREE, enter, rule

enter(
    mse_loss=per_input(3),  # subtract, square, sum
    mse_loss_backward=per_input(3),  # subtract, double, times gradient
    smooth_l1_loss=per_input(5),  # subtract, absolute value, square, half, sum
    smooth_l1_loss_backward=per_input(3),
    huber_loss=per_input(5),
    huber_loss_backward=per_input(3),
    # two logs, 1 - x, 1 - t, two products, their sum, sum
    binary_cross_entropy=per_input(8),
    binary_cross_entropy_backward=per_input(5),
    # 1 - t, times x, log-sigmoid, subtract, sum; its gradient runs in plain operators
    binary_cross_entropy_with_logits=per_input(5),
    soft_margin_loss=per_input(5),
    soft_margin_loss_backward=per_input(5),
    # margin - target + x, maximum, power, sum
    multi_margin_loss=per_input(5),
    multi_margin_loss_backward=per_input(4),
    nll_loss_backward=FREE,  # writes one constant per row
    nll_loss2d_backward=FREE,
)


@rule("nll_loss_forward", "nll_loss2d_forward")
def negative_log_likelihood(target: Tensor) -> int:
    """One log-probability per target is summed."""
    return target.numel()


@rule("multilabel_margin_loss_forward")
def multilabel_margin(out: tuple[Tensor, Tensor]) -> int | None:
    """`max(0, 1 - (x_target - x_other))`, summed, for every pair of a target and another class."""
    return multilabel_margin_backward(out[1])


@rule("multilabel_margin_loss_backward")
def multilabel_margin_backward(is_target: Tensor) -> int | None:
    """Per pair the margin again (2), and a gradient for both classes.

    Which classes are targets only their values tell.
    """
    if has_no_values(is_target):
        return None
    targets, others = is_target.sum(-1), (1 - is_target).sum(-1)
    return int(4 * (targets * others).sum())


# Per step and state of the sequence with blanks: the log-sum of three predecessors (12), and the
# log-probability. Backward recurses likewise, and adds the product with the forward variable to its
# class (2); per class the gradient is (exp(p) - exp(sum + loss - p)) * gradient (6).
CTC_STATE, CTC_OCCUPANCY, CTC_CLASS = 13, 2, 6
_Lengths: TypeAlias = "Tensor | Sequence[int]"


@rule("_ctc_loss")
def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: _Lengths, target_lengths: _Lengths
) -> int:
    """Graves et al. 2006, equations 5 to 8: 2 L + 1 states for a target of length L."""
    return CTC_STATE * _ctc_states(log_probs, targets, input_lengths, target_lengths)


@rule("_ctc_loss_backward")
def ctc_loss_backward(
    log_probs: Tensor, targets: Tensor, input_lengths: _Lengths, target_lengths: _Lengths
) -> int:
    """Graves et al. 2006, equations 9 to 16."""
    states = _ctc_states(log_probs, targets, input_lengths, target_lengths)
    return (CTC_STATE + CTC_OCCUPANCY) * states + CTC_CLASS * log_probs.numel()


def _ctc_states(log_probs: Tensor, targets: Tensor, steps: _Lengths, lengths: _Lengths) -> int:
    """States of all steps of all sequences; where lengths have no values, all are the longest."""
    if isinstance(steps, Tensor) and isinstance(lengths, Tensor):
        if any(isinstance(tensor, FakeTensor) for tensor in (log_probs, steps, lengths)):
            longest, batch = log_probs.shape[:2]
            return longest * (2 * targets.numel() + batch)
        steps, lengths = steps.reshape(-1).tolist(), lengths.reshape(-1).tolist()
    return sum(step * (2 * length + 1) for step, length in zip(steps, lengths, strict=True))
