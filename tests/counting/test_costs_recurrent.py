"""A recurrent layer costs what its cells cost, for what was asked, whichever kernel computes it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from pytest_flops.counting.costs import rule_of
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter.meter import FLOPsMeter

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")

# 3 steps of 2 sequences of 4 features; 5 hidden units
STEPS, BATCH, FEATURES, HIDDEN = 3, 2, 4, 5
ROWS, LATER = STEPS * BATCH, (STEPS - 1) * BATCH  # rows that have a step before them
GATES = {"LSTM": 4 * HIDDEN, "GRU": 3 * HIDDEN, "RNN": HIDDEN}
# Per hidden unit, besides the products and their biases.
POINTWISE = {
    # sums 4, sigmoids 3, tanh 2, f c + i g: 3, o tanh(c): 1
    "LSTM": 4 + 3 + 2 + 3 + 1,
    # sums of r, z, n: 3; sigmoids 2, tanh 1; r * h_n: 1; (h - n) z + n: 3
    "GRU": 3 + 2 + 1 + 1 + 3,
    # the sum of both products, tanh
    "RNN": 2,
}


def step(
    kind: str,
    *,
    of_input: bool = False,
    of_start: bool = False,
    used: str = "o",
    frozen: str = "",
    packed: bool = False,
    unbatched: bool = False,
    **options,
) -> FLOPsCount:
    """A step of a layer, from the gradients of its output, last hidden state and last cell."""
    layer = getattr(nn, kind)(FEATURES, HIDDEN, **options)
    for name, weight in layer.named_parameters():
        weight.requires_grad_(not (frozen and frozen in name))
    x = torch.ones(STEPS, *([] if unbatched else [BATCH]), FEATURES, requires_grad=of_input)
    start = None
    if of_start:
        start = torch.zeros(1, BATCH, HIDDEN, requires_grad=True)
        start = (start, start.detach().requires_grad_()) if kind == "LSTM" else start
    with FLOPsMeter() as meter:
        out, end = layer(pack_padded_sequence(x, [3, 2]) if packed else x, start)
        hidden, cell = end if kind == "LSTM" else (end, None)
        results = {"o": out.data if packed else out, "h": hidden, "c": cell}
        given = [results[name] for name in used if results[name].requires_grad]
        torch.autograd.backward(given, [torch.ones_like(each) for each in given])
    assert not meter.uncounted
    return meter.count


def forward_by_hand(kind: str, rows: int = ROWS) -> int:
    """W x + b + U h + c for every gate, and the gates."""
    products = 2 * GATES[kind] * (FEATURES + HIDDEN)
    return rows * (products + 2 * GATES[kind] + POINTWISE[kind] * HIDDEN)


PRODUCT = 2 * ROWS * GATES["LSTM"]  # times the width: the gradient of one factor of a product
LSTM_BACKWARD = (
    PRODUCT * FEATURES  # of the input's weights
    + PRODUCT * HIDDEN  # of the state's
    + 2 * LATER * GATES["LSTM"] * HIDDEN  # of every state but the first
    + 2 * ROWS * GATES["LSTM"]  # two biases, summed
    + (STEPS - 1) * GATES["LSTM"] * (HIDDEN + 1)  # the state's weights and bias, step by step
    # 3 sigmoids, 2 tanh, two gradients of 3 products; the first cell's is not wanted
    + (3 + 2 + 6) * ROWS * HIDDEN
    - BATCH * HIDDEN
    # hidden states meet the output and the next step, cells the output gate and the next cell
    + 2 * LATER * HIDDEN
)
STATE = BATCH * HIDDEN
# What is asked for, and how much more that is than the weights' gradients from the output's.
ASKED = {
    "weights": ({}, 0),
    "weights and input": ({"of_input": True}, PRODUCT * FEATURES),
    # another step's product; the first cell's product
    "weights and start": ({"of_start": True}, 2 * BATCH * GATES["LSTM"] * HIDDEN + STATE),
    # a state that is used twice has two gradients
    "from all results": ({"used": "ohc"}, 2 * STATE),
    # no sums of hidden states with the output's
    "from the last hidden state": ({"used": "h"}, -LATER * HIDDEN),
    # nor anything of the last output gate: sigmoid, tanh, two of a product
    "from the last cell": ({"used": "c"}, -LATER * HIDDEN - 4 * STATE),
    "no biases": ({"bias": False}, -2 * ROWS * GATES["LSTM"] - (STEPS - 1) * GATES["LSTM"]),
    "biases are frozen": (
        {"frozen": "bias"},
        -2 * ROWS * GATES["LSTM"] - (STEPS - 1) * GATES["LSTM"],
    ),
    "input's weights are frozen": ({"frozen": "weight_ih"}, -PRODUCT * FEATURES),
    "all is frozen": ({"frozen": "_"}, -LSTM_BACKWARD),
    "all is frozen but the input": (
        {"frozen": "_", "of_input": True},
        PRODUCT * FEATURES
        - PRODUCT * FEATURES
        - PRODUCT * HIDDEN
        - 2 * ROWS * GATES["LSTM"]
        - (STEPS - 1) * GATES["LSTM"] * (HIDDEN + 1),
    ),
}


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize(("asked", "more"), ASKED.values(), ids=ASKED)
def test_an_lstm_costs_what_is_asked_for_with_and_without_onednn(onednn, asked, more):
    with torch.backends.mkldnn.flags(enabled=onednn):
        count = step("LSTM", **asked)
    biases = 2 * ROWS * GATES["LSTM"] * (not asked.get("bias", True))
    assert count.forward == forward_by_hand("LSTM") - biases
    assert count.backward == LSTM_BACKWARD + more


@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": True, "of_input": True},
        {"unbatched": True, "of_input": True},
        {"num_layers": 2, "used": "ohc"},
        {"num_layers": 2, "frozen": "l0", "used": "h"},
        {"bidirectional": True, "of_input": True, "used": "oc"},
        {"bidirectional": True, "num_layers": 2, "dropout": 0.5},
        {"packed": True, "of_input": True},
    ],
    ids=str,
)
def test_an_lstm_of_any_kind_costs_the_same_with_and_without_onednn(options):
    with torch.backends.mkldnn.flags(enabled=True):
        with_it = step("LSTM", **options)
    with torch.backends.mkldnn.flags(enabled=False):
        without = step("LSTM", **options)
    assert with_it == without
    assert with_it.backward > 0


def test_an_lstm_costs_nothing_more_where_no_gradient_is_recorded():
    with torch.no_grad(), FLOPsMeter() as meter:
        nn.LSTM(FEATURES, HIDDEN)(torch.ones(STEPS, BATCH, FEATURES))
    assert meter.count == FLOPsCount(forward_by_hand("LSTM"))


MODES = {"RNN": 1, "LSTM": 2, "GRU": 3}
CUDNN = [
    {},
    {"of_input": True},
    {"of_input": True, "of_start": True, "used": "oh"},
    {"used": "h"},
    {"bias": False, "of_input": True},
    {"frozen": "weight_hh", "of_input": True},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.5, "of_input": True, "used": "oh"},
    {"batch_first": True},
]


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("options", CUDNN, ids=str)
def test_a_layer_of_cudnn_costs_what_the_plain_layer_costs(kind, options):
    """The rules, given what PyTorch gives the kernels of CUDA."""
    with torch.backends.mkldnn.flags(enabled=False):
        plain = step(kind, **options)
    asked = {"of_input": False, "of_start": False, "used": "o", "frozen": ""}
    asked |= {name: options[name] for name in asked if name in options}
    layer = getattr(nn, kind)(
        FEATURES, HIDDEN, **{name: of for name, of in options.items() if name not in asked}
    )
    for name, weight in layer.named_parameters():
        weight.requires_grad_(not (asked["frozen"] and asked["frozen"] in name))
    weights = layer._flat_weights
    stride = 4 if layer.bias else 2
    directions = 1 + layer.bidirectional
    x = torch.ones(STEPS, BATCH, FEATURES)
    batch = x.shape[0] if layer.batch_first else BATCH
    state = torch.ones(layer.num_layers * directions, batch, HIDDEN)
    shape = (MODES[kind], HIDDEN, 0, layer.num_layers, layer.batch_first, layer.dropout, True)
    rest = (layer.bidirectional, [], None)
    forward = rule_of(torch.ops.aten._cudnn_rnn.default)
    assert forward.cost((x, weights, stride, None, state, state, *shape, *rest), {}, None) == (
        plain.forward
    )
    given = [state if name in asked["used"] else None for name in "ohc"]
    mask = [asked["of_input"], asked["of_start"], asked["of_start"], True]
    backward = rule_of(torch.ops.aten._cudnn_rnn_backward.default)
    args = (x, weights, stride, None, state, state, state, *given, *shape, *rest, state, mask)
    assert backward.cost(args, {}, None) == plain.backward


def test_packed_sequences_of_cudnn_cost_the_steps_that_they_have():
    # one of 3 steps and one of 2, so 5 rows, 3 of which have a step before them
    layer, x, state = nn.RNN(FEATURES, HIDDEN), torch.ones(5, FEATURES), torch.ones(1, 2, HIDDEN)
    shape = (1, HIDDEN, 0, 1, False, 0.0, True, False, [2, 2, 1], None)
    weights = layer._flat_weights
    forward = rule_of(torch.ops.aten._cudnn_rnn.default)
    args = (x, weights, 4, None, state, None, *shape)
    assert forward.cost(args, {}, None) == forward_by_hand("RNN", rows=5)
    backward = rule_of(torch.ops.aten._cudnn_rnn_backward.default)
    mask = [True, False, False, True]
    args = (x, weights, 4, None, state, None, x, x, None, None, *shape, state, mask)
    # gradients of input and of its weights, of the state's weights, of 3 states; of both biases;
    # the state's weights and bias are added up in two more steps; tanh; 3 states are used twice
    products = 2 * 5 * HIDDEN * (FEATURES + FEATURES + HIDDEN) + 2 * 3 * HIDDEN * HIDDEN
    sums = 2 * 5 * HIDDEN + 2 * HIDDEN * (HIDDEN + 1)
    assert backward.cost(args, {}, None) == products + sums + 5 * HIDDEN + 3 * HIDDEN


def test_a_projection_of_cudnn_has_no_cost():
    layer, x = nn.LSTM(FEATURES, HIDDEN, proj_size=3), torch.ones(STEPS, BATCH, FEATURES)
    args = (x, layer._flat_weights, 5, None, x, x, 2, HIDDEN, 3, 1, False, 0.0, True, False, [])
    assert rule_of(torch.ops.aten._cudnn_rnn.default).cost((*args, None), {}, None) is None


@pytest.mark.parametrize("kind", MODES)
def test_a_recurrent_layer_costs_its_cell_at_every_step(kind):
    assert step(kind).forward == forward_by_hand(kind)


@pytest.mark.parametrize("used", ["h", "c", "hc"])
@pytest.mark.parametrize("of_start", [False, True])
def test_the_fused_gates_of_cuda_cost_what_an_lstm_cell_costs(used, of_start):
    cell = nn.LSTMCell(FEATURES, HIDDEN)
    cx = torch.ones(BATCH, HIDDEN, requires_grad=of_start)
    with FLOPsMeter() as meter:
        results = dict(zip("hc", cell(torch.ones(BATCH, FEATURES), (cx.detach(), cx)), strict=True))
        given = [results[name] for name in used]
        torch.autograd.backward(given, [torch.ones_like(each) for each in given])
    products = 2 * BATCH * GATES["LSTM"] * (FEATURES + HIDDEN)
    rule = rule_of(torch.ops.aten._thnn_fused_lstm_cell_backward_impl.default)
    hidden, last = (cx if name in used else None for name in "hc")
    gates = rule.cost((hidden, last, cx, cx, None, True), {}, None)
    assert meter.count.backward == products + gates
    rule = rule_of(torch.ops.aten._thnn_fused_lstm_cell.default)
    forward = rule.cost((cx, cx, cx, cell.bias_ih, cell.bias_hh), {}, (cx, cx, cx))
    assert meter.count.forward == products + forward


def test_the_fused_gates_of_cuda_cost_what_a_gru_cell_costs():
    cell, hx = nn.GRUCell(FEATURES, HIDDEN), torch.ones(BATCH, HIDDEN)
    with FLOPsMeter() as meter:
        out = cell(torch.ones(BATCH, FEATURES), hx)
        out.backward(torch.ones_like(out))
    products = 2 * BATCH * GATES["GRU"] * (FEATURES + HIDDEN)
    rule = rule_of(torch.ops.aten._thnn_fused_gru_cell_backward.default)
    assert meter.count.backward == products + rule.cost((hx, None, True), {}, None)
    rule = rule_of(torch.ops.aten._thnn_fused_gru_cell.default)
    forward = rule.cost((hx, hx, hx, cell.bias_ih, cell.bias_hh), {}, (hx, hx))
    assert meter.count.forward == products + forward
