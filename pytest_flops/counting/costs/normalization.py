"""Softmax, the norms of layers, and dropout: what their plain parts cost, per input element."""

from __future__ import annotations

from pytest_flops.counting.costs.elements import per_input, per_output, weighted
from pytest_flops.counting.costs.table import Call, enter, rule

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

enter(
    _softmax=per_input(SOFTMAX),
    softmax=per_output(SOFTMAX),
    _safe_softmax=per_input(SOFTMAX),
    _softmax_backward_data=per_input(SOFTMAX_BACKWARD, of="grad_output"),
    # maximum, subtract, exponential, sum, subtract
    _log_softmax=per_input(5),
    log_softmax=per_output(5),
    # sum, exponential, product, subtract
    _log_softmax_backward_data=per_input(4, of="grad_output"),
)


def _normalised(call: Call, parts: int) -> int | None:
    """`parts` per element of the input, and 1 each for the learned scale and shift."""
    affine = (call.argument("weight") is not None) + (call.either("bias") is not None)
    return weighted(call.argument("input"), parts + affine)


@rule(
    *("native_layer_norm", "native_group_norm"),
    *("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit"),
    "_batch_norm_with_update",
)
def norm(call: Call) -> int | None:
    """`(x - mean) / deviation * weight + bias`, of whichever dimensions."""
    in_evaluation = call.either("training") is False  # which only batch norms are told
    return _normalised(call, NORMALISE_IN_EVALUATION if in_evaluation else NORMALISE)


@rule("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
def norm_in_evaluation(call: Call) -> int | None:
    """As `norm`, with the mean and the deviation that were learned."""
    return _normalised(call, NORMALISE_IN_EVALUATION)


@rule(
    *("native_layer_norm_backward", "native_group_norm_backward"),
    *("native_batch_norm_backward", "batch_norm_backward", "cudnn_batch_norm_backward"),
)
def norm_backward(call: Call) -> int | None:
    """The input's gradient; the scale's (a product and its sum); the shift's (a sum)."""
    of_input, of_scale, of_shift = call.either("output_mask") or (True, True, True)  # cuDNN's
    is_scaled = call.argument("weight") is not None
    if call.either("train", "update") is False:  # the statistics are constants
        input_gradient, normalise_again = 1 + is_scaled, NORMALISE_IN_EVALUATION
    else:  # the input's gradient normalises already
        input_gradient, normalise_again = NORMALISE_BACKWARD + is_scaled, 2 * (not of_input)
    scale_gradient = 2 + normalise_again
    per_element = of_input * input_gradient + of_scale * scale_gradient + of_shift
    return weighted(call.argument("input"), per_element)


@rule("_fused_rms_norm")
def rms_norm(call: Call) -> int | None:
    """Square, mean, times the inverse root; the learned scale; per row epsilon and the root."""
    per_element, (_, rows) = _normalised(call, 3), call.out
    return None if per_element is None else per_element + 2 * int(rows.numel())


@rule("_fused_rms_norm_backward")
def rms_norm_backward(call: Call) -> int | None:
    """What autograd executes of the plain parts.

    Of the input: times the inverse root (1); the root's own, a product and its sum (2); the mean's
    (1), the square's (3), joined (1); the scale (1); per row the inverse root's (3). Of the scale:
    a product and its sum (2).
    """
    wanted, rows = call.argument("output_mask"), int(call.argument("rstd").numel())
    input_gradient = wanted[0] * (8 + (call.argument("weight") is not None))
    per_element = weighted(call.argument("input"), input_gradient + 2 * wanted[1])
    return None if per_element is None else per_element + wanted[0] * 3 * rows


@rule("_weight_norm_interface")
def weight_norm(call: Call) -> int:
    """The norm of v, g divided by it, times v."""
    return int(2 * call.argument("v").numel() + call.argument("g").numel())


@rule("_weight_norm_interface_backward")
def weight_norm_backward(call: Call) -> int:
    """`g/n * (grad - v * s/n^2)` and `s/n`, where n is the norm of v and s the sum of grad * v."""
    return int(5 * call.argument("saved_v").numel() + 4 * call.argument("saved_g").numel())


@rule("renorm")
def renorm(call: Call) -> int:
    """Norm and scale of every slice of a dimension; the scale is 2 per slice."""
    x = call.argument("self")
    return int(2 * x.numel() + 2 * x.shape[call.argument("dim")])


@rule("embedding_renorm")
def embedding_renorm(call: Call) -> int:
    """As `renorm`, of every row that is looked up."""
    width = call.argument("self").shape[-1]
    return int(call.argument("indices").numel() * (2 * width + 2))


@rule("native_dropout")
def dropout(call: Call) -> int | None:
    """Times the mask, times the scale; nothing outside training."""
    dropped, _ = call.out
    return 0 if call.argument("train") is False else weighted(dropped, 2)
