"""Recurrent layers, whole and by the step: two products, their biases, and the cell's gates."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from pytest_flops.counting.costs.elements import first_tensor
from pytest_flops.counting.costs.table import Call, RuleByName, enter, rule

# Per hidden unit: what the plain cell executes besides its two products and their biases.
# LSTM: 4 sums of the two products, 3 sigmoids, 2 tanh, 3 multiplies, 1 add.
# GRU: 3 sums, 2 sigmoids, 1 tanh, 2 multiplies, 1 subtract, 1 more sum.
# RNN: 1 sum, 1 tanh or ReLU.
CELL_POINTWISE = {"lstm": 13, "gru": 10, "rnn": 2}
CELL_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# Their gradients: LSTM 3 sigmoids, 2 tanh, 6 multiplies, 1 add; GRU alike; RNN 1.
CELL_BACKWARD = {"lstm": 12, "gru": 11, "rnn": 1}
_MODES = ("rnn", "rnn", "lstm", "gru")  # as cuDNN numbers them: relu, tanh, LSTM, GRU


def _cell_products(kind: str, hidden: int, features: int) -> int:
    return 2 * CELL_GATES[kind] * hidden * (features + hidden)


def _cell(kind: str, hidden: int, features: int, *, biases: bool) -> int:
    """One time step of one sequence: `W x + b + U h + c`, and the gates."""
    added = 2 * CELL_GATES[kind] * hidden * biases
    return _cell_products(kind, hidden, features) + added + CELL_POINTWISE[kind] * hidden


def _cell_backward(kind: str, hidden: int, features: int, *, biases: bool) -> int:
    """Two gradients per product, one sum per bias, and the gates."""
    summed = 2 * CELL_GATES[kind] * hidden * biases
    return 2 * _cell_products(kind, hidden, features) + summed + CELL_BACKWARD[kind] * hidden


def _kind_and_hidden(call: Call) -> tuple[str, int]:
    return _MODES[call.argument("mode")], int(call.argument("hidden_size"))


def _steps(call: Call) -> int:
    """Time steps of all sequences: everything of the input but its features."""
    return prod(call.argument("input").shape[:-1])


@rule("mkldnn_rnn_layer")
def onednn_layer(call: Call) -> int:
    """One layer in one direction."""
    features, biases = int(call.argument("input").shape[-1]), bool(call.argument("has_biases"))
    return _steps(call) * _cell(*_kind_and_hidden(call), features, biases=biases)


@rule("mkldnn_rnn_layer_backward")
def onednn_layer_backward(call: Call) -> int:
    """OneDNN computes the gradients of biases whether the layer has them or not."""
    features = int(call.argument("input").shape[-1])
    return _steps(call) * _cell_backward(*_kind_and_hidden(call), features, biases=True)


def _cudnn(cell: Callable[..., int]) -> RuleByName:
    """Every layer and direction, each with `weight_stride0` weights; a projection has no rule."""

    def cost(call: Call) -> int | None:
        if call.argument("proj_size"):
            return None
        per_layer = call.argument("weight_stride0")
        features = [int(first.shape[1]) for first in call.argument("weight")[::per_layer]]
        biases = per_layer >= 4  # beside one weight for the input and one for the hidden state
        return _steps(call) * sum(
            cell(*_kind_and_hidden(call), size, biases=biases) for size in features
        )

    return RuleByName(cost)


def _gates(kind: str, *, backward: bool = False) -> RuleByName:
    """CUDA's fused gates, after the products: biases and pointwise parts per hidden unit."""

    def cost(call: Call) -> int:
        units = int(first_tensor(call.out).numel())
        if backward:
            return units * CELL_BACKWARD[kind]
        biases = 2 * CELL_GATES[kind] * (call.argument("input_bias") is not None)
        return units * (CELL_POINTWISE[kind] + biases)

    return RuleByName(cost)


enter(
    _cudnn_rnn=_cudnn(_cell),
    _cudnn_rnn_backward=_cudnn(_cell_backward),
    _thnn_fused_lstm_cell=_gates("lstm"),
    _thnn_fused_lstm_cell_backward_impl=_gates("lstm", backward=True),
    _thnn_fused_gru_cell=_gates("gru"),
    _thnn_fused_gru_cell_backward=_gates("gru", backward=True),
)
