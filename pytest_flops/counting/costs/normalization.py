"""Softmax, the norms of layers, and dropout: what their plain parts cost, per input element."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pytest_flops.counting.costs.elements import per_input, per_output, weighted
from pytest_flops.counting.costs.table import Formula, Rules, named

# maximum, subtract, exponential, sum, divide
SOFTMAX = 5
# gradient times softmax, sum, subtract, times softmax
SOFTMAX_BACKWARD = 4
# mean, variance, subtract, times the inverse deviation
NORMALISE = 4
# In evaluation the statistics are given: subtract, times the inverse deviation.
NORMALISE_IN_EVALUATION = 2
# normalise again (2); two sums, one of a product (3); subtract both means (3), rescale (1)
NORMALISE_BACKWARD = 9


_SOFTMAX_BACKWARD = """
    _softmax_backward_data _masked_softmax_backward _sparse_softmax_backward_data
    """
_NORMS = """
    native_layer_norm native_group_norm native_batch_norm cudnn_batch_norm
    _native_batch_norm_legit _batch_norm_with_update
    """
_NORMS_BACKWARD = """
    native_layer_norm_backward native_group_norm_backward native_batch_norm_backward
    batch_norm_backward cudnn_batch_norm_backward
    """


_QUANTISED_BATCH_NORMS = "batch_norm batch_norm1d batch_norm2d batch_norm3d"
_QUANTISED_BATCH_NORMS_AND_RELU = """
    batch_norm_relu batch_norm1d_relu batch_norm2d_relu batch_norm3d_relu
    """


def _normalised(x: Tensor, parts: int, *affine: Tensor | None) -> int | None:
    """`parts` per element, and 1 each for the learned scale and shift."""
    return weighted(x, parts + sum(each is not None for each in affine))


def _norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool = True
) -> int | None:
    """`(x - mean) / deviation * weight + bias`, of whichever dimensions."""
    return _normalised(input, NORMALISE if training else NORMALISE_IN_EVALUATION, weight, bias)


def _quantised_batch_norm(after: int) -> Formula:
    """With the statistics of training, and `after` per element."""

    def cost(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> int | None:
        return _normalised(out, NORMALISE_IN_EVALUATION + after, weight, bias)

    return cost


def _norm_backward(
    input: Tensor,
    weight: Tensor | None,
    output_mask: Sequence[bool] = (True, True, True),
    train: bool = True,
    update: bool = True,
) -> int | None:
    """The input's gradient; the scale's (a product and its sum); the shift's (a sum)."""
    of_input, of_scale, of_shift = output_mask
    if train and update:  # the input's gradient normalises already
        input_gradient, normalise_again = NORMALISE_BACKWARD, 2 * (not of_input)
    else:  # the statistics are constants
        input_gradient, normalise_again = 1, NORMALISE_IN_EVALUATION
    input_gradient += weight is not None
    per_element = of_input * input_gradient + of_scale * (2 + normalise_again) + of_shift
    return weighted(input, per_element)


def _sums_of_gradients(input: Tensor, weight_g: bool, bias_g: bool) -> int | None:
    """Of the gradient, and of it times the centred input (4); of scale and shift as elsewhere.

    `NORMALISE_BACKWARD`, less what follows once all processes have added theirs.
    """
    return weighted(input, NORMALISE_BACKWARD - 5 + 2 * weight_g + bias_g)


def _rms_norm(input: Tensor, weight: Tensor | None, out: tuple[Tensor, Tensor]) -> int | None:
    """Square, mean, times the inverse root; the learned scale; per row epsilon and the root."""
    per_element, (_, rows) = _normalised(input, 3, weight), out
    return None if per_element is None else per_element + 2 * rows.numel()


def _rms_norm_backward(
    input: Tensor, rstd: Tensor, weight: Tensor | None, output_mask: Sequence[bool]
) -> int | None:
    """What autograd executes of the plain parts.

    Of the input: times the inverse root (1); the root's own, a product and its sum (2); the mean's
    (1), the square's (3), joined (1); the scale (1); per row the inverse root's (3). Of the scale:
    a product and its sum (2).
    """
    of_input, of_scale = output_mask
    per_element = weighted(input, of_input * (8 + (weight is not None)) + 2 * of_scale)
    return None if per_element is None else per_element + of_input * 3 * rstd.numel()


RULES: Rules = {
    "_softmax _safe_softmax _masked_softmax _sparse_softmax": per_input(SOFTMAX),
    "softmax": per_output(SOFTMAX),
    _SOFTMAX_BACKWARD: per_input(SOFTMAX_BACKWARD, of="grad_output"),
    # maximum, subtract, exponential, sum, subtract
    "_log_softmax _sparse_log_softmax": per_input(5),
    "log_softmax": per_output(5),
    # sum, exponential, product, subtract
    "_log_softmax_backward_data _sparse_log_softmax_backward_data": per_input(4, of="grad_output"),
    # the norm of v, g divided by it, times v
    "_weight_norm_interface": lambda v, g: 2 * v.numel() + g.numel(),
    # `g/n * (grad - v * s/n^2)` and `s/n`, where n is the norm of v and s the sum of grad * v
    "_weight_norm_interface_backward": lambda saved_v, saved_g: (
        5 * saved_v.numel() + 4 * saved_g.numel()
    ),
    # norm and scale of every slice of a dimension, or of every row looked up; 2 per scale
    "renorm": lambda self, dim: 2 * self.numel() + 2 * self.shape[dim],
    "embedding_renorm": lambda self, indices: indices.numel() * (2 * self.shape[-1] + 2),
    # times the mask, times the scale; nothing outside training
    "native_dropout": lambda out, train: 0 if train is False else weighted(out[0], 2),
    _NORMS: _norm,
    "_native_batch_norm_legit_no_training _batch_norm_no_update": (
        lambda input, weight, bias: _norm(input, weight, bias, training=False)
    ),
    _NORMS_BACKWARD: _norm_backward,
    named("quantized", "layer_norm group_norm instance_norm"): _norm,
    "quantized_batch_norm": _quantised_batch_norm(0),
    named("quantized", _QUANTISED_BATCH_NORMS): _quantised_batch_norm(0),
    named("quantized", _QUANTISED_BATCH_NORMS_AND_RELU): _quantised_batch_norm(1),
    # The norm of a batch that processes share, by its steps: mean and variance; those of all
    # processes weighted and summed; subtract, times the inverse deviation, scale and shift.
    "batch_norm_stats": per_input(2, of="input"),
    "batch_norm_gather_stats batch_norm_gather_stats_with_counts": per_input(4, of="mean"),
    "batch_norm_elemt": lambda input, weight, bias: _norm(input, weight, bias, training=False),
    "batch_norm_backward_reduce": _sums_of_gradients,
    "batch_norm_backward_elemt": lambda input, weight: _normalised(input, 5, weight),
    "_fused_rms_norm": _rms_norm,
    "_fused_rms_norm_backward": _rms_norm_backward,
}
