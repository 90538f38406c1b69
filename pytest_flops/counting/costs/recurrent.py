"""Recurrent layers, whole and by the step: two products, their biases, and the cell's gates."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from pytest_flops.counting.costs.table import Formulas, Rules

# Per hidden unit: what the plain cell executes besides its two products and their biases.
# LSTM: 4 sums of the two products, 3 sigmoids, 2 tanh, 3 multiplies, 1 add.
# GRU: 3 sums, 2 sigmoids, 1 tanh, 2 multiplies, 1 subtract, 1 more sum.
# RNN: 1 sum, 1 tanh or ReLU.
_POINTWISE = {"lstm": 13, "gru": 10, "rnn": 2}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# Their gradients: LSTM 3 sigmoids, 2 tanh, 6 multiplies, 1 add; GRU alike; RNN 1.
_BACKWARD = {"lstm": 12, "gru": 11, "rnn": 1}
_MODES = ("rnn", "rnn", "lstm", "gru")  # as cuDNN numbers them: relu, tanh, LSTM, GRU


def _cell(kind: str, hidden: int, features: int, *, biases: bool, backward: bool) -> int:
    """One time step of one sequence: `W x + b + U h + c`, and the gates; or their gradients."""
    products = 2 * _GATES[kind] * hidden * (features + hidden) * (2 if backward else 1)
    pointwise = (_BACKWARD if backward else _POINTWISE)[kind] * hidden
    return products + 2 * _GATES[kind] * hidden * biases + pointwise


def _steps(x: Tensor) -> int:
    """Time steps of all sequences: everything of the input but its features."""
    return prod(x.shape[:-1])


def _cudnn(*, backward: bool) -> Formulas:
    """Every layer and direction, each with `weight_stride0` weights; a projection has no rule."""

    def cost(
        input: Tensor,
        weight: Sequence[Tensor],
        weight_stride0: int,
        mode: int,
        hidden_size: int,
        proj_size: int,
    ) -> int | None:
        if proj_size:
            return None
        biases = weight_stride0 >= 4  # beside one weight for the input and one for the hidden state
        return _steps(input) * sum(
            _cell(_MODES[mode], hidden_size, of_input.shape[1], biases=biases, backward=backward)
            for of_input in weight[::weight_stride0]
        )

    return Formulas(cost)


def _gates(kind: str) -> Formulas:
    """CUDA's fused gates, after the products: biases and pointwise parts per hidden unit."""

    def cost(out: tuple[Tensor, ...], input_bias: Tensor | None) -> int:
        biases = 2 * _GATES[kind] * (input_bias is not None)
        return out[0].numel() * (_POINTWISE[kind] + biases)

    return Formulas(cost)


RULES: Rules = {
    # one layer in one direction
    "mkldnn_rnn_layer": lambda input, mode, hidden_size, has_biases: (
        _steps(input)
        * _cell(_MODES[mode], hidden_size, input.shape[-1], biases=has_biases, backward=False)
    ),
    # oneDNN computes the gradients of biases whether the layer has them or not
    "mkldnn_rnn_layer_backward": lambda input, mode, hidden_size: (
        _steps(input)
        * _cell(_MODES[mode], hidden_size, input.shape[-1], biases=True, backward=True)
    ),
    "_cudnn_rnn": _cudnn(backward=False),
    "_cudnn_rnn_backward": _cudnn(backward=True),
    "_thnn_fused_lstm_cell": _gates("lstm"),
    "_thnn_fused_lstm_cell_backward_impl": lambda out: out[0].numel() * _BACKWARD["lstm"],
    "_thnn_fused_gru_cell": _gates("gru"),
    "_thnn_fused_gru_cell_backward": lambda out: out[0].numel() * _BACKWARD["gru"],
}
