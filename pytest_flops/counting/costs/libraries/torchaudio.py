"""Operators of torchaudio: recursive filters, the loss of a transducer, and forced alignment."""

from __future__ import annotations

from torch import Tensor

from pytest_flops.counting.costs.elements import has_no_values, per_input
from pytest_flops.counting.costs.table import Rules

# Per state: its log-probability from both predecessors, each with one of its own (2), and the
# log-sum of the two (8); the same from its end.
_STATE = 2 * (2 + 8)
# Per class of a state: the gradient `exp(forward + backward + log-probability - loss)` (4), from
# which of two classes, the blank and the target, another such term is taken away (5 each).
_CLASS, _TAKEN = 4, 2 * 5
_LOG_SOFTMAX = 5


def _transducer(
    logits: Tensor, logit_lengths: Tensor, target_lengths: Tensor, fused_log_softmax: bool
) -> int | None:
    """Graves 2012, equations 16 to 20: a state for every step and number of targets before it.

    The gradient is computed with the loss, whether or not it is asked for.
    """
    if has_no_values(logit_lengths) or has_no_values(target_lengths):
        return None
    states = int((logit_lengths * (target_lengths + 1)).sum())
    per_class = _CLASS + (_LOG_SOFTMAX if fused_log_softmax else 0)
    return states * (_STATE + _TAKEN + per_class * logits.shape[-1])


RULES: Rules = {
    # every sample less its share of as many earlier ones as there are coefficients but the first
    "torchaudio::_lfilter_core_loop": lambda input_signal_windows, a_coeff_flipped: (
        2 * input_signal_windows.numel() * (a_coeff_flipped.shape[1] - 1)
    ),
    # `last = temp - last_in + 0.995 * last; output = 0.5 * waveform + 0.75 * last`
    "torchaudio::_overdrive_core_loop": per_input(6, of="waveform"),
    "torchaudio::rnnt_loss_forward": _transducer,
    # the best of three predecessors and the log-probability, for 2 L + 1 states of L targets
    "torchaudio::forced_align": lambda log_probs, targets: (
        log_probs.shape[0] * log_probs.shape[1] * (2 * targets.shape[1] + 1)
    ),
}
