"""Losses: what their plain parts cost, per input element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flops.counting.costs.elements import has_no_values, per_input
from pytest_flops.counting.costs.table import FREE, Formulas, Rules


def _target_pairs(is_target: Tensor) -> int | None:
    """4 FLOPs per pair of a target and another class; which are targets only their values tell."""
    if has_no_values(is_target):
        return None
    targets, others = is_target.sum(-1), (1 - is_target).sum(-1)
    return int(4 * (targets * others).sum())


# Per step and state of the sequence with blanks: the log-sum of three predecessors (12), and the
# log-probability. Backward recurses likewise, and adds the product with the forward variable to its
# class (2); per class the gradient is (exp(p) - exp(sum + loss - p)) * gradient (6).
_CTC_STATE, _CTC_OCCUPANCY, _CTC_CLASS = 13, 2, 6
_Lengths: TypeAlias = "Tensor | Sequence[int]"


def _ctc(per_state: int, per_class: int) -> Formulas:
    """Graves et al. 2006, equations 5 to 16: 2 L + 1 states for a target of length L."""

    def cost(
        log_probs: Tensor, targets: Tensor, input_lengths: _Lengths, target_lengths: _Lengths
    ) -> int:
        states = _ctc_states(log_probs, targets, input_lengths, target_lengths)
        return per_state * states + per_class * log_probs.numel()

    return Formulas(cost)


def _ctc_states(log_probs: Tensor, targets: Tensor, steps: _Lengths, lengths: _Lengths) -> int:
    """States of all steps of all sequences; where lengths have no values, all are the longest."""
    if isinstance(steps, Tensor) and isinstance(lengths, Tensor):
        if any(isinstance(tensor, FakeTensor) for tensor in (log_probs, steps, lengths)):
            longest, batch = log_probs.shape[:2]
            return longest * (2 * targets.numel() + batch)
        steps, lengths = steps.reshape(-1).tolist(), lengths.reshape(-1).tolist()
    return sum(step * (2 * length + 1) for step, length in zip(steps, lengths, strict=True))


RULES: Rules = {
    "mse_loss": per_input(3),  # subtract, square, sum
    "mse_loss_backward": per_input(3),  # subtract, double, times gradient
    "smooth_l1_loss huber_loss": per_input(5),  # subtract, absolute value, square, half, sum
    "smooth_l1_loss_backward huber_loss_backward": per_input(3),
    # two logs, 1 - x, 1 - t, two products, their sum, sum
    "binary_cross_entropy": per_input(8),
    "binary_cross_entropy_backward": per_input(5),
    # 1 - t, times x, log-sigmoid, subtract, sum; its gradient runs in plain operators
    "binary_cross_entropy_with_logits": per_input(5),
    "soft_margin_loss soft_margin_loss_backward": per_input(5),
    # margin - target + x, maximum, power, sum
    "multi_margin_loss": per_input(5),
    "multi_margin_loss_backward": per_input(4),
    # one log-probability per target is summed
    "nll_loss_forward nll_loss2d_forward": lambda target: target.numel(),
    "nll_loss_backward nll_loss2d_backward": FREE,  # writes one constant per row
    # `max(0, 1 - (x_target - x_other))`, summed; the margin again, a gradient for both classes
    "multilabel_margin_loss_forward": lambda out: _target_pairs(out[1]),
    "multilabel_margin_loss_backward": _target_pairs,
    "_ctc_loss": _ctc(_CTC_STATE, 0),
    "_ctc_loss_backward": _ctc(_CTC_STATE + _CTC_OCCUPANCY, _CTC_CLASS),
}
