"""Tensors of other layouts cost what those of the usual one cost: oneDNN's, and sparse ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

from pytest_flops.counting.costs import rule_of
from pytest_flops.counting.meter.meter import FLOPsMeter

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # PyTorch's own are deprecated
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
]
aten = torch.ops.aten


def forward_of(run) -> int:
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    return meter.count.forward


IMAGE, ROWS = torch.ones(2, 3, 8, 8), torch.ones(7, 3)
ONEDNN = {
    # 4 filters of 3*3*3 taps at 6x6 positions, with a bias; ReLU
    "convolution": (
        (nn.Conv2d(3, 4, 3), nn.ReLU()),
        IMAGE,
        2 * (2 * 36) * (4 * 27) + 2 * (2 * 4 * 36),
    ),
    # each of 6 filters has the 9 taps of its group
    "convolution by groups": (
        (nn.Conv2d(3, 6, 3, groups=3),),
        IMAGE,
        2 * (2 * 36) * (6 * 9) + 2 * 6 * 36,
    ),
    "linear": ((nn.Linear(3, 5),), ROWS, 2 * 7 * 3 * 5 + 7 * 5),
    # in evaluation: subtract, rescale, scale, shift
    "batch norm": ((nn.BatchNorm2d(3),), IMAGE, 4 * 384),
    # windows of 2x2, then 2 * 3 means of 4x4
    "pooling": ((nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)), IMAGE, 6 * 64 + 6 * 16),
}


@pytest.mark.parametrize(("layers", "x", "expected"), ONEDNN.values(), ids=ONEDNN)
def test_a_model_in_onednns_layout_costs_what_it_costs_elsewhere(layers, x, expected):
    from torch.utils.mkldnn import to_mkldnn  # warns when it is imported

    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        plain = forward_of(lambda: model(x))
        in_layout = to_mkldnn(model)
        assert forward_of(lambda: in_layout(x.to_mkldnn()).to_dense()) == plain == expected


def test_gradients_in_onednns_layout_are_counted():
    weight, bias = torch.ones(5, 3, requires_grad=True), torch.ones(5, requires_grad=True)
    x = ROWS.to_mkldnn().requires_grad_()
    with FLOPsMeter() as meter:
        out = F.linear(x, weight, bias).to_dense()
        out.backward(torch.ones_like(out))
    assert not meter.uncounted
    # two products, and the bias's sum
    assert meter.count.backward == 2 * (2 * 7 * 3 * 5) + 7 * 5
    with FLOPsMeter() as meter:
        out = F.max_pool2d(IMAGE.to_mkldnn().requires_grad_(), 2, stride=2).to_dense()
        out.backward(torch.ones_like(out))
    assert not meter.uncounted
    assert meter.count.backward == out.numel()


def test_what_a_frozen_graph_runs_unseen_is_uncounted():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2)).eval()
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.script(model))
        plain = forward_of(lambda: frozen(IMAGE))
        optimized = torch.jit.optimize_for_inference(torch.jit.script(model))
        with FLOPsMeter() as meter:
            optimized(IMAGE)
    assert plain > 2 * (2 * 36) * (4 * 27)
    # their convolutions call oneDNN past the dispatcher, if PyTorch has rewritten them
    if "mkldnn_convolution" in str(optimized.graph):
        assert meter.uncounted == {"prim.mkldnn_convolution": 2}
    else:
        assert meter.count.forward == plain


def test_a_complex_convolution_costs_the_three_real_ones_that_run():
    """Gauss's: of the real parts, of the imaginary ones, and of both sums."""
    x, weight = (torch.ones(shape, dtype=torch.complex64) for shape in ((2, 3, 8, 8), (4, 3, 3, 3)))
    with FLOPsMeter() as meter:
        F.conv2d(x, weight)
    assert not meter.uncounted
    assert meter.operations["aten.convolution"].forward == 3 * 2 * (2 * 36) * (4 * 27)


# Stores 2, 0 and 1 values in its rows.
STORED = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
# The columns of STORED meet, in this order, rows that store 3, 1 and 1 values.
OTHER = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
SPARSE = {
    # (0, 0) meets 3 values; (0, 1) and (2, 1) meet 1 each
    "COO @ COO": (lambda: STORED.to_sparse() @ OTHER.to_sparse(), 2 * (3 + 1 + 1)),
    "CSR @ CSR": (lambda: STORED.to_sparse_csr() @ OTHER.to_sparse_csr(), 2 * (3 + 1 + 1)),
    "complex": (
        lambda: STORED.cfloat().to_sparse() @ OTHER.cfloat().to_sparse(),
        8 * (3 + 1 + 1),
    ),
    "sparse times dense, by rows": (lambda: torch.hspmm(STORED.to_sparse(), OTHER), 2 * 3 * 3),
    # and adds the 3 values of the first
    "sparse times dense, added": (
        lambda: torch.sspaddmm(STORED.to_sparse(), STORED.to_sparse(), OTHER),
        2 * 3 * 3 + 3,
    ),
    "softmax": (lambda: torch.sparse.softmax(STORED.to_sparse(), 1), 5 * 3),
    "log-softmax": (lambda: torch.sparse.log_softmax(STORED.to_sparse(), 1), 5 * 3),
    "blocks": (lambda: torch.eye(4).to_sparse_bsr((2, 2)) @ torch.ones(4, 3), 2 * 8 * 3),
}


@pytest.mark.parametrize(("run", "expected"), SPARSE.values(), ids=SPARSE)
def test_sparse_tensors_cost_what_their_values_meet(run, expected):
    assert forward_of(run) == expected


def test_a_product_of_sparse_shapes_has_no_cost():
    empty = torch.sparse_coo_tensor(size=(3, 3), device="meta")
    assert rule_of(aten.mm.default).cost((empty, empty), {}, empty) is None


@pytest.mark.parametrize(("dtype", "each"), [(torch.float32, 1), (torch.complex64, 4)])
def test_a_matrix_exponential_costs_the_products_of_its_polynomial(dtype, each):
    matrices = torch.eye(6, dtype=dtype).expand(3, 6, 6)
    assert forward_of(lambda: torch.matrix_exp(matrices)) == 3 * 5 * 2 * 6**3 * each


# The kernels of CUDA: arguments, result, and the cost.
X, CHANNELS = torch.ones(2, 3, 4, 4), torch.ones(3)  # 96 elements
KERNELS = {
    # 4 filters of 3*3*3 taps at 2x2 positions, a bias; ReLU
    "cudnn_convolution_relu": (
        (X, torch.ones(4, 3, 3, 3), torch.ones(4)),
        torch.ones(2, 4, 2, 2),
        (2 * (2 * 4) * (4 * 27) + 32, 32),
    ),
    "cudnn_convolution_add_relu": (
        (X, torch.ones(4, 3, 3, 3), torch.ones(2, 4, 2, 2), 1.0, None),
        torch.ones(2, 4, 2, 2),
        (2 * (2 * 4) * (4 * 27) + 2 * 32, 0),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_fused_convolution_costs_its_parts(name):
    args, out, expected = KERNELS[name]
    rule = rule_of(getattr(aten, name).default)
    assert (rule.cost(args, {}, out), rule.side_cost(args, {}, out)) == expected


def test_the_norm_of_a_batch_that_processes_share_costs_that_of_a_batch():
    """Less what joins the processes: 4 per channel and process."""
    norm, x = nn.BatchNorm2d(3), X.clone().requires_grad_()
    with FLOPsMeter() as meter:
        out = norm(x)
        out.backward(torch.ones_like(out))
    forward = (
        ("batch_norm_stats", (X, 1e-5)),
        ("batch_norm_elemt", (X, norm.weight, norm.bias, CHANNELS, CHANNELS, 1e-5)),
    )
    sums = (X, X, CHANNELS, CHANNELS, norm.weight, True, True, True)
    gradient = (X, X, CHANNELS, CHANNELS, norm.weight, CHANNELS, CHANNELS, CHANNELS)
    backward = (("batch_norm_backward_reduce", sums), ("batch_norm_backward_elemt", gradient))

    def cost(kernels) -> int:
        return sum(rule_of(getattr(aten, name).default).cost(args, {}, X) for name, args in kernels)

    assert cost(forward) == meter.operations["aten.native_batch_norm"].forward
    assert cost(backward) == meter.count.backward
    of_two = torch.ones(2, 3)
    gather = rule_of(aten.batch_norm_gather_stats_with_counts.default)
    args = (X, of_two, of_two, None, None, 0.1, 1e-5, torch.ones(2))
    assert gather.cost(args, {}, (CHANNELS, CHANNELS)) == 4 * 6


def test_a_convolution_over_time_costs_its_taps():
    # 5 - 3 + 1 steps of 2 sequences: 4 filters of 3 taps in 6 channels, and a bias
    x, weight = torch.ones(5, 2, 6), torch.ones(3, 6, 4)
    products = 2 * (3 * 2) * (4 * 18)
    assert forward_of(lambda: torch.conv_tbc(x, weight, torch.ones(4))) == products + 3 * 2 * 4
