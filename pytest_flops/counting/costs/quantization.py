"""Quantisation: an operator on quantised numbers costs the floating-point one it stands for.

How it rescales its result inside is not counted. Quantising and dequantising as operators of their
own are: divide, round, add the zero point, clamp (4); subtract the zero point, multiply (2).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flops.counting.costs.elements import (
    first_tensor,
    has_no_values,
    per_input,
    per_output,
    weighted,
)
from pytest_flops.counting.costs.normalization import SOFTMAX
from pytest_flops.counting.costs.products import convolution
from pytest_flops.counting.costs.table import FREE, Formulas, Rules, named

QUANTISE, DEQUANTISE, FAKE_QUANTISE = 4, 2, 6

_POINTWISE = """
    add add_out add_scalar add_scalar_out mul mul_out mul_scalar mul_scalar_out
    celu clamp elu hardswish leaky_relu prelu relu6 sigmoid threshold cat_relu cat_relu_out
    """
_POINTWISE_AND_RELU = """
    add_relu add_relu_out add_scalar_relu add_scalar_relu_out
    mul_relu mul_relu_out mul_scalar_relu mul_scalar_relu_out
    """
_LINEAR = """
    linear linear_dynamic linear_dynamic_fp16 linear_with_input_q_dq_qweight_dq_output_fp32
    """
_LINEAR_AND_POINTWISE = """
    linear_relu linear_relu_dynamic linear_relu_dynamic_fp16 linear_leaky_relu linear_tanh
    linear_with_input_q_dq_qweight_dq_relu_output_fp32
    """
_CONVOLUTIONS = """
    conv1d conv2d conv3d conv1d_dynamic conv2d_dynamic conv3d_dynamic
    conv_transpose1d conv_transpose2d conv_transpose3d
    conv_transpose1d_dynamic conv_transpose2d_dynamic conv_transpose3d_dynamic
    """
# Copies, looking up, and packing weights.
_FREE = """
    cat cat_out dropout embedding_byte embedding_4bit
    linear_prepack linear_prepack_fp16 linear_unpack linear_unpack_fp16
    conv1d_prepack conv2d_prepack conv3d_prepack conv1d_unpack conv2d_unpack conv3d_unpack
    conv_transpose1d_prepack conv_transpose2d_prepack conv_transpose3d_prepack
    conv_transpose1d_unpack conv_transpose2d_unpack conv_transpose3d_unpack
    embedding_bag_prepack embedding_bag_unpack embedding_bag_byte_unpack embedding_bag_4bit_unpack
    make_quantized_cell_params make_quantized_cell_params_dynamic make_quantized_cell_params_fp16
    """
_FREE_QUERIES = """
    int_repr q_scale q_zero_point q_per_channel_scales q_per_channel_zero_points q_per_channel_axis
    qscheme _make_per_tensor_quantized_tensor _make_per_channel_quantized_tensor
    _empty_affine_quantized _empty_per_channel_affine_quantized empty_quantized
    _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _dyn_quant_pack_4bit_weight
    """
_TO_INTEGERS = """
    quantize_per_tensor quantize_per_channel quantize_per_channel_group quantize_per_token
    """
_FROM_INTEGERS = """
    dequantize_per_tensor dequantize_per_channel dequantize_per_channel_group dequantize_per_token
    """
_CHOOSE = """
    choose_qparams choose_qparams_symmetric choose_qparams_per_token
    _choose_qparams_per_token_asymmetric_impl
    """


def _linear(after: int = 0) -> Formulas:
    """`X @ W.T`, and `after` per output element."""
    return Formulas(
        lambda out, X: out.numel() * (2 * X.shape[-1] + after),
        lambda out, W_prepack: out.numel() * (W_prepack.bias() is not None),
    )


def _convolution(after: int = 0) -> Formulas:
    """A convolution, and `after` per output element; the packed weight knows its shape."""

    def products(out: Tensor, qx: Tensor, packed_weight: Any = None, weight: Any = None) -> int:
        packed = weight if packed_weight is None else packed_weight
        plain, _ = packed.unpack()
        return convolution(out, qx, plain, packed.transpose()) + after * out.numel()

    def bias(out: Tensor, packed_weight: Any = None, weight: Any = None) -> int:
        packed = weight if packed_weight is None else packed_weight
        return out.numel() * (packed.bias() is not None)

    return Formulas(products, bias)


def _learnable_backward(self: Tensor, scale: Tensor) -> int | None:
    """Of the input, the scale and the zero point, after quantising and dequantising again.

    The input's is selected (1). The scale's is `(quantised - x) / scale * gradient`, summed (4).
    The zero point's is `gradient * scale`, summed (2). Both are scaled, per scale.
    """
    per_element = weighted(self, FAKE_QUANTISE + 1 + 4 + 2)
    return None if per_element is None else per_element + 2 * scale.numel()


def _observe_and_quantise(
    self: Tensor, observer_on: Tensor, fake_quant_on: Tensor, running_min: Tensor
) -> int | None:
    """Minimum and maximum, 1; their running means, 3 each per range; fake quantisation."""
    observes, quantises = (
        has_no_values(switch) or bool(switch) for switch in (observer_on, fake_quant_on)
    )
    per_element = weighted(self, observes + FAKE_QUANTISE * quantises)
    return None if per_element is None else per_element + 6 * observes * running_min.numel()


RULES: Rules = {
    "quantize_per_tensor quantize_per_channel": lambda self=None, tensors=None: weighted(
        first_tensor(self, tensors), QUANTISE
    ),
    "quantize_per_tensor_dynamic": per_input(1 + QUANTISE),  # minimum and maximum
    "dequantize": per_output(DEQUANTISE),
    "fake_quantize_per_tensor_affine_cachemask": per_input(FAKE_QUANTISE),
    "fake_quantize_per_channel_affine_cachemask": per_input(FAKE_QUANTISE),
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": per_input(FAKE_QUANTISE),
    "_fake_quantize_learnable_per_tensor_affine": per_input(FAKE_QUANTISE),
    "_fake_quantize_learnable_per_channel_affine": per_input(FAKE_QUANTISE),
    "_fake_quantize_learnable_per_tensor_affine_backward": _learnable_backward,
    "_fake_quantize_learnable_per_channel_affine_backward": _learnable_backward,
    "_fused_moving_avg_obs_fq_helper": _observe_and_quantise,
    _FREE_QUERIES: FREE,
    named("quantized", _POINTWISE): per_output(1),
    named("quantized", _POINTWISE_AND_RELU): per_output(2),
    "quantized::softmax": per_output(SOFTMAX),
    named("quantized", _LINEAR): _linear(),
    named("quantized", _LINEAR_AND_POINTWISE): _linear(1),
    "quantized::linear_dynamic_fp16_unpacked_weight": Formulas(
        lambda out, X: 2 * out.numel() * X.shape[-1],
        lambda out, bias: out.numel() * (bias is not None),
    ),
    "quantized::int4mm_packed_weight_cpu": lambda out, self: 2 * self.numel() * out.shape[-1],
    "quantized::matmul": lambda out, qa: 2 * out.numel() * qa.shape[-1],
    named("quantized", _CONVOLUTIONS): _convolution(),
    "quantized::conv1d_relu quantized::conv2d_relu quantized::conv3d_relu": _convolution(1),
    "quantized::conv2d_add": _convolution(1),
    "quantized::conv2d_add_relu": _convolution(2),
    named("quantized", _FREE): FREE,
    # what the export of a model is quantised with
    named("quantized_decomposed", _TO_INTEGERS): per_input(QUANTISE, of="input"),
    named("quantized_decomposed", _FROM_INTEGERS): per_output(DEQUANTISE),
    named("quantized_decomposed", _CHOOSE): per_input(1, of="input"),
    "quantized_decomposed::fake_quant_per_channel": per_input(FAKE_QUANTISE, of="input"),
    "quantized_decomposed::convert_element_type": FREE,
}
