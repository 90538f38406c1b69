"""Recurrent layers, whole and by the step: two products, their biases, and the cell's gates.

A fused layer costs what PyTorch's plain cells cost, forward and backward, for the gradients that
were asked for: a kernel that computes the input's gradient although nobody wants it costs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from pytest_flops.counting.costs.elements import first_tensor, wanted
from pytest_flops.counting.costs.table import Formulas, Rules

# Per hidden unit: what the plain cell executes besides its two products and their biases.
# LSTM: 4 sums of the two products, 3 sigmoids, 2 tanh, 3 multiplies, 1 add.
# GRU: 3 sums, 2 sigmoids, 1 tanh, 2 multiplies, 1 subtract, 1 more sum.
# RNN: 1 sum, 1 tanh or ReLU.
_POINTWISE = {"lstm": 13, "gru": 10, "rnn": 2}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# Their gradients: LSTM 3 sigmoids, 2 tanh, 2 of each of 3 multiplies; GRU 2 sigmoids, 1 tanh, 2 of
# each of 2 multiplies, 1 negation, 1 sum; RNN 1.
_BACKWARD = {"lstm": 11, "gru": 9, "rnn": 1}
_OUTPUT_GATE = 4  # of an LSTM's 11: a sigmoid, a tanh, a multiply
_MODES = ("rnn", "rnn", "lstm", "gru")  # as cuDNN numbers them: relu, tanh, LSTM, GRU


def _layer(kind: str, hidden: int, features: int, rows: int, *, biases: bool) -> int:
    """`W x + b + U h + c` and the gates, of `rows`: every step of every sequence."""
    products = 2 * _GATES[kind] * hidden * (features + hidden)
    return rows * (products + 2 * _GATES[kind] * hidden * biases + _POINTWISE[kind] * hidden)


def _layer_backward(
    kind: str,
    hidden: int,
    weights: Sequence[tuple[Tensor, bool]],
    sizes: tuple[int, int, int],
    *,
    of_input: bool,
    of_start: tuple[bool, bool],
    from_output: bool,
    from_end: tuple[bool, bool],
) -> int:
    """The gradients of one layer in one direction.

    Args:
        kind: `lstm`, `gru` or `rnn`.
        hidden: The size of its state.
        weights: Of the input, of the state, and their biases if it has any; each with whether its
            gradient is wanted.
        sizes: Steps; sequences; and rows, which are all steps of all sequences.
        of_input: Whether the input's gradient is wanted.
        of_start: Whether that of the first hidden state and that of the first cell are.
        from_output: Whether the output has a gradient.
        from_end: Whether the last hidden state and the last cell have one of their own.
    """
    steps, first, rows = sizes
    later = rows - first  # rows that have a step before them
    (of_inputs, _), (of_states, _), *_ = weights
    of_hidden, of_cell = of_start
    from_hidden, from_cell = from_end
    flops = 2 * rows * of_inputs.numel() * of_input
    flops += 2 * (later + first * of_hidden) * of_states.numel()
    for i, (weight, is_wanted) in enumerate(weights):
        # a product, or the sum over the rows; what meets the state is added up step by step
        by_step = weight.numel() * (steps - 1) * (i % 2)
        flops += is_wanted * (weight.numel() * rows * (2 if i < 2 else 1) + by_step)
    # A state has gradients of the output, of the next step, and of what the caller made of it.
    units = _BACKWARD[kind] * rows + from_output * (later + first * from_hidden)
    if kind == "gru":  # it is a factor of the next step's, too
        units += later + first * of_hidden
    if kind == "lstm":
        units += later - first * (not of_cell)  # the cell's two gradients; the first cell's product
        units += first * (from_cell if from_output or from_hidden else -_OUTPUT_GATE)
    return flops + units * hidden


def _onednn(input: Tensor, mode: int, hidden_size: int, has_biases: bool) -> int:
    """One layer in one direction, of `(steps, batch, features)`."""
    *rows, features = input.shape
    return _layer(_MODES[mode], hidden_size, features, prod(rows), biases=has_biases)


def _onednn_backward(
    input: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    weight3: Tensor,
    weight4: Tensor,
    hx_: Tensor,
    cx_tmp: Tensor,
    grad_output: Tensor | None,
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    mode: int,
    hidden_size: int,
    has_biases: bool,
) -> int:
    """The kernel computes every gradient, that of biases which the layer does not have, too."""
    steps, batch, _ = input.shape
    weights = (weight1, weight2, weight3, weight4)[: 4 if has_biases else 2]
    of_input, of_hidden, of_cell, *of_weights = wanted(input, hx_, cx_tmp, *weights)
    return _layer_backward(
        _MODES[mode],
        hidden_size,
        list(zip(weights, of_weights, strict=True)),
        (steps, batch, steps * batch),
        of_input=of_input,
        of_start=(of_hidden, of_cell),
        from_output=grad_output is not None,
        from_end=(grad_hy is not None, grad_cy is not None),
    )


def _cudnn(
    input: Tensor,
    weight: Sequence[Tensor],
    weight_stride0: int,
    mode: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    dropout: float,
    train: bool,
) -> int | None:
    """Every layer and direction, each with `weight_stride0` weights; a projection has no rule."""
    if proj_size:
        return None
    rows = prod(input.shape[:-1])
    layers = sum(
        _layer(_MODES[mode], hidden_size, of_input.shape[1], rows, biases=weight_stride0 == 4)
        for of_input in weight[::weight_stride0]
    )
    # between layers: scale the mask, multiply by it
    dropped = rows * hidden_size * _directions(weight, weight_stride0, num_layers)
    return layers + 2 * dropped * (num_layers - 1) * (train and dropout != 0)


def _cudnn_backward(
    input: Tensor,
    weight: Sequence[Tensor],
    weight_stride0: int,
    hx: Tensor,
    grad_output: Tensor | None,
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    mode: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    batch_sizes: Sequence[int],
    output_mask: Sequence[bool],
) -> int | None:
    """A layer has the gradient of its output from the next one, and the last one the caller's."""
    if proj_size:
        return None
    rows, first = prod(input.shape[:-1]), hx.shape[1]
    steps = len(batch_sizes) or input.shape[1 if batch_first else 0]
    of_input, of_hidden, of_cell, of_weights = output_mask
    directions = _directions(weight, weight_stride0, num_layers)
    are_wanted = wanted(*weight) if of_weights else [False] * len(weight)
    flops = 0
    for begin in range(0, len(weight), weight_stride0):
        layer = begin // weight_stride0 // directions
        these = slice(begin, begin + weight_stride0)
        flops += _layer_backward(
            _MODES[mode],
            hidden_size,
            list(zip(weight[these], are_wanted[these], strict=True)),
            (steps, first, rows),
            of_input=layer > 0 or of_input,
            of_start=(of_hidden, of_cell),
            from_output=layer < num_layers - 1 or grad_output is not None,
            from_end=(grad_hy is not None, grad_cy is not None),
        )
    # both directions' gradients of an input are added; dropout multiplies by the scaled mask
    between = rows * hidden_size * directions * (num_layers - 1)
    added = (directions - 1) * (between + of_input * input.numel())
    return flops + added + between * (train and dropout != 0)


def _directions(weight: Sequence[Tensor], weight_stride0: int, num_layers: int) -> int:
    return len(weight) // weight_stride0 // num_layers


def _gates(kind: str) -> Formulas:
    """CUDA's fused gates, after the products: biases and pointwise parts per hidden unit."""

    def cost(out: tuple[Tensor, ...], input_bias: Tensor | None) -> int:
        biases = 2 * _GATES[kind] * (input_bias is not None)
        return out[0].numel() * (_POINTWISE[kind] + biases)

    return Formulas(cost)


def _lstm_gates_backward(
    grad_hy: Tensor | None, grad_cy: Tensor | None, cx: Tensor, has_bias: bool
) -> int:
    """Of the gates, and the sums of both biases; a cell may have a second gradient."""
    parts = _BACKWARD["lstm"] - (not cx.requires_grad)
    parts += (grad_cy is not None) if grad_hy is not None else -_OUTPUT_GATE
    return cx.numel() * (parts + 2 * _GATES["lstm"] * has_bias)


def _quantised(kind: str) -> Formulas:
    """Every layer and direction, whose weights are packed."""

    def cost(
        hx: Tensor | Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        input: Tensor | None = None,
        data: Tensor | None = None,
    ) -> int:
        x = first_tensor(input, data)
        rows, hidden = prod(x.shape[:-1]), first_tensor(hx).shape[-1]
        wide = hidden * (1 + bidirectional)
        layers = (
            _layer(kind, hidden, features, rows, biases=has_biases)
            for features in [x.shape[-1], *[wide] * (num_layers - 1)]
        )
        dropped = 2 * rows * wide * (num_layers - 1) * (train and dropout != 0)
        return sum(layers) * (1 + bidirectional) + dropped

    return Formulas(cost)


def _quantised_cell(kind: str) -> Formulas:
    def cost(input: Tensor, hx: Tensor | Sequence[Tensor]) -> int:
        *rows, features = input.shape
        return _layer(kind, first_tensor(hx).shape[-1], features, prod(rows), biases=True)

    return Formulas(cost)


RULES: Rules = {
    "mkldnn_rnn_layer": _onednn,
    "mkldnn_rnn_layer_backward": _onednn_backward,
    "_cudnn_rnn": _cudnn,
    "_cudnn_rnn_backward": _cudnn_backward,
    "_thnn_fused_lstm_cell": _gates("lstm"),
    "_thnn_fused_lstm_cell_backward_impl": _lstm_gates_backward,
    "_thnn_fused_gru_cell": _gates("gru"),
    "_thnn_fused_gru_cell_backward": lambda grad_hy, has_bias: (
        grad_hy.numel() * (_BACKWARD["gru"] + 2 * _GATES["gru"] * has_bias)
    ),
    "quantized_lstm": _quantised("lstm"),
    "quantized_gru": _quantised("gru"),
    "quantized::quantized_lstm_cell_dynamic": _quantised_cell("lstm"),
    "quantized::quantized_gru_cell_dynamic": _quantised_cell("gru"),
    "quantized::quantized_rnn_relu_cell_dynamic": _quantised_cell("rnn"),
    "quantized::quantized_rnn_tanh_cell_dynamic": _quantised_cell("rnn"),
}
