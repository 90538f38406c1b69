"""The cost table, operator by operator, against arithmetic worked out by hand."""

from __future__ import annotations

from math import log2

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from pytest_flops.counting.costs import TABLE, rule_of
from pytest_flops.counting.meter.meter import FLOPsMeter


def forward_of(run) -> int:
    """FLOPs of what `run` does, which must all be counted."""
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    assert meter.count.backward == meter.count.optimizer == 0
    return meter.count.forward


def operations_of(run) -> dict[str, int]:
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    return {name: cost.total for name, cost in meter.operations.items()}


A = torch.arange(12.0).reshape(3, 4)
B = torch.arange(20.0).reshape(4, 5)
V = torch.arange(4.0)
SQUARE = torch.eye(6) * 4 + torch.ones(6, 6) / 10
RHS = torch.ones(6, 2)
COMPLEX = torch.complex(torch.ones(3, 4), torch.ones(3, 4))
BATCH = torch.ones(2, 3, 4)


def diagonal() -> torch.Tensor:
    return torch.eye(3).to_sparse_csr()


PRODUCTS = [
    # 2 m n k
    ("mm", lambda: A @ B, 2 * 3 * 4 * 5),
    ("matmul of batches", lambda: BATCH @ B, 2 * (2 * 3) * 4 * 5),
    # (2,1,3,4) with (7,4,5): 2*7 products of (3,4) with (4,5)
    (
        "matmul that broadcasts",
        lambda: torch.ones(2, 1, 3, 4) @ torch.ones(7, 4, 5),
        2 * 7 * (2 * 3 * 4 * 5),
    ),
    ("linear(out=)", lambda: torch._C._nn.linear(A, B.T, out=torch.empty(3, 5)), 2 * 3 * 4 * 5),
    # three stored values, each the product of a row with a column
    (
        "product where a matrix stores values",
        lambda: torch.sparse.sampled_addmm(diagonal(), A, A.T, beta=0),
        2 * 3 * 4,
    ),
    ("reduced sparse product", lambda: torch.sparse.mm(diagonal(), A, "sum"), 2 * 3 * 4),
    ("mv", lambda: A @ V, 2 * 3 * 4),
    ("dot", lambda: torch.dot(V, V), 2 * 4),
    ("vdot", lambda: torch.vdot(V, V), 2 * 4),
    # the product, and 3 additions of the vector
    ("addmv", lambda: torch.addmv(torch.ones(3), A, V), 2 * 3 * 4 + 3),
    ("addmm", lambda: torch.addmm(torch.ones(5), A, B), 2 * 3 * 4 * 5 + 3 * 5),
    ("addmm without its bias", lambda: torch.addmm(torch.ones(5), A, B, beta=0), 2 * 3 * 4 * 5),
    (
        "baddbmm",
        lambda: torch.baddbmm(torch.ones(2, 3, 5), BATCH, torch.ones(2, 4, 5)),
        2 * (2 * 3 * 4 * 5) + 2 * 3 * 5,
    ),
    # two products of (3,4) with (4,5), and two matrices of 3*5 added to the first argument
    (
        "addbmm",
        lambda: torch.addbmm(torch.ones(3, 5), BATCH, torch.ones(2, 4, 5)),
        2 * (2 * 3 * 4 * 5) + 2 * 3 * 5,
    ),
    ("outer", lambda: torch.outer(V, V), 4 * 4),
    ("addr", lambda: torch.addr(torch.ones(4, 4), V, V), 2 * 4 * 4),
    ("einsum", lambda: torch.einsum("bij,jk->bik", BATCH, B), 2 * (2 * 3) * 4 * 5),
    ("linear with bias", lambda: F.linear(A, torch.ones(5, 4), torch.ones(5)), 2 * 60 + 15),
    # x1 (2,3), W (5,3,4), x2 (2,4): 5 times x1 W_o (2*2*3*4), then times x2 (2*2*4); 2*5 biases
    (
        "bilinear",
        lambda: F.bilinear(torch.ones(2, 3), torch.ones(2, 4), torch.ones(5, 3, 4), torch.ones(5)),
        5 * (2 * 2 * 3 * 4 + 2 * 2 * 4) + 2 * 5,
    ),
    # complex: 6 for a multiply and 2 for an add, per multiply-add
    ("complex mm", lambda: COMPLEX @ COMPLEX.mT, 8 * 3 * 4 * 3),
    ("complex einsum", lambda: torch.einsum("ij,kj->ik", COMPLEX, COMPLEX), 8 * 3 * 4 * 3),
    # int8: stands for a floating-point product of (17,8) with (8,16)
    (
        "_int_mm",
        lambda: torch._int_mm(
            torch.ones(17, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)
        ),
        2 * 17 * 8 * 16,
    ),
    # 4 rows in 2 groups, each with a matrix (8,16) of its own: every row meets one of them
    (
        "_grouped_mm",
        lambda: torch._grouped_mm(
            torch.ones(4, 8, dtype=torch.bfloat16),
            torch.ones(2, 8, 16, dtype=torch.bfloat16),
            offs=torch.tensor([1, 4], dtype=torch.int32),
        ),
        2 * 4 * 8 * 16,
    ),
    # 4 stored values, each times a row of 5
    ("sparse mm", lambda: torch.sparse.mm(torch.eye(4).to_sparse(), B), 2 * 4 * 5),
    ("sparse @", lambda: torch.eye(4).to_sparse() @ B, 2 * 4 * 5),
    ("CSR @", lambda: torch.eye(4).to_sparse_csr() @ B, 2 * 4 * 5),
    ("sparse mv", lambda: torch.eye(4).to_sparse() @ V, 2 * 4),
]


@pytest.mark.parametrize(
    ("run", "expected"), [p[1:] for p in PRODUCTS], ids=[p[0] for p in PRODUCTS]
)
def test_products_cost_two_per_multiply_add(run, expected):
    assert forward_of(run) == expected


def test_a_bias_inside_a_product_has_a_line_of_its_own():
    lines = operations_of(lambda: torch.addmm(torch.ones(5), A, B))
    assert lines == {"aten.addmm": 2 * 3 * 4 * 5, "aten.addmm:bias": 3 * 5}


IMAGE = torch.ones(2, 4, 10, 10)

CONVOLUTIONS = [
    # 8x8 output positions, 6 filters of 4*3*3 taps, 2 images; one bias per output element
    (
        "plain",
        lambda x, w: F.conv2d(x, w, torch.ones(6)),
        (6, 4, 3, 3),
        2 * 2 * 64 * 6 * 36,
        2 * 6 * 64,
    ),
    # every filter sees the 2 channels of its group
    ("grouped", lambda x, w: F.conv2d(x, w, groups=2), (6, 2, 3, 3), 2 * 2 * 64 * 6 * 18, 0),
    ("depthwise", lambda x, w: F.conv2d(x, w, groups=4), (4, 1, 3, 3), 2 * 2 * 64 * 4 * 9, 0),
    # a 3x3 filter with holes spans 5x5: 6x6 positions
    ("dilated", lambda x, w: F.conv2d(x, w, dilation=2), (6, 4, 3, 3), 2 * 2 * 36 * 6 * 36, 0),
    # every one of the 10x10 input positions meets every weight
    ("transposed", F.conv_transpose2d, (4, 6, 3, 3), 2 * 2 * 100 * 4 * 54, 0),
    (
        "transposed and grouped",
        lambda x, w: F.conv_transpose2d(x, w, groups=2, stride=2),
        (4, 3, 3, 3),
        2 * 2 * 100 * 4 * 27,
        0,
    ),
    ("in 1-D", lambda x, w: F.conv1d(x[0], w), (6, 10, 3), 2 * 4 * 8 * 6 * 30, 0),
]


@pytest.mark.parametrize(
    ("convolve", "weight", "products", "bias"),
    [c[1:] for c in CONVOLUTIONS],
    ids=[c[0] for c in CONVOLUTIONS],
)
def test_a_convolution_costs_two_per_tap_and_position_and_twice_that_backward(
    convolve, weight, products, bias
):
    image = IMAGE.clone().requires_grad_()
    with FLOPsMeter() as meter:
        out = convolve(image, torch.ones(weight, requires_grad=True))
        out.backward(torch.ones_like(out))
    lines = meter.operations
    assert lines["aten.convolution"].forward == products
    assert meter.count.forward == products + bias
    assert lines["aten.convolution_backward"].backward == 2 * products


def test_a_convolutions_bias_gradient_is_a_sum_over_the_output():
    convolve = nn.Conv2d(4, 6, 3)
    with FLOPsMeter() as meter:
        out = convolve(IMAGE)
        out.backward(torch.ones_like(out))
    # the image needs no gradient: one product backward, and 2 images of 6 channels of 8x8 summed
    assert meter.operations["aten.convolution_backward"].backward == 2 * 2 * 64 * 6 * 36
    assert meter.operations["aten.convolution_backward:bias"].backward == 2 * 6 * 64


BAGS, ROWS = torch.zeros(2, 3, dtype=torch.int64), torch.ones(10, 4)
TWO_ROWS = (torch.eye(100)[:, [3, 70]] @ torch.ones(2, 8)).to_sparse(1)
POINTWISE = [
    # 2 bags of 3 rows of 4
    ("sums of bags", lambda: F.embedding_bag(BAGS, ROWS, mode="sum"), 24),
    ("means of bags", lambda: F.embedding_bag(BAGS, ROWS, mode="mean"), 24 + 8),
    (
        "weighted bags",
        lambda: F.embedding_bag(BAGS, ROWS, mode="sum", per_sample_weights=torch.ones(2, 3)),
        24 + 24,
    ),
    ("integers summed as floats", lambda: torch.arange(12).sum(dtype=torch.float32), 12),
    ("booleans averaged", lambda: (torch.arange(12) > 3).mean(dtype=torch.float32), 12),
    ("softmax(out=)", lambda: torch.softmax(A, -1, out=torch.empty(A.shape)), 5 * 12),
    ("log_softmax(out=)", lambda: torch.log_softmax(A, -1, out=torch.empty(A.shape)), 5 * 12),
    ("foreach norm, complex", lambda: torch._foreach_norm([A.to(torch.complex64)]), 4 * 12),
    ("sparse times a number", lambda: torch.eye(4).to_sparse() * 0.5, 4),
    ("CSR times a number", lambda: torch.eye(4).to_sparse_csr() * 0.5, 4),
    ("sparse added to dense", lambda: torch.ones(4, 4).add_(torch.eye(4).to_sparse()), 4),
    ("two rows of 8, scaled", lambda: torch.ones(100, 8).add_(TWO_ROWS, alpha=0.1), 2 * 2 * 8),
    ("add", lambda: A + A, 12),
    ("add that broadcasts", lambda: torch.ones(2, 1) + torch.ones(3), 6),
    ("add a scaled tensor", lambda: torch.add(A, A, alpha=3), 2 * 12),
    ("in place", lambda: A.clone().add_(A), 12),
    ("out=", lambda: torch.add(A, A, out=torch.empty(3, 4)), 12),
    ("transcendental", A.exp, 12),
    ("gelu", lambda: F.gelu(A), 12),
    ("clamp", lambda: A.clamp(0, 1), 12),
    # subtract, times the weight, add
    ("lerp", lambda: torch.lerp(A, A, 0.5), 3 * 12),
    # the product, times the value, plus a
    ("addcmul", lambda: torch.addcmul(A, A, A, value=0.5), 3 * 12),
    ("addcmul of 1", lambda: torch.addcmul(A, A, A), 2 * 12),
    ("addcdiv", lambda: torch.addcdiv(A, A, A + 1, value=0.5), 3 * 12 + 12),
    ("division of integers", lambda: torch.ones(3, dtype=torch.int64) / 2, 3),
    ("complex add", lambda: COMPLEX + COMPLEX, 2 * 12),
    # twice both parts; sin, cos, sinh, cosh; one sum; two divides
    ("complex tanh", COMPLEX.tanh, 9 * 12),
    # neg, exp, add 1, divide
    ("complex sigmoid", COMPLEX.sigmoid, (2 + 5 + 1 + 11) * 12),
    ("complex variance", COMPLEX.var, 2 * 12),
    # two multiplies and their difference
    ("cross product", lambda: torch.linalg.cross(A[:, :3], A[:, :3]), 3 * 9),
    ("weighted histogram", lambda: torch.histogram(A, 5, weight=A), 12),
    ("weighted counts", lambda: torch.bincount(torch.arange(4), V), 4),
    # one target of two classes: 4 per pair of it and the other one
    ("margin of one row", lambda: F.multilabel_margin_loss(V[:2], torch.tensor([0, -1])), 4),
    ("margin of one number", lambda: F.multilabel_margin_loss(V[0], torch.tensor(0)), 0),
    ("complex multiply", lambda: COMPLEX * COMPLEX, 6 * 12),
    ("complex divide", lambda: COMPLEX / COMPLEX, 11 * 12),
    # two squares, a sum, a root
    ("complex modulus", COMPLEX.abs, 4 * 12),
    # exp, sin, cos, and two multiplies
    ("complex exponential", COMPLEX.exp, 5 * 12),
    # 1 - t, times x, log-sigmoid, subtract, mean
    (
        "binary cross-entropy of logits",
        lambda: F.binary_cross_entropy_with_logits(A, torch.ones(3, 4)),
        5 * 12,
    ),
    # 3 pairs of rows of 4 features: subtract, square, add
    ("pdist", lambda: F.pdist(A), 3 * 3 * 4),
    # three rows with 3 other classes: margin 2, maximum, power, sum per element
    ("multi margin", lambda: F.multi_margin_loss(A, torch.tensor([0, 1, 2])), 5 * 12),
    # 2 targets and 2 others in the first row, 1 and 3 in the second: 4 per pair
    (
        "multilabel margin",
        lambda: F.multilabel_margin_loss(A[:2], torch.tensor([[0, 2, -1, -1], [1, -1, -1, -1]])),
        4 * (2 * 2 + 1 * 3),
    ),
    # 6 steps of 2*2+1 states and 4 steps of 2*1+1: log-sum of three 12, a log-probability 1
    (
        "CTC",
        lambda: F.ctc_loss(
            torch.ones(6, 2, 3).log(),
            torch.ones(2, 2, dtype=torch.int64),
            torch.tensor([6, 4]),
            torch.tensor([2, 1]),
            reduction="none",
        ),
        36 + 13 * (6 * 5 + 4 * 3),
    ),
    # the norm of every row, and the row times its scale; a scale is 2 per row
    ("renorm", lambda: A.renorm(2, 0, 1.0), 2 * 12 + 2 * 3),
    # divide, round, add, clamp, subtract, multiply
    ("fake quantisation", lambda: torch.fake_quantize_per_tensor_affine(A, 0.1, 0, 0, 255), 72),
    # log-softmax 5 per element; one log-probability per row is summed
    ("cross-entropy", lambda: F.cross_entropy(A, torch.tensor([0, 1, 2])), 5 * 12 + 3),
    ("sum", A.sum, 12),
    ("sum over one dimension", lambda: A.sum(0), 12),
    ("mean", lambda: A.mean(1), 12),
    ("maximum", A.amax, 12),
    ("norm", lambda: torch.linalg.vector_norm(A), 12),
    ("cumulative sum", lambda: A.cumsum(0), 12),
    # maximum, subtract, exponential, sum, divide
    ("softmax", lambda: A.softmax(1), 5 * 12),
    # mean, variance, subtract, rescale, weight, bias
    ("layer norm", lambda: nn.LayerNorm(4)(A), 6 * 12),
    # square, mean, times the inverse root, weight; epsilon and the root for each of 3 rows
    ("RMS norm", lambda: nn.RMSNorm(4)(A), 4 * 12 + 2 * 3),
    # mean, variance, subtract, rescale, weight, bias; in evaluation subtract, rescale, weight, bias
    ("batch norm", lambda: nn.BatchNorm1d(4)(A), 6 * 12),
    ("batch norm in evaluation", lambda: nn.BatchNorm1d(4).eval()(A), 4 * 12),
    ("layer norm without weights", lambda: F.layer_norm(A, (4,)), 4 * 12),
    # 2 images, 4 channels, 5x5 outputs, each from 2x2
    ("average pooling", lambda: F.avg_pool2d(IMAGE, 2), 2 * 4 * 25 * 4),
    ("max pooling", lambda: F.max_pool2d(IMAGE, 2), 2 * 4 * 25 * 4),
    # 2 images, 4 channels, 3x3 outputs, each from 2x2
    ("fractional pooling", lambda: F.fractional_max_pool2d(IMAGE, 2, 3), 2 * 4 * 9 * 4),
    # 10x10 to 5x10: along the columns 2 taps of 2 FLOPs, along the rows twice as many
    (
        "resizing with antialiasing",
        lambda: F.interpolate(IMAGE, (5, 10), mode="bilinear", antialias=True),
        2 * 4 * (10 * 10 * 2 * 2 + 5 * 10 * 2 * 4),
    ),
    # 3x3 positions with 4 channels: three interpolations of 3; a coordinate to pixels 2, less its
    # whole part 1
    (
        "grid sampling",
        lambda: F.grid_sample(IMAGE, torch.ones(2, 3, 3, 2), align_corners=False),
        2 * 9 * (4 * 9 + 2 * 3),
    ),
    (
        "grid sampling of the nearest",
        lambda: F.grid_sample(IMAGE, torch.ones(2, 3, 3, 2), mode="nearest", align_corners=False),
        2 * 9 * (2 * 2),
    ),
    # 7 interpolations of 3, and three coordinates
    (
        "grid sampling in 3-D",
        lambda: F.grid_sample(
            torch.ones(1, 4, 2, 2, 2), torch.ones(1, 3, 3, 3, 3), align_corners=False
        ),
        27 * (4 * 7 * 3 + 3 * 3),
    ),
    # (16, 3) times (3, 2)
    (
        "affine grid",
        lambda: F.affine_grid(torch.ones(1, 2, 3), [1, 1, 4, 4], align_corners=False),
        2 * 16 * 3 * 2,
    ),
    # scaling the mask, applying it
    ("dropout", lambda: F.dropout(A, 0.5), 2 * 12),
    ("segment sum", lambda: torch.segment_reduce(V, "sum", lengths=torch.tensor([2, 2])), 4),
    ("index add", lambda: torch.zeros(2, 4).index_add(0, torch.tensor([0, 1, 0]), A), 12),
    (
        "accumulating put",
        lambda: torch.zeros(4).index_put((torch.tensor([0, 0]),), torch.ones(2), True),
        2,
    ),
    # subtract, square, add: 3 pairs of 2 rows of 4 features
    ("cdist", lambda: torch.cdist(torch.ones(3, 4), torch.ones(2, 4)), 3 * (3 * 2 * 4)),
]


@pytest.mark.parametrize(
    ("run", "expected"), [p[1:] for p in POINTWISE], ids=[p[0] for p in POINTWISE]
)
def test_elements_are_counted(run, expected):
    assert forward_of(run) == expected


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda: torch.max(A, A), 12),
        (lambda: torch.max(A), 12),
        (A.isfinite, 12),  # the absolute value
        (lambda: torch.true_divide(COMPLEX, COMPLEX), 11 * 12),
        (lambda: torch.float_power(COMPLEX.cdouble(), 2), 6 * 12),
        (lambda: F.dropout(A, 0.5), 2 * 12),
        (lambda: F.linear(A, B.T, V.new_ones(5)), 2 * 3 * 4 * 5 + 3 * 5),
        (lambda: F.rms_norm(A, (4,)), 3 * 12 + 2 * 3),
    ],
)
def test_operators_made_of_others_cost_the_same_in_inference_mode(run, expected):
    assert forward_of(run) == expected
    with torch.inference_mode():
        assert forward_of(run) == expected


def test_complex_pseudoinverses_and_least_squares_are_right_inside_the_meter():
    matrix = torch.complex(A, A.flip(0).sin())[:, :2]
    with FLOPsMeter() as meter:
        inverse = torch.linalg.pinv(matrix)
    torch.testing.assert_close(inverse @ matrix, torch.eye(2, dtype=torch.complex64))
    # a thin SVD, the scaled vectors, one product: of complex numbers
    assert meter.count.forward == 4 * (14 * 3 * 4 + 8 * 8 + 4 + 2 * 3 * 4)
    right = COMPLEX[:, :1] * 1j + V[:3, None]
    with FLOPsMeter():
        fit = torch.linalg.lstsq(matrix, right, driver="gels")
    error = (matrix @ fit.solution - right).abs().square().sum(0)
    torch.testing.assert_close(fit.residuals, error, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not hasattr(torch.linalg, "polar"), reason="torch 2.14 brings it")
def test_complex_polar_factors_and_square_roots_are_right_inside_the_meter():
    matrix = torch.complex(A, A.flip(0).sin())[:, :2]
    with FLOPsMeter():
        unitary, positive = torch.linalg.polar(matrix)
        root = torch.linalg.matrix_sqrth(positive)
    torch.testing.assert_close(unitary @ positive, matrix)
    torch.testing.assert_close(unitary.mH @ unitary, torch.eye(2, dtype=torch.complex64))
    torch.testing.assert_close(root @ root, positive)


def test_conjugates_inside_an_operator_are_heeded():
    @torch.library.custom_op("conjugates::energy", mutates_args=())
    def energy(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vecdot(x, x)

    x = torch.complex(A, A.flip(1))
    expected = (x.abs() ** 2).sum(-1).to(torch.complex64)
    with FLOPsMeter():
        torch.testing.assert_close(energy(x), expected)
        with torch.inference_mode():
            torch.testing.assert_close(torch.linalg.vecdot(x, x), expected)


def test_a_ctc_loss_of_one_sequence_is_counted():
    sound, length = A.log_softmax(-1), torch.tensor(2)
    steps = torch.tensor(3)
    # 3 steps, 2 * 2 + 1 states
    operations = operations_of(lambda: F.ctc_loss(sound, torch.tensor([1, 2]), steps, length))
    assert operations["aten._ctc_loss"] == 13 * 3 * 5


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # PyTorch's own
def test_forward_mode_counts_what_runs_on_values_alone():
    def scaled(x):
        return x * V

    with FLOPsMeter() as meter:
        torch.func.jvp(scaled, (A,), (A,))
    assert meter.count.forward == 2 * 12  # the values and their tangents


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="torch 2.13 brings it")
def test_a_loss_that_pytorch_writes_in_python_costs_its_parts():
    from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions

    options = LinearCrossEntropyOptions(batch_chunk_size=3)
    x, weight, target = parameter(6, 4), parameter(5, 4), torch.arange(6) % 5
    with FLOPsMeter() as meter:
        F.linear_cross_entropy(x, weight, target, options=options).backward()
    assert not meter.uncounted
    # three products: the logits, and both gradients at once
    products = ("aten.mm", "aten.addmm", "aten.addmm_")
    assert sum(meter.operations[name].forward for name in products) == 3 * (2 * 6 * 4 * 5)
    assert meter.operations["aten.exp_"].forward == 6 * 5


def gradients_of(run) -> int:
    """FLOPs of the backward of what `run` returns, less the sum that begins it."""
    with FLOPsMeter() as meter:
        out = run()
        out.backward(torch.ones_like(out))
    assert not meter.uncounted
    return meter.count.backward


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


GRID = torch.zeros(2, 3, 3, 2)
GRADIENTS = [
    # of every row's weight: the product of its bag's gradient with the row
    (
        "weights of bags",
        lambda: F.embedding_bag(BAGS, ROWS, mode="sum", per_sample_weights=parameter(2, 3)),
        2 * 6 * 4,
    ),
    (
        "reduced sparse product",
        lambda: torch.sparse.mm(diagonal(), parameter(3, 4), "sum"),
        2 * 3 * 4,
    ),
    # of 18 positions with 4 channels: spread as interpolated, 9
    (
        "grid sampling of an image",
        lambda: F.grid_sample(parameter(2, 4, 10, 10), GRID, align_corners=False),
        18 * 4 * 9,
    ),
    # two coordinates, each 2 differences, an interpolation of 3, times the gradient, summed over
    # the channels; the sum is scaled
    (
        "grid sampling by positions",
        lambda: F.grid_sample(IMAGE, parameter(2, 3, 3, 2), align_corners=False),
        18 * 2 * (4 * (2 + 3 + 1 + 1) + 1),
    ),
    (
        "resizing with antialiasing",
        lambda: F.interpolate(parameter(2, 4, 10, 10), (5, 10), mode="bilinear", antialias=True),
        2 * 4 * (10 * 10 * 2 * 2 + 5 * 10 * 2 * 4),
    ),
    # 6 steps of 5 states: the recursion 13, times the forward variable and to its class 2; and per
    # class 2 exponentials, 3 sums, times the gradient
    (
        "CTC",
        lambda: torch._ctc_loss(parameter(6, 1, 3), torch.ones(1, 2, dtype=torch.int64), [6], [2])[
            0
        ],
        (13 + 2) * 6 * 5 + 6 * 6 * 3,
    ),
    # every one of 6 rows looked up is added to its row of the table
    (
        "embedding bag",
        lambda: F.embedding_bag(torch.zeros(2, 3, dtype=torch.int64), parameter(10, 4), mode="sum"),
        6 * 4,
    ),
]


@pytest.mark.parametrize(
    ("run", "expected"), [g[1:] for g in GRADIENTS], ids=[g[0] for g in GRADIENTS]
)
def test_gradients_are_counted(run, expected):
    assert gradients_of(run) == expected


def test_weight_norm_costs_its_plain_parts():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4, bias=False))
    with FLOPsMeter() as meter:
        layer(torch.ones(2, 3)).backward(torch.ones(2, 4))
    lines = meter.operations
    # 4 rows of 3: their norms, times g / norm
    assert lines["aten._weight_norm_interface"].forward == 2 * 12 + 4
    # s = sum(grad v); (grad - v s/n^2) g/n: product, sum, product, difference, product
    assert lines["aten._weight_norm_interface_backward"].backward == 5 * 12 + 4 * 4


@pytest.mark.parametrize("scaled", [True, False])
def test_the_fused_rms_norm_of_other_devices_costs_what_the_cpu_executes(scaled):
    weight = parameter(4) if scaled else None
    with FLOPsMeter() as meter:
        out = F.rms_norm(parameter(3, 4), (4,), weight)
        out.backward(torch.ones_like(out))
    x, rows = torch.ones(3, 4), torch.ones(3, 1)
    fused = TABLE["_fused_rms_norm"].of(torch.ops.aten._fused_rms_norm.default)
    assert fused.cost((x, [4], weight, None), {}, (x, rows)) == meter.count.forward
    backward = rule_of(torch.ops.aten._fused_rms_norm_backward.default)
    args = (x, x, [4], rows, weight, [True, scaled])
    assert backward.cost(args, {}, None) == meter.count.backward


def test_lengths_without_values_count_as_the_longest():
    rule = rule_of(torch.ops.aten._ctc_loss.Tensor)
    with FakeTensorMode():
        lengths = torch.tensor([6, 4])
        args = (torch.ones(6, 2, 3), torch.ones(2, 2, dtype=torch.int64), lengths, lengths)
    assert rule.cost(args, {}, None) == 13 * 2 * 6 * 5


def test_pairs_that_only_values_tell_have_no_cost_on_fake_tensors():
    rule = rule_of(torch.ops.aten.multilabel_margin_loss_forward.default)
    is_target = torch.ones(2, 4, device="meta")
    assert rule.cost((), {}, (is_target, is_target)) is None


INTEGERS = torch.arange(12).reshape(3, 4)
FREE = [
    ("views", lambda: A.t().reshape(2, 6).unsqueeze(0).expand(3, 2, 6)),
    ("copies", lambda: torch.cat([A, A]).clone().contiguous()),
    ("casts", lambda: A.to(torch.float64).half()),
    ("indexing", lambda: A[torch.tensor([0, 1])][:, 1]),
    ("gathering", lambda: A.gather(1, torch.zeros(3, 1, dtype=torch.int64))),
    ("embedding", lambda: F.embedding(torch.tensor([1, 2]), A)),
    ("comparisons", lambda: torch.where(A > 1, A, A)),
    ("sorting", lambda: (A.sort(), A.topk(2), A.argmax())),
    (
        "random fills",
        lambda: (torch.randn(3), torch.empty(3).uniform_(), torch.bernoulli(torch.eye(3))),
    ),
    ("initialisation", lambda: (torch.zeros(3), torch.eye(3), torch.full((2,), 1.5))),
    ("integers", lambda: INTEGERS + INTEGERS.sum()),
    ("integer products", lambda: INTEGERS @ INTEGERS.t()),
    ("booleans", lambda: (INTEGERS > 2) & (INTEGERS < 5)),
    ("windows", lambda: (torch.hann_window(8), torch.kaiser_window(8))),
    ("nesting", lambda: torch.nested.nested_tensor([A, A[:2]], layout=torch.jagged)),
    ("conjugates", lambda: (COMPLEX.conj().resolve_conj(), torch.conj_physical(A))),
    ("counting", lambda: (torch.histogram(A, 5), torch.bincount(torch.arange(4)))),
    ("triangles", lambda: (A.tril(), A.flip(0), A.roll(1), F.pad(A, (1, 1)))),
]


@pytest.mark.parametrize("run", [f[1] for f in FREE], ids=[f[0] for f in FREE])
def test_what_computes_nothing_in_floating_point_is_free(run):
    assert forward_of(run) == 0


LINEAR_ALGEBRA = [
    # n = 6, k = 2: 2/3 n^3 for LU, 2 n^2 k to substitute
    ("solve", lambda: torch.linalg.solve(SQUARE, RHS), 2 * 216 // 3 + 2 * 36 * 2),
    ("solve for a vector", lambda: torch.linalg.solve(SQUARE, RHS[:, 0]), 2 * 216 // 3 + 2 * 36),
    # one LU of a 3x3 matrix, 2/3 27 = 18; then 5 times 2 columns of 2 * 9
    (
        "solve for a batch of right-hand sides",
        lambda: torch.linalg.solve(torch.eye(3), torch.ones(5, 3, 2)),
        18 + 5 * 2 * 18,
    ),
    # five LUs, each with the same 2 columns
    (
        "solve a batch for one right-hand side",
        lambda: torch.linalg.solve(torch.eye(3).expand(5, 3, 3), torch.ones(3, 2)),
        5 * (18 + 2 * 18),
    ),
    # columns from the right: X A = B with B (2,3)
    (
        "solve from the right",
        lambda: torch.linalg.solve(torch.eye(3), torch.ones(2, 3), left=False),
        18 + 2 * 18,
    ),
    # m = 6, n = 2, one column: 2 m n^2 - 2/3 n^3, then 4 m n - n^2
    (
        "lstsq",
        lambda: torch.linalg.lstsq(RHS, torch.ones(6, 1)),
        (2 * 6 * 4 - 2 * 8 // 3) + (4 * 6 * 2 - 4),
    ),
    ("cholesky", lambda: torch.linalg.cholesky(SQUARE), 216 // 3),
    ("inv", lambda: torch.linalg.inv(SQUARE), 2 * 216),
    ("det", lambda: torch.linalg.det(SQUARE), 2 * 216 // 3),
    ("batched inv", lambda: torch.linalg.inv(torch.stack([SQUARE] * 3)), 3 * 2 * 216),
    # m = 6, n = 2
    # thin: 14 m n^2 + 8 n^3
    ("svd", lambda: torch.linalg.svd(RHS, full_matrices=False), 14 * 6 * 4 + 8 * 8),
    # all vectors: 4 m^2 n + 8 m n^2 + 9 n^3
    ("full svd", lambda: torch.linalg.svd(RHS), 4 * 36 * 2 + 8 * 6 * 4 + 9 * 8),
    # 2 m n^2 - 2/3 n^3, twice for a thin Q
    ("qr", lambda: torch.linalg.qr(RHS), 2 * (2 * 6 * 4 - 2 * 8 // 3)),
    ("LDL", lambda: torch.linalg.ldl_factor(SQUARE), 216 // 3),
    ("LDL solve", lambda: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(SQUARE), RHS), 72 + 144),
    # two reflectors of length 6 on 4 vectors: 2 * 4 * 2 * (2 * 6 - 2), after 2 m n^2 - 2/3 n^3
    (
        "reflections",
        lambda: torch.ormqr(*torch.geqrf(RHS), torch.ones(6, 4)),
        2 * 4 * 2 * 10 + (2 * 6 * 4 - 2 * 8 // 3),
    ),
    ("eigh", lambda: torch.linalg.eigh(SQUARE), 9 * 216),
    ("eig", lambda: torch.linalg.eig(SQUARE), 25 * 216),
    # n^2 per right-hand side
    (
        "solve_triangular",
        lambda: torch.linalg.solve_triangular(SQUARE.triu(), RHS, upper=True),
        36 * 2,
    ),
    # five matrices, each with the same 2 columns of 3^2
    (
        "solve_triangular that broadcasts",
        lambda: torch.linalg.solve_triangular(
            torch.eye(3).expand(5, 3, 3), torch.ones(3, 2), upper=True
        ),
        5 * 2 * 9,
    ),
    ("cholesky_solve", lambda: torch.cholesky_solve(RHS, SQUARE.tril()), 2 * 36 * 2),
    # 5 N log2 N for N = 8, twice
    ("fft", lambda: torch.fft.fft(torch.ones(2, 8)), 2 * 5 * 8 * 3),
    ("complex fft", lambda: torch.fft.fft(torch.ones(8, dtype=torch.complex64)), 5 * 8 * 3),
    # both dimensions: N = 8*4
    ("fft2", lambda: torch.fft.fft2(torch.ones(8, 4)), 5 * 32 * 5),
    # half of the spectrum for half of the cost
    ("rfft", lambda: torch.fft.rfft(torch.ones(8)), 5 * 8 * 3 // 2),
    ("odd fft", lambda: torch.fft.fft(torch.ones(6)), round(5 * 6 * log2(6))),
]


@pytest.mark.parametrize(
    ("run", "expected"), [p[1:] for p in LINEAR_ALGEBRA], ids=[p[0] for p in LINEAR_ALGEBRA]
)
def test_linear_algebra_and_fourier_transforms_follow_the_textbooks(run, expected):
    assert forward_of(run) == expected


# m = 6, n = 3: 4 m n^2 - 4/3 n^3; n = 6: 4/3 n^3; 10 n^3
TALL = torch.arange(18.0).reshape(6, 3).sin()
SYMMETRIC = torch.diag(torch.arange(6.0)) + torch.ones(6, 6)
SPECTRA = [
    (torch.linalg.svdvals, TALL, 4 * 6 * 9 - 4 * 27 // 3),
    (torch.linalg.eigvalsh, SYMMETRIC, 4 * 216 // 3),
    (torch.linalg.eigvals, SYMMETRIC, 10 * 216),
]
# with vectors: 14 m n^2 + 8 n^3; 9 n^3; 25 n^3
WITH_VECTORS = [14 * 6 * 9 + 8 * 27, 9 * 216, 25 * 216]


@pytest.mark.parametrize(("values_of", "matrix", "expected"), SPECTRA)
def test_values_alone_cost_no_vectors_in_any_form(values_of, matrix, expected):
    without_meter = values_of(matrix)
    with FLOPsMeter() as meter:
        values = values_of(matrix)
    assert meter.count.forward == expected
    assert torch.equal(values, without_meter)
    assert forward_of(lambda: values_of(matrix, out=torch.empty_like(without_meter))) == expected
    assert forward_of(lambda: values_of(matrix.to("meta"))) == expected
    with torch.no_grad():
        assert forward_of(lambda: values_of(matrix.clone().requires_grad_())) == expected
    with torch.inference_mode():
        assert forward_of(lambda: values_of(matrix)) == expected


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize(
    ("values_of", "matrix", "expected"),
    [(*case[:2], vectors) for case, vectors in zip(SPECTRA, WITH_VECTORS, strict=True)],
)
def test_values_with_a_gradient_cost_the_vectors_too(values_of, matrix, expected):
    def size(x):
        return values_of(x).abs().sum()

    x = matrix.clone().requires_grad_()
    assert forward_of(lambda: values_of(x)) == expected
    size(x).backward()
    direction = torch.ones_like(matrix)
    _, slope = torch.func.jvp(size, (matrix,), (direction,))
    with FLOPsMeter():
        gradient = torch.func.grad(size)(matrix)
        _, metered_slope = torch.func.jvp(size, (matrix,), (direction,))
    torch.testing.assert_close(gradient, x.grad)
    torch.testing.assert_close(metered_slope, slope)


def test_a_norm_that_rests_on_singular_values_costs_no_vectors():
    expected = 4 * 6 * 9 - 4 * 27 // 3 + 3  # and the largest of three
    assert forward_of(lambda: torch.linalg.matrix_norm(TALL, 2)) == expected


@pytest.mark.parametrize("padded", [False, True])
def test_the_fast_path_of_a_transformer_layer_costs_what_its_plain_path_costs(padded):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.ones(2, 5, 8)
    mask = torch.zeros(2, 5, dtype=torch.bool) if padded else None
    plain = forward_of(lambda: layer(x, src_key_padding_mask=mask))
    with torch.no_grad(), FLOPsMeter() as meter:
        layer(x, src_key_padding_mask=mask)
    assert list(meter.operations) == ["aten._transformer_encoder_layer_fwd"]
    assert meter.count.forward == plain
    tokens, d, inner = 10, 8, 16
    linears = tokens * (2 * d * 4 * d + 4 * d + 2 * 2 * d * inner + inner + d)
    attention = 2 * 2 * (2 * 2 * 5 * 5 * 4) + (5 + padded) * (2 * 2 * 5 * 5) + 2 * tokens * d
    rest = tokens * (2 * d + 2 * 6 * d + inner)  # residuals, norms, ReLU
    assert plain == linears + attention + rest


def test_foreach_forms_cost_what_the_plain_forms_cost():
    lists = [torch.ones(3), torch.ones(2, 2)]

    def foreach():
        torch._foreach_add_(lists, lists, alpha=0.5)
        torch._foreach_mul(lists, 2.0)
        torch._foreach_addcmul(lists, lists, lists, value=0.5)
        torch._foreach_addcdiv(lists, lists, lists, [0.5, 0.25])
        torch._foreach_lerp(lists, lists, 0.1)
        torch._foreach_norm(lists)
        torch._foreach_zero_(lists)
        torch._foreach_add(lists, [0.5, 0.25])

    # 7 elements: scaled add 2, multiply 1, addcmul 3, addcdiv 3, lerp 3, norm 1, zero 0, add 1
    assert forward_of(foreach) == 7 * (2 + 1 + 3 + 3 + 3 + 1 + 1)
    integers = [torch.ones(3, dtype=torch.int64), torch.ones(4, dtype=torch.int64)]
    assert forward_of(lambda: torch._foreach_exp(integers)) == 7  # which are floats
    assert forward_of(lambda: torch._foreach_add(integers, integers)) == 0
    # scaled by a number each: 2, and 3 where it is not 1
    numbers = torch.tensor([1.0, 0.5])
    assert forward_of(lambda: torch._foreach_addcmul(lists, lists, lists, numbers)) == 2 * 3 + 3 * 4


@pytest.mark.parametrize("network", ["mlp", "convolutional", "attention"])
def test_products_agree_with_pytorchs_own_counter_to_the_digit(network):
    torch.manual_seed(0)
    if network == "mlp":
        model, x = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)), torch.ones(5, 8)
    elif network == "convolutional":
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3, stride=2))
        x = torch.ones(2, 3, 9, 9)
    else:
        model, x = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1), torch.ones(4, 3, 8)
    with FlopCounterMode(display=False) as theirs:
        out = model(x)
        out.backward(torch.ones_like(out))
    with FLOPsMeter() as ours:
        out = model(x)
        out.backward(torch.ones_like(out))
    counted = {str(op): flops for op, flops in theirs.get_flop_counts()["Global"].items()}
    assert counted
    assert {name: ours.operations[name].total for name in counted} == counted
