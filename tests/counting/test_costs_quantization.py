"""Nothing is free because it is not floating point: it costs what it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn
from torch.ao import quantization

from pytest_flops.counting.costs import rule_of
from pytest_flops.counting.meter.meter import FLOPsMeter

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel"),
    pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max"),
    pytest.mark.filterwarnings("ignore:must run observer before calling calculate_qparams"),
    pytest.mark.filterwarnings("ignore:_aminmax is deprecated"),
]
quantized, aten = torch.ops.quantized, torch.ops.aten
QUANTISE, DEQUANTISE = 4, 2


def forward_of(run) -> int:
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    assert meter.count.backward == 0
    return meter.count.forward


def q(*shape: int) -> Tensor:
    return torch.quantize_per_tensor(torch.ones(shape), 0.1, 0, torch.quint8)


def converted(*layers: nn.Module, x: Tensor) -> nn.Module:
    """Layers between quantising and dequantising."""
    model = nn.Sequential(quantization.QuantStub(), *layers, quantization.DeQuantStub()).eval()
    model.qconfig = quantization.default_qconfig
    ready = quantization.prepare(model)
    ready(x)
    return quantization.convert(ready)


def ends(before: int, after: int) -> int:
    return QUANTISE * before + DEQUANTISE * after


IMAGE = torch.ones(2, 3, 8, 8)  # 192
STATIC = {
    # 4 filters of 3*3*3 taps at 6x6 positions, with a bias; ReLU
    "convolution": (
        (nn.Conv2d(3, 4, 3), nn.ReLU()),
        IMAGE,
        2 * (2 * 36) * (4 * 27) + 2 * (2 * 4 * 36) + ends(2 * 192, 2 * 144),
    ),
    "convolution without bias, by groups": (
        (nn.Conv2d(3, 6, 3, groups=3, bias=False),),
        IMAGE,
        2 * (2 * 36) * (6 * 9) + ends(2 * 192, 2 * 216),
    ),
    # every one of 8x8 input positions meets every weight
    "transposed convolution": (
        (nn.ConvTranspose2d(3, 4, 3, bias=False),),
        IMAGE,
        2 * (2 * 64) * (3 * 4 * 9) + ends(2 * 192, 2 * 400),
    ),
    "convolution in 1-D": (
        (nn.Conv1d(3, 4, 3),),
        torch.ones(2, 3, 8),
        2 * (2 * 6) * (4 * 9) + 2 * 24 + ends(2 * 24, 2 * 24),
    ),
    # 7 rows
    "linear": (
        (nn.Linear(3, 5),),
        torch.ones(7, 3),
        2 * 7 * 3 * 5 + 7 * 5 + ends(7 * 3, 7 * 5),
    ),
    # 4x4 windows of 2x2 in 6 channels; 6 means of 16
    "pooling": (
        (nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)),
        IMAGE,
        6 * 64 + 6 * 16 + ends(2 * 192, 6),
    ),
    # subtract, rescale, scale, shift
    "batch norm": ((nn.BatchNorm2d(3),), IMAGE, 4 * 384 + ends(384, 384)),
    # mean, variance, and the same
    "layer norm": ((nn.LayerNorm(8),), IMAGE, 6 * 384 + ends(384, 384)),
}


@pytest.mark.parametrize(("layers", "x", "expected"), STATIC.values(), ids=STATIC)
def test_a_quantised_layer_costs_the_layer_that_it_stands_for(layers, x, expected):
    model = converted(*layers, x=x)
    assert forward_of(lambda: model(x)) == expected


OPERATORS = {
    "sum": (lambda: quantized.add(q(3, 4), q(3, 4), 0.1, 0), 12),
    "sum, ReLU": (lambda: quantized.add_relu(q(3, 4), q(3, 4), 0.1, 0), 2 * 12),
    "product": (lambda: quantized.mul(q(3, 4), q(3, 4), 0.1, 0), 12),
    "times a number": (lambda: quantized.mul_scalar(q(3, 4), 2.0), 12),
    "ReLU": (lambda: q(3, 4).relu(), 12),
    "sigmoid": (lambda: quantized.sigmoid(q(3, 4), 0.1, 0), 12),
    "softmax": (lambda: quantized.softmax(q(3, 4), 1, 0.1, 0), 5 * 12),
    "matrix product": (lambda: quantized.matmul(q(2, 3, 4), q(2, 4, 5), 0.1, 0), 2 * 2 * 3 * 4 * 5),
    "copies": (lambda: (quantized.cat([q(3, 4)] * 2, 0, 0.1, 0), q(3, 4).reshape(-1).clone()), 0),
    "queries": (lambda: (q(3, 4).q_scale(), q(3, 4).int_repr(), q(3, 4).qscheme()), 0),
}


@pytest.mark.parametrize(("run", "expected"), OPERATORS.values(), ids=OPERATORS)
def test_a_quantised_operator_costs_the_one_that_it_stands_for(run, expected):
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    operands = meter.operations["aten.quantize_per_tensor"].forward
    assert meter.count.forward == operands + expected


DYNAMIC = {
    "linear": (lambda: nn.Linear(3, 5), torch.ones(7, 3), 2 * 7 * 3 * 5 + 7 * 5),
    # 5 steps of 2 sequences: 4 gates of 6 hidden units, both products and biases; 13 per unit
    "LSTM": (lambda: nn.LSTM(8, 6), torch.ones(5, 2, 8), 10 * (2 * 24 * 14 + 2 * 24 + 13 * 6)),
    # of 3 gates; the second layer has both directions of the first for an input
    "GRU of two layers": (
        lambda: nn.GRU(8, 6, num_layers=2, bidirectional=True),
        torch.ones(5, 2, 8),
        2 * 10 * (2 * 18 * (14 + 18) + 2 * (2 * 18 + 10 * 6)),
    ),
    "cell": (lambda: nn.LSTMCell(8, 6), torch.ones(2, 8), 2 * (2 * 24 * 14 + 2 * 24 + 13 * 6)),
}


@pytest.mark.parametrize(("layer", "x", "expected"), DYNAMIC.values(), ids=DYNAMIC)
def test_a_dynamically_quantised_layer_costs_the_layer_that_it_stands_for(layer, x, expected):
    layer = nn.Sequential(layer())
    kinds = {type(layer[0])}
    quantised = quantization.quantize_dynamic(layer, kinds, torch.qint8)
    assert "quantized" in type(quantised[0]).__module__
    assert forward_of(lambda: quantised(x)) == expected


def test_a_quantised_bag_of_embeddings_costs_its_sums():
    model = nn.Sequential(nn.EmbeddingBag(10, 4, mode="sum"))
    model.qconfig = quantization.float_qparams_weight_only_qconfig
    model = quantization.convert(quantization.prepare(model))
    # 2 bags of 3 rows of 4
    assert forward_of(lambda: model(torch.zeros(2, 3, dtype=torch.int64))) == 2 * 3 * 4


ONE = torch.tensor(1.0)
BF16, INT8 = torch.bfloat16, torch.int8


def f8(*shape: int) -> Tensor:
    return torch.ones(shape).to(torch.float8_e4m3fn)


def scaled_mm(bias: Tensor | None = None) -> Tensor:
    one = F.ScalingType.TensorWise
    return F.scaled_mm(f8(16, 32), f8(48, 32).t(), ONE, one, ONE, one, bias, output_dtype=BF16)


def int4_product() -> Tensor:
    packed = aten._convert_weight_to_int4pack_for_cpu(torch.ones(16, 32, dtype=torch.int32), 1)
    scales = torch.ones(1, 16, 2, dtype=BF16)
    return aten._weight_int4pack_mm_for_cpu(torch.ones(4, 32, dtype=BF16), packed, 32, scales)


PRODUCTS = {
    "eight bits": (
        lambda: torch._scaled_mm(f8(16, 32), f8(48, 32).t(), ONE, ONE, out_dtype=BF16),
        2 * 16 * 32 * 48,
    ),
    "eight bits and a bias": (
        lambda: torch._scaled_mm(
            f8(16, 32), f8(48, 32).t(), ONE, ONE, torch.ones(48, dtype=BF16), out_dtype=BF16
        ),
        2 * 16 * 32 * 48 + 16 * 48,
    ),
    "the public form": (scaled_mm, 2 * 16 * 32 * 48),
    "a weight of eight bits": (
        lambda: torch._weight_int8pack_mm(
            torch.ones(4, 32, dtype=BF16), torch.ones(16, 32, dtype=INT8), torch.ones(16).to(BF16)
        ),
        2 * 4 * 32 * 16,
    ),
    "a weight of four bits": (int4_product, 2 * 4 * 32 * 16),
}


@pytest.mark.parametrize(("run", "expected"), PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_of_few_bits_costs_two_per_multiply_add(run, expected):
    assert forward_of(run) == expected


def meta(*shape: int, dtype: torch.dtype = torch.float8_e4m3fn) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


FP4 = torch.float4_e2m1fn_x2
# The arguments of kernels of CUDA, their result, and the product's and the bias's cost.
KERNELS = {
    # 6 rows in 2 groups: every row meets the matrix of its group
    "_scaled_grouped_mm": (
        (meta(6, 32), meta(2, 32, 16), ONE, ONE, ONE),
        meta(6, 16),
        (2 * 6 * 32 * 16, 0),
    ),
    "_scaled_grouped_mm_v2": (
        (meta(6, 32), meta(2, 32, 16), [ONE], [0], [0], [ONE], [0], [0], ONE, meta(2, 16)),
        meta(6, 16),
        (2 * 6 * 32 * 16, 6 * 16),
    ),
    # two numbers of four bits in each element: 16 times 64 times 8
    "_scaled_mm": (
        (meta(16, 32, dtype=FP4), meta(32, 8, dtype=FP4), ONE, ONE),
        meta(16, 8),
        (2 * 16 * 64 * 8, 0),
    ),
    "_weight_int4pack_mm": (
        (meta(4, 32, dtype=BF16), meta(2, 1, 32, 4, dtype=torch.int32), 32, ONE),
        meta(4, 16, dtype=BF16),
        (2 * 4 * 32 * 16, None),
    ),
    # stores half of (8, 32)
    "_sparse_semi_structured_mm": (
        (meta(8, 16, dtype=BF16), ONE, meta(32, 4, dtype=BF16)),
        meta(8, 4, dtype=BF16),
        (2 * 8 * 16 * 4, None),
    ),
    "_sparse_semi_structured_linear": (
        (meta(2, 3, 32, dtype=BF16), meta(8, 16, dtype=BF16), ONE),
        meta(2, 3, 8, dtype=BF16),
        (2 * 6 * 8 * 16, 0),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_of_few_bits_costs_two_per_multiply_add(name):
    args, out, expected = KERNELS[name]
    rule = rule_of(getattr(aten, name).default)
    bias = rule.side_cost(args, {}, out) if rule.side_cost else None
    assert (rule.cost(args, {}, out), bias) == expected


def test_quantisation_while_training_is_counted():
    model = nn.Sequential(nn.Linear(8, 4, bias=False)).train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    model = quantization.prepare_qat(model)
    with FLOPsMeter() as meter:
        model(torch.ones(2, 8))
    assert not meter.uncounted
    # every weight and output is observed 1 and quantised 6; 4 ranges of weights and one of outputs
    # have running means, 3 for either end
    line = meter.operations["aten._fused_moving_avg_obs_fq_helper"]
    assert line.forward == (1 + 6) * (32 + 8) + 2 * 3 * (4 + 1)
    model.apply(quantization.disable_observer)
    with FLOPsMeter() as meter:
        model(torch.ones(2, 8))
    assert meter.operations["aten._fused_moving_avg_obs_fq_helper"].forward == 6 * (32 + 8)


def test_a_scale_that_is_learned_is_counted():
    x, scale = torch.ones(3, 4, requires_grad=True), torch.tensor([0.1], requires_grad=True)
    zero = torch.tensor([0.0], requires_grad=True)
    with FLOPsMeter() as meter:
        out = torch._fake_quantize_learnable_per_tensor_affine(x, scale, zero, 0, 255, 0.5)
        out.backward(torch.ones_like(out))
    assert not meter.uncounted
    # divide, round, add, clamp; subtract, multiply
    assert meter.count.forward == 6 * 12
    # again; selected; error by scale by gradient, and its sum; gradient by scale, and its sum; then
    # a factor for both
    assert meter.count.backward == (6 + 1 + 4 + 2) * 12 + 2


def test_an_exported_models_quantisation_is_counted():
    import torch.ao.quantization.fx._decomposed

    ops, x = torch.ops.quantized_decomposed, torch.ones(3, 4)

    def there_and_back():
        few = ops.quantize_per_tensor(x, 0.1, 0, -128, 127, INT8)
        ops.dequantize_per_tensor(few, 0.1, 0, -128, 127, INT8)

    assert forward_of(there_and_back) == (4 + 2) * 12


@pytest.fixture(scope="module")
def unknown() -> object:
    """Operators that no rule claims."""
    library = torch.library.Library("unknown_numbers", "DEF")
    for name in ("shuffle", "int8_gemm", "convert"):
        library.define(f"{name}(Tensor a) -> Tensor")
        library.impl(name, torch.clone, "CPU")
        library.impl(name, torch.clone, "QuantizedCPU")
    yield torch.ops.unknown_numbers
    library._destroy()


def integers(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=INT8)


@pytest.mark.parametrize(
    ("name", "make", "is_counted"),
    [
        ("shuffle", integers, True),
        ("convert", integers, True),
        ("shuffle", q, False),
        ("shuffle", torch.ones, False),
        # may stand for a product of floating-point numbers, as _int_mm does
        ("int8_gemm", integers, False),
    ],
)
def test_an_unknown_operator_is_free_only_on_integers_and_if_it_is_no_product(
    unknown, name, make, is_counted
):
    x = make(4, 4)
    with FLOPsMeter() as meter:
        getattr(unknown, name)(x)
    assert meter.uncounted == ({} if is_counted else {f"unknown_numbers.{name}": 1})
