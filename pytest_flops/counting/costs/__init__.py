"""The cost table of the meter: what one call of one PyTorch operator costs, in FLOPs.

The rules, from the general to the particular:

* A product costs 2 per multiply-add, as in `torch.utils.flop_counter`, whose registry is used for
  everything that is not listed here. A bias inside a product is 1 per output element, on a line of
  its own (`aten.addmm:bias`).
* A fused attention kernel costs what its mathematical form executes, on every device: see
  `attention.py`. Its softmax has a line of its own (`:softmax`).
* Pointwise arithmetic and transcendental functions cost 1 per output element, whatever they are
  (a `gelu` is 1). Fused multiply-adds count their parts: `POINTWISE_WEIGHTS`.
* A reduction costs 1 per input element.
* A fused operator (softmax, a normalisation, a fused optimizer, a recurrent cell) costs what its
  plain parts cost. `_foreach_` forms, in-place forms and `out=` forms cost what the plain
  form costs.
* Complex: add 2, multiply 6, divide 11; a complex product 8 per multiply-add.
* Views, copies, casts, indexing, comparisons, sorting, random fills and initialisation cost 0,
  and so does all work on integers and booleans. Accumulating by index is 1 per element accumulated.
* What no rule claims has no cost. It is never taken for 0: the meter reports it as uncounted.

A rule is a function `(args, kwargs, out) -> int | None` of one call. `None` means that these
arguments have no cost here, e.g. a sparse matrix times a sparse matrix.

Add an operator of your own with `register_cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from pytest_flops.counting.costs import attention, formulas, resampling

if TYPE_CHECKING:
    from pytest_flops.counting.costs.formulas import Args, Cost, CostEach, Kwargs

_CostT = TypeVar("_CostT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """How one operator is counted.

    Attributes:
        cost: FLOPs of one call; `None` for an operator that is free.
        side_cost: FLOPs of one call that are shown on a line of their own.
        side_line: The name of that line: `bias` or `softmax`.
        each: For operators over lists of tensors, FLOPs of every tensor of the first list.
    """

    cost: Cost | None
    side_cost: Cost | None = None
    side_line: str = ""
    each: CostEach | None = None


FREE = Rule(None)

# --- Elements ---------------------------------------------------------------------------------


def per_output(weight: int = 1, complex_weight: int | None = None) -> Rule:
    """`weight` FLOPs per element of the (first) output."""

    def cost(args: Args, _kwargs: Kwargs, out: Any) -> int | None:
        if not isinstance(out, Tensor):
            out = formulas.first_tensor(out, args)
        if out.dtype.is_floating_point and out.layout == torch.strided:
            flops: int = out.numel() * weight  # so are most, and this runs for every operator
            return flops
        return formulas.weighted(out, weight, complex_weight)

    return Rule(cost)


def per_input(weight: int = 1, complex_weight: int | None = None, position: int = 0) -> Rule:
    """`weight` FLOPs per element of the input at `position`."""

    def cost(args: Args, _kwargs: Kwargs, out: Any) -> int | None:
        tensor = formulas.first_tensor(args[position])
        if not formulas.is_exact(tensor) or not isinstance(out, Tensor) or formulas.is_exact(out):
            return formulas.weighted(tensor, weight, complex_weight)
        return tensor.numel() * weight  # integers, reduced as floating-point numbers

    return Rule(cost)


# --- Products: 2 per multiply-add; complex 8 (a multiply of 6 and an add of 2) ----------------


def product(position: int = 0) -> Rule:
    """The matrix product of the arguments at `position` and the next."""

    def cost(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
        return formulas.matrix_product(args[position], args[position + 1])

    return Rule(cost)


def product_with_bias() -> Rule:
    """`bias + a @ b`: the product, and 1 per output element for the bias."""
    return Rule(product(1).cost, formulas.bias, "bias")


_CONVOLUTION = Rule(formulas.convolution, formulas.convolution_bias, "bias")

PRODUCTS: dict[str, Rule] = {
    "mm": product(),
    "linear": Rule(formulas.linear, formulas.linear_bias, "bias"),
    "bmm": product(),
    "mv": product(),
    "dot": product(),
    "vdot": product(),
    "addmm": product_with_bias(),
    "addmv": product_with_bias(),
    "baddbmm": product_with_bias(),
    "addbmm": Rule(product(1).cost, formulas.sum_of_products_bias, "bias"),
    "addr": per_output(2, 8),
    "_addmm_activation": product_with_bias(),
    "_sparse_addmm": product_with_bias(),
    "_sparse_mm": product(),
    "_sparse_mm_reduce_impl": product(),
    "_sparse_mm_reduce_impl_backward": Rule(formulas.sparse_product_backward),
    "sparse_sampled_addmm": Rule(formulas.sampled_product, formulas.bias, "bias"),
    "_int_mm": Rule(formulas.quantised_product),
    "_grouped_mm": Rule(formulas.grouped_product),
    "_trilinear": Rule(formulas.trilinear),
    "convolution": _CONVOLUTION,
    "_convolution": _CONVOLUTION,
    "convolution_backward": Rule(
        formulas.convolution_backward, formulas.convolution_backward_bias, "bias"
    ),
}

# --- Pointwise: 1 per output element, and these exceptions -------------------------------------

POINTWISE_WEIGHTS: dict[str, int] = {
    "lerp": 3,  # a + weight * (b - a)
    "addcdiv": 3,  # a + value * b / c
    "native_dropout_backward": 2,  # gradient * mask * scale
}

COMPLEX_WEIGHTS: dict[str, int] = {
    "neg": 2,
    "mul": 6,
    "div": 11,
    "reciprocal": 11,
    "square": 6,
    "pow": 6,
    "lerp": 10,
    "addcdiv": 19,
    "abs": 4,  # two squares, their sum, its root
    "exp": 5,  # exp, sin, cos, and two multiplies
    "log": 6,  # the modulus and its log, the angle
    "sqrt": 8,  # the modulus, two sums halved by it, two roots
    "sgn": 6,  # the modulus, and both parts divided by it
    "sin": 6,  # sin, cos, sinh, cosh, and two multiplies
    "cos": 6,
    "sinh": 6,
    "cosh": 6,
    "tan": 9,  # sin, cos, sinh and cosh of the doubled parts, their sum, and two divides
    "tanh": 9,
    "exp2": 7,  # times log 2, exp
    "expm1": 6,
    "log2": 8,
    "log10": 8,
    "log1p": 7,
    "rsqrt": 19,  # sqrt, reciprocal
    "tanh_backward": 13,  # square, 1 minus it, times the gradient
    "sigmoid_backward": 13,
    "sigmoid": 19,  # neg, exp, add 1, reciprocal
    "silu": 25,
}


# These multiply by a scalar too, for 1 more (complex 6), unless it is 1.
SCALED_WEIGHTS: dict[str, tuple[int, int, Callable[[Args, Kwargs], Any]]] = {
    "add": (1, 2, formulas.alpha),
    "sub": (1, 2, formulas.alpha),
    "rsub": (1, 2, formulas.alpha),
    "addcmul": (2, 8, formulas.value),
}


def _scaled_pointwise(name: str) -> Rule:
    weight, complex_weight, scale = SCALED_WEIGHTS[name]

    def cost(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        more = scale(args, kwargs) != 1
        other = args[1]
        if isinstance(other, Tensor) and other.layout != torch.strided:
            out = other  # what is not stored is not added
        if out.dtype.is_floating_point and out.layout == torch.strided:  # as in per_output
            flops: int = out.numel() * (weight + more)
            return flops
        return formulas.weighted(out, weight + more, complex_weight + 6 * more)

    return Rule(cost)


# Pointwise arithmetic that PyTorch does not tag as such.
UNTAGGED_POINTWISE = frozenset(
    """
    _add_relu _masked_scale _prelu_kernel _prelu_kernel_backward elu_backward floor_divide glu
    glu_backward hardshrink_backward hardsigmoid_backward hardswish hardswish_backward
    hardtanh_backward leaky_relu_backward log_sigmoid_backward log_sigmoid_forward mish_backward
    rrelu_with_noise rrelu_with_noise_backward softplus_backward softshrink_backward
    _standard_gamma_grad _dirichlet_grad
    """.split()  # noqa: SIM905 - one name a line would bury the table
)

# Pointwise functions whose output is not of the input's kind.
SPECIAL_POINTWISE: dict[str, Rule] = {
    "values": Rule(formulas.values_of_sparse),
    "_values": Rule(formulas.values_of_sparse),
    "abs": per_input(1, COMPLEX_WEIGHTS["abs"]),
    "angle": per_input(1, 1),
    "linalg_cross": per_output(3, 14),  # two multiplies, subtract
    "polar": per_input(4),  # sin, cos, and two multiplies
    "frexp": FREE,
}

# --- Losses: per input element, as their plain parts -------------------------------------------

LOSSES: dict[str, Rule] = {
    "mse_loss": per_input(3),  # subtract, square, sum
    "mse_loss_backward": per_input(3, position=1),  # subtract, double, times gradient
    "smooth_l1_loss": per_input(5),  # subtract, absolute value, square, half, sum
    "smooth_l1_loss_backward": per_input(3, position=1),
    "huber_loss": per_input(5),
    "huber_loss_backward": per_input(3, position=1),
    "binary_cross_entropy": per_input(8),  # two logs, 1 - x, 1 - t, two products, their sum, sum
    "binary_cross_entropy_backward": per_input(5, position=1),
    # 1 - t, times x, log-sigmoid, subtract, sum; its gradient runs in plain operators
    "binary_cross_entropy_with_logits": per_input(5),
    "soft_margin_loss": per_input(5),
    "soft_margin_loss_backward": per_input(5, position=1),
    # margin - target + x, maximum, power, sum
    "multi_margin_loss": per_input(5),
    "multi_margin_loss_backward": per_input(4, position=1),
    "multilabel_margin_loss_forward": Rule(formulas.multilabel_margin),
    "multilabel_margin_loss_backward": Rule(formulas.multilabel_margin_backward),
    "_ctc_loss": Rule(formulas.ctc_loss),
    "_ctc_loss_backward": Rule(formulas.ctc_loss_backward),
    "nll_loss_forward": Rule(formulas.negative_log_likelihood),
    "nll_loss_backward": FREE,  # writes one constant per row
    "nll_loss2d_forward": Rule(formulas.negative_log_likelihood),
    "nll_loss2d_backward": FREE,
    "dist": per_input(2, 6),  # subtract, and the norm's reduction
}

# --- Reductions: 1 per input element (complex 2), and what is built from them -------------------

REDUCTIONS = frozenset(
    """
    _aminmax amax amin aminmax linalg_vector_norm max mean min nansum norm
    std std_mean sum trace var var_mean cumsum _sparse_sum _sparse_csr_sum median nanmedian
    linalg__powsum powsum native_norm
    """.split()  # noqa: SIM905 - one name a line would bury the table
)
_COMPLEX_REDUCTIONS = {"sum": 2, "mean": 2, "nansum": 2, "cumsum": 2, "trace": 2}
_COMPLEX_REDUCTIONS |= {"linalg_vector_norm": 4, "norm": 4}
_COMPLEX_REDUCTIONS |= {"var": 2, "std": 2, "var_mean": 2, "std_mean": 2}


def _batch_norm(training: Callable[[Sequence[Any]], bool]) -> Rule:
    """In evaluation the statistics are given: subtract, times the inverse deviation."""

    def cost(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
        parts = formulas.NORMALISE if training(args) else 2
        return formulas.normalised(args, parts, args[1], args[2])

    return Rule(cost)


NORMALISATIONS: dict[str, Rule] = {
    "_softmax": per_input(formulas.SOFTMAX),
    "softmax": per_output(formulas.SOFTMAX),
    "log_softmax": per_output(5),
    "_safe_softmax": per_input(formulas.SOFTMAX),
    "_softmax_backward_data": per_input(formulas.SOFTMAX_BACKWARD),
    "_log_softmax": per_input(5),  # maximum, subtract, exponential, sum, subtract
    "_log_softmax_backward_data": per_input(4),  # sum, exponential, product, subtract
    "native_layer_norm": Rule(formulas.layer_norm),
    "native_layer_norm_backward": Rule(formulas.layer_norm_backward),
    "native_group_norm": Rule(formulas.group_norm),
    "native_group_norm_backward": Rule(formulas.group_norm_backward),
    "native_batch_norm": _batch_norm(lambda args: bool(args[5])),
    "native_batch_norm_backward": Rule(formulas.batch_norm_backward),
    "batch_norm_backward": Rule(formulas.batch_norm_backward),
    "cudnn_batch_norm_backward": Rule(formulas.cudnn_batch_norm_backward),
    "cudnn_batch_norm": _batch_norm(lambda args: bool(args[5])),
    "_native_batch_norm_legit": _batch_norm(lambda args: args[3] is True or args[5] is True),
    "_native_batch_norm_legit_no_training": _batch_norm(lambda _args: False),
    "_batch_norm_with_update": _batch_norm(lambda _args: True),
    "_batch_norm_no_update": _batch_norm(lambda _args: False),
    "_weight_norm_interface": Rule(formulas.weight_norm),
    "_weight_norm_interface_backward": Rule(formulas.weight_norm_backward),
    "renorm": Rule(formulas.renormalise),
    "embedding_renorm": Rule(formulas.embedding_renormalise),
    "_fused_rms_norm": Rule(formulas.rms_norm),
    "_fused_rms_norm_backward": Rule(formulas.rms_norm_backward),
    "native_dropout": Rule(formulas.dropout),
}

# --- Pooling and resampling --------------------------------------------------------------------

POOLING: dict[str, Rule] = {
    "avg_pool1d": Rule(formulas.pool),
    "avg_pool2d": Rule(formulas.pool),
    "avg_pool3d": Rule(formulas.pool),
    "max_pool2d_with_indices": Rule(formulas.pool),
    "max_pool3d_with_indices": Rule(formulas.pool),
    "fractional_max_pool2d": Rule(formulas.pool),
    "fractional_max_pool3d": Rule(formulas.pool),
    "fractional_max_pool2d_backward": per_input(1),
    "fractional_max_pool3d_backward": per_input(1),
    "avg_pool2d_backward": Rule(formulas.average_pool_backward),
    "avg_pool3d_backward": Rule(formulas.average_pool_backward),
    "max_pool2d_with_indices_backward": per_input(1),
    "max_pool3d_with_indices_backward": per_input(1),
    "adaptive_avg_pool1d": per_input(1),
    "_adaptive_avg_pool2d": per_input(1),
    "_adaptive_avg_pool3d": per_input(1),
    "_adaptive_avg_pool2d_backward": per_input(1, position=1),
    "_adaptive_avg_pool3d_backward": per_input(1, position=1),
    "adaptive_max_pool2d": per_input(1),
    "adaptive_max_pool3d": per_input(1),
    "adaptive_max_pool2d_backward": per_input(1),
    "adaptive_max_pool3d_backward": per_input(1),
    # one, three or seven interpolations of 3 FLOPs; back again the same
    "upsample_linear1d": per_output(3),
    "upsample_bilinear2d": per_output(9),
    "upsample_trilinear3d": per_output(21),
    "upsample_linear1d_backward": per_input(3),
    "upsample_bilinear2d_backward": per_input(9),
    "upsample_trilinear3d_backward": per_input(21),
    # five interpolations of four points each
    "upsample_bicubic2d": per_output(35),
    "upsample_bicubic2d_backward": per_input(35),
    "_upsample_bilinear2d_aa": Rule(resampling.antialiased(2)),
    "_upsample_bicubic2d_aa": Rule(resampling.antialiased(4)),
    "_upsample_bilinear2d_aa_backward": Rule(resampling.antialiased_backward(2)),
    "_upsample_bicubic2d_aa_backward": Rule(resampling.antialiased_backward(4)),
    "grid_sampler_2d": Rule(resampling.grid_sample),
    "grid_sampler_3d": Rule(resampling.grid_sample),
    "cudnn_grid_sampler": Rule(resampling.grid_sample),
    "grid_sampler_2d_backward": Rule(resampling.grid_sample_backward),
    "grid_sampler_3d_backward": Rule(resampling.grid_sample_backward),
    "cudnn_grid_sampler_backward": Rule(resampling.cudnn_grid_sample_backward),
    "affine_grid_generator": Rule(resampling.affine_grid),
}

# --- Accumulation by index: 1 per element accumulated ------------------------------------------

ACCUMULATION: dict[str, Rule] = {
    "embedding_dense_backward": per_input(1),
    "_embedding_bag": Rule(formulas.embedding_bag),
    "_embedding_bag_forward_only": Rule(formulas.embedding_bag),
    "_embedding_bag_backward": Rule(formulas.embedding_bag_backward),
    "_embedding_bag_dense_backward": per_input(1),
    "_embedding_bag_per_sample_weights_backward": Rule(formulas.embedding_bag_weights_backward),
    "index_add": per_input(1, 2, position=3),
    "scatter_add": per_input(1, 2, position=3),
    "scatter_reduce": per_input(1, 2, position=3),
    "index_reduce": per_input(1, 2, position=3),
    "segment_reduce": per_input(1),
    "_segment_reduce_backward": per_input(1, position=2),
    "_unsafe_masked_index_put_accumulate": per_input(1, 2, position=3),
    "scatter": Rule(formulas.scatter),
    "index_put": Rule(formulas.index_put),
    "_index_put_impl": Rule(formulas.index_put),
    "_unsafe_index_put": Rule(formulas.index_put),
    "put": Rule(formulas.index_put),
    "bincount": Rule(formulas.weighted_histogram(position=1)),
    "histogram": Rule(formulas.weighted_histogram()),
    "_histogramdd_from_bin_cts": Rule(formulas.weighted_histogram()),
    "_histogramdd_from_bin_tensors": Rule(formulas.weighted_histogram()),
    "unfold_backward": per_input(1, 2),
    "col2im": per_input(1, 2),
    "_coalesce": FREE,
}

# --- Quantisation ------------------------------------------------------------------------------

QUANTISATION: dict[str, Rule] = {
    # divide, round, add the zero point, clamp; subtract it, multiply
    "quantize_per_tensor": per_input(4),
    "quantize_per_channel": per_input(4),
    "dequantize": per_output(2),
    "fake_quantize_per_tensor_affine_cachemask": per_input(6),
    "fake_quantize_per_channel_affine_cachemask": per_input(6),
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": per_input(6),
}

# --- Distances ---------------------------------------------------------------------------------

DISTANCES: dict[str, Rule] = {
    "_cdist_forward": Rule(formulas.cdist),
    "_euclidean_dist": Rule(formulas.cdist),
    "_cdist_backward": Rule(formulas.cdist_backward),
    "_pdist_forward": Rule(formulas.cdist),
    "_pdist_backward": Rule(formulas.cdist_backward),
}

# --- Fourier transforms: 5 N log2 N, half of it where one side is real -------------------------
# The conventional count of radix-2 (Cooley and Tukey 1965), as FFTW's benchmark uses it.

FOURIER: dict[str, Rule] = {
    "_fft_c2c": Rule(formulas.fft_complex),
    "_fft_r2c": Rule(formulas.fft_from_real),
    "_fft_c2r": Rule(formulas.fft_to_real),
}

# --- Linear algebra: the leading terms of Golub and Van Loan, Matrix Computations, 4th edition --
# m >= n are the sizes of one matrix, k the right-hand sides. Complex arithmetic costs 4 times that.


def _factorisation(flops: Callable[[int, int], int]) -> Rule:
    """A cost of the larger and the smaller side of every matrix in the first argument."""

    def cost(args: Args, _kwargs: Kwargs, _out: Any) -> int:
        matrix = args[0]
        m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
        return int(formulas.matrices(matrix) * flops(m, n) * formulas.arithmetic(matrix))

    return Rule(cost)


def _substitution(passes: int, matrix: int) -> Rule:
    """`passes` triangular solves of n^2 per column of the solution, which knows the broadcast."""

    def cost(args: Args, _kwargs: Kwargs, out: Any) -> int:
        n, arithmetic = args[matrix].shape[-1], formulas.arithmetic(args[matrix])
        return int(passes * n * formulas.first_tensor(out).numel() * arithmetic)

    return Rule(cost)


_LU = _factorisation(lambda m, n: m * n**2 - n**3 // 3)

LINEAR_ALGEBRA: dict[str, Rule] = {
    "_linalg_solve_ex": Rule(formulas.linear_solve),
    "linalg_lu_factor_ex": _LU,
    "linalg_lu": _LU,
    "_linalg_det": _LU,
    "_linalg_slogdet": _LU,
    "linalg_lu_solve": _substitution(2, matrix=0),
    "linalg_ldl_factor_ex": _factorisation(lambda _m, n: n**3 // 3),
    "linalg_ldl_solve": _substitution(2, matrix=0),
    "linalg_solve_triangular": _substitution(1, matrix=0),
    "triangular_solve": _substitution(1, matrix=1),
    "linalg_inv_ex": _factorisation(lambda _m, n: 2 * n**3),
    "linalg_cholesky_ex": _factorisation(lambda _m, n: n**3 // 3),
    "cholesky": _factorisation(lambda _m, n: n**3 // 3),
    "_cholesky_solve_helper": _substitution(2, matrix=1),
    "cholesky_solve": _substitution(2, matrix=1),
    "cholesky_inverse": _factorisation(lambda _m, n: 2 * n**3 // 3),
    "_linalg_svd": Rule(formulas.svd),
    "_linalg_eigh": Rule(formulas.eigh),
    "linalg_eig": _factorisation(lambda _m, n: 25 * n**3),
    "_linalg_eigvals": _factorisation(lambda _m, n: 10 * n**3),
    "linalg_eigvals": _factorisation(lambda _m, n: 10 * n**3),
    "linalg_qr": Rule(formulas.qr),
    "geqrf": _factorisation(lambda m, n: 2 * m * n**2 - 2 * n**3 // 3),
    "linalg_householder_product": _factorisation(lambda m, n: 2 * m * n**2 - 2 * n**3 // 3),
    "ormqr": Rule(formulas.reflect),
    "linalg_lstsq": Rule(formulas.least_squares),
    # thin SVD, scale, and one product
    "linalg_pinv": _factorisation(lambda m, n: 14 * m * n**2 + 8 * n**3 + n**2 + 2 * m * n**2),
}

# --- Recurrent cells and the fused Transformer layer -------------------------------------------


def _fused_cell(kind: str, weights: Mapping[str, int]) -> Rule:
    """CUDA's fused gates, after the products: biases and pointwise parts per hidden unit."""

    def cost(args: Args, _kwargs: Kwargs, out: Any) -> int:
        biased = len(args) > 3 and args[3] is not None
        bias = 2 * formulas.CELL_GATES[kind] * (biased and weights is formulas.CELL_POINTWISE)
        return int(out[0].numel()) * (weights[kind] + bias)

    return Rule(cost)


RECURRENT_AND_TRANSFORMER: dict[str, Rule] = {
    "mkldnn_rnn_layer": Rule(formulas.mkldnn_rnn),
    "mkldnn_rnn_layer_backward": Rule(formulas.mkldnn_rnn_backward),
    "_cudnn_rnn": Rule(formulas.cudnn_rnn),
    "_cudnn_rnn_backward": Rule(formulas.cudnn_rnn_backward),
    "_thnn_fused_lstm_cell": _fused_cell("lstm", formulas.CELL_POINTWISE),
    "_thnn_fused_gru_cell": _fused_cell("gru", formulas.CELL_POINTWISE),
    "_thnn_fused_lstm_cell_backward_impl": _fused_cell("lstm", formulas.CELL_BACKWARD),
    "_thnn_fused_gru_cell_backward": _fused_cell("gru", formulas.CELL_BACKWARD),
    "_native_multi_head_attention": Rule(formulas.native_attention),
    "_transformer_encoder_layer_fwd": Rule(formulas.transformer_layer),
}

# --- Fused optimizers: what their for-loop form executes, given the same arguments --------------


def _fused(weight: Callable[[Mapping[str, Any]], int]) -> Rule:
    """`weight` FLOPs per element of every parameter."""

    def each(args: Args, kwargs: Kwargs, _out: Any) -> list[int | None]:
        per_element = weight(kwargs) + (kwargs.get("grad_scale") is not None)
        return [formulas.weighted(parameter, per_element, None) for parameter in args[0]]

    return _each_rule(each)


def _each_rule(each: CostEach) -> Rule:
    def cost(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        costs = each(args, kwargs, out)
        return None if None in costs else sum(cost or 0 for cost in costs)

    return Rule(cost, each=each)


FUSED_OPTIMIZERS: dict[str, Rule] = {
    "_fused_adam": _fused(formulas.adam_weight),
    "_fused_adamw": _fused(formulas.adamw_weight),
    "_fused_sgd": _fused(formulas.sgd_weight),
    "_fused_adagrad": _fused(formulas.adagrad_weight),
    # automatic mixed precision: every gradient is scaled, and the scale itself updated
    "_amp_foreach_non_finite_check_and_unscale": _each_rule(
        lambda args, _kwargs, _out: [formulas.weighted(grad, 1, None) for grad in args[0]]
    ),
    "_amp_update_scale": per_input(1),
}

# --- Free: no floating-point arithmetic --------------------------------------------------------

FREE_OPERATORS = frozenset(
    """
    broadcast_in_dim convert_element_type device_put iota copy_strided copy_to collapse
    __and__ __or__ __xor__ __ixor__ _assert_async _assert_scalar _assert_tensor_metadata _chunk_cat
    _coalesced _conj_copy _conj_physical conj_physical hash_tensor _histogramdd_bin_edges
    _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
    _copy_from _copy_from_and_resize _cudnn_init_dropout_state _cudnn_rnn_flatten_weight _dimI _dimV
    _efficientzerotensor _functional_assert_async
    _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _fused_sdp_choice _fw_primal_copy
    _has_same_storage_numel _indices_copy _is_all_true _is_any_true _lazy_clone
    _linalg_check_errors _local_scalar_dense _make_dual_copy _mkldnn_reshape _mkldnn_transpose
    _neg_view_copy _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned
    _nested_from_padded _nested_from_padded_and_nested_example _nested_from_padded_tensor
    _nested_get_jagged_dummy _nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen
    _nested_get_offsets _nested_get_ragged_idx _nested_get_values_copy
    _nested_compute_contiguous_strides_offsets _nested_select_backward _nested_sum_backward
    _nested_view_from_buffer_copy _nested_view_from_jagged_copy _jagged_to_padded_dense_forward
    _padded_dense_to_jagged_forward _nested_tensor_size _nested_tensor_storage_offsets
    _nested_tensor_strides
    _new_zeros_with_same_feature_meta _nnz _pack_padded_sequence _pin_memory _print
    _reshape_alias_copy _reshape_copy _resize_output _sample_dirichlet _sparse_broadcast_to_copy
    _sparse_compressed_tensor_with_dims _sparse_coo_tensor_with_dims
    _sparse_coo_tensor_with_dims_and_tensors _sparse_mask_projection _spdiags _stack
    _standard_gamma _to_copy _to_dense _to_sparse _to_sparse_bsc _to_sparse_bsr _to_sparse_csc
    _to_sparse_csr _unique _unique2 _unsafe_index _unsafe_masked_index _unsafe_view
    _validate_compressed_sparse_indices _values_copy alias_copy all allclose any arange argmax
    argmin as_strided as_strided_copy as_strided_scatter bartlett_window bernoulli binomial
    bitwise_and bitwise_not blackman_window hamming_window hann_window kaiser_window
    _nested_tensor_from_tensor_list
    bitwise_or bitwise_xor block_diag bucketize cat cauchy channel_shuffle clone complex
    constant_pad_nd copy count_nonzero cummax _cummax_helper cummin _cummin_helper
    dense_dim detach detach_copy diag_embed diagonal_backward diagonal_copy diagonal_scatter
    embedding empty empty_like empty_permuted empty_strided eq equal exponential expand_copy eye
    fft_fftfreq fft_rfftfreq fill flip from_file full full_like gather ge geometric gt histc im2col
    index index_copy index_fill index_select indices_copy is_coalesced is_pinned is_same_size
    is_set_to isin isinf isnan isneginf isposinf kthvalue le lift lift_fresh
    lift_fresh_copy linspace log_normal logical_and logical_not logical_or logical_xor logspace lt
    lu_unpack masked_fill masked_scatter masked_scatter_backward masked_select max_unpool2d
    max_unpool3d mode multinomial narrow_copy ne new_empty new_empty_strided new_full
    new_ones new_zeros nonzero nonzero_static normal normal_functional ones ones_like permute_copy
    pixel_shuffle pixel_unshuffle poisson rand rand_like randint randint_like randn randn_like
    random randperm range record_stream reflection_pad1d reflection_pad2d reflection_pad3d repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize resize_as roll
    rot90 scalar_tensor searchsorted select_backward select_copy select_scatter set signbit
    slice_backward slice_copy slice_scatter sort sparse_compressed_tensor sparse_coo_tensor
    sparse_dim sparse_mask sparse_resize sparse_resize_and_clear split_copy split_with_sizes_copy
    squeeze squeeze_copy stack t t_copy take to_padded_tensor topk transpose transpose_copy tril
    tril_indices triu triu_indices unbind_copy unfold_copy uniform unique_consecutive unique_dim
    unique_dim_consecutive unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_copy
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d values_copy view_as_complex_copy
    view_as_real_copy view_copy where zero zeros zeros_like
    """.split()  # noqa: SIM905 - one name a line would bury the table
)

# What a tensor subclass is asked about itself. PyTorch 2.11 cannot tell whether these decompose.
FREE_OPERATORS |= frozenset(
    """
    dim is_contiguous is_non_overlapping_and_dense is_strides_like_format layout numel size
    storage_offset stride sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride
    """.split()  # noqa: SIM905 - as above
)

# Queries of a tensor, communication between processes, marks in a profile.
FREE_NAMESPACES = frozenset({"prim", "c10d", "_c10d_functional", "profiler"})

# Gradients of copies: what is copied twice is accumulated, 1 per element of the gradient.
ACCUMULATION |= {
    f"{name}_backward": per_input(1, 2)
    for name in (
        *(f"{pad}_pad{d}d" for pad in ("reflection", "replication") for d in (1, 2, 3)),
        *(f"upsample_nearest{d}d" for d in (1, 2, 3)),
        *(f"_upsample_nearest_exact{d}d" for d in (1, 2, 3)),
    )
}

TABLE: dict[str, Rule] = {
    **PRODUCTS,
    **{
        name: per_output(weight, COMPLEX_WEIGHTS.get(name))
        for name, weight in POINTWISE_WEIGHTS.items()
    },
    **dict.fromkeys(UNTAGGED_POINTWISE, per_output(1)),
    **{name: per_input(1, _COMPLEX_REDUCTIONS.get(name)) for name in REDUCTIONS},
    **dict.fromkeys(FREE_OPERATORS, FREE),
    "prod": per_input(1, 6),
    "cumprod": per_input(1, 6),
    "logcumsumexp": per_input(3),
    "logsumexp": per_input(4),  # maximum, subtract, exponential, sum
    **{name: _scaled_pointwise(name) for name in SCALED_WEIGHTS},
    **SPECIAL_POINTWISE,
    **LOSSES,
    **NORMALISATIONS,
    **POOLING,
    **ACCUMULATION,
    **QUANTISATION,
    **DISTANCES,
    **FOURIER,
    **LINEAR_ALGEBRA,
    **RECURRENT_AND_TRANSFORMER,
    **FUSED_OPTIMIZERS,
}

# --- Finding the rule of an operator -----------------------------------------------------------

_registered: dict[str, Rule] = {}
_found: dict[torch._ops.OpOverload, Rule] = {}


def register_cost(name: str) -> Callable[[_CostT], _CostT]:
    """Give a custom operator a cost.

    Args:
        name: The operator as `"namespace::operator"`, e.g. `"my_lib::my_op"`.

    Returns:
        A decorator of a function `(args, kwargs, out) -> int`: the FLOPs of one call, from the
        call's positional arguments, keyword arguments and result.

    Raises:
        ValueError: The name is not of the form `namespace::operator`.
        TypeError: What is decorated cannot be called.
    """

    def decorate(cost: _CostT) -> _CostT:
        register_costs({name: cost})
        return cost

    return decorate


def register_costs(costs: Mapping[str, Cost]) -> None:
    """Give several operators their costs; see `register_cost`."""
    for name, cost in costs.items():
        namespace, separator, operator = name.partition("::")
        if not (namespace and separator and operator.isidentifier()):
            raise ValueError(
                f"a cost is registered for 'namespace::operator', such as 'my_lib::my_op', "
                f"not for {name!r}"
            )
        if not callable(cost):
            raise TypeError(f"the cost of {name} must be a function (args, kwargs, out) -> int")
        _registered[name] = Rule(_checked(name, cost))
        _found.clear()


def _checked(name: str, cost: Cost) -> Cost:
    """A cost from outside, which must return what ours return."""

    def checked(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        flops = cost(args, kwargs, out)
        if flops is None or (type(flops) is int and flops >= 0):
            return flops
        raise TypeError(f"the cost of {name} must be a whole number of FLOPs, not {flops!r}")

    return checked


def rule_of(operator: torch._ops.OpOverload) -> Rule | None:
    """The rule of an operator overload, or None when nothing claims it."""
    if operator not in _found:
        rule = _find_rule(operator)
        if rule is None:
            return None
        _found[operator] = rule
    return _found[operator]


def _find_rule(operator: torch._ops.OpOverload) -> Rule | None:
    packet = operator._overloadpacket  # noqa: SLF001 - the overload's only way to its name
    name = packet.__name__
    registered = _registered.get(f"{operator.namespace}::{name}")
    if registered is not None:
        return registered
    if operator.namespace in ("aten", "prims"):
        rule = _aten_rule(operator, _plain(name))
        if operator.namespace == "prims" and rule is not None:
            rule = _unless_of_shapes(rule)
        # Whole, it would cost other than by its parts, as which it runs with autograd.
        return None if rule is not FREE and is_composite(operator) else rule
    if operator.namespace in FREE_NAMESPACES:
        return FREE
    return FREE if operator.is_view else _registry_rule(packet)


def _unless_of_shapes(rule: Rule) -> Rule:
    """PyTorch computes the shapes of forward-mode gradients by `prims` on the meta device."""
    cost = rule.cost
    if cost is None:
        return rule

    def cost_of_values(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        result = formulas.first_tensor(out, args)
        on_meta = result.is_meta and not isinstance(result, FakeTensor)
        in_forward_mode = forward_ad._current_level >= 0  # noqa: SLF001 - as unpack_dual asks
        return 0 if on_meta and in_forward_mode else cost(args, kwargs, out)

    return Rule(cost_of_values)


def is_composite(operator: torch._ops.OpOverload) -> bool:
    """Whether PyTorch runs an operator as other operators on every device."""
    name = operator.name()  # type: ignore[no-untyped-call]
    has_kernel = partial(torch._C._dispatch_has_kernel_for_dispatch_key, name)  # noqa: SLF001
    return has_kernel("CompositeImplicitAutograd") and not any(map(has_kernel, ("CPU", "CUDA")))


def _plain(name: str) -> str:
    """The name without the underscore of an in-place form."""
    return name if name.startswith("__") else name.rstrip("_")


def _aten_rule(operator: torch._ops.OpOverload, name: str) -> Rule | None:
    packet = getattr(torch.ops.aten, name, operator._overloadpacket)  # noqa: SLF001
    listed = TABLE.get(name)
    if name in attention.KERNELS:
        return Rule(attention.products(operator), attention.softmax(operator), "softmax")
    if listed is not None:
        return listed
    if name.startswith("_foreach_"):
        return _foreach_rule(name.removeprefix("_foreach_"))
    if operator.is_view:
        return FREE
    return _pointwise_rule(name, packet) or _registry_rule(packet)


def _pointwise_rule(name: str, packet: Any) -> Rule | None:
    """The rule of what PyTorch tags as pointwise."""
    if torch.Tag.pointwise not in _tags(packet):
        return None
    return per_output(1, COMPLEX_WEIGHTS.get(name))


def _tags(packet: Any) -> set[torch.Tag]:
    return {tag for overload in packet.overloads() for tag in getattr(packet, overload).tags}


def _registry_rule(packet: Any) -> Rule | None:
    """PyTorch's own formula, if any; complex operands cost 8 per multiply-add where it says 2."""
    from torch.utils.flop_counter import flop_registry  # imports Triton, which is 80 MB

    if packet not in flop_registry:
        return None
    formula = flop_registry[packet]

    def cost(args: Args, kwargs: Kwargs, out: Any) -> int:
        flops = int(formula(*args, **kwargs, out_val=out))
        is_complex = any(isinstance(arg, Tensor) and arg.dtype.is_complex for arg in args)
        return flops * (4 if is_complex else 1)

    return Rule(cost)


def _foreach_rule(name: str) -> Rule | None:
    """A list form costs what the plain form costs on each of its tensors."""
    packet = getattr(torch.ops.aten, name, None)
    plain = TABLE.get(name)
    if plain is None and packet is not None:
        plain = _pointwise_rule(name, packet)
    if plain is None:
        return None
    cost_of_one = plain.cost

    def each(args: Args, kwargs: Kwargs, out: Any) -> list[int | None]:
        if cost_of_one is None:
            return [0] * len(args[0])
        return [cost_of_one(*call) for call in _plain_calls(args, kwargs, out)]

    return _each_rule(each)


def _plain_calls(args: Args, kwargs: Kwargs, out: Any) -> Iterator[tuple[Args, Kwargs, Any]]:
    """The calls of a plain form that one call of a list form stands for."""
    if len(args) > 3 and isinstance(args[3], Tensor):
        args = (*args[:3], args[3].tolist())  # scalars, one for each

    def by_position(given: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        return zip(
            *(each if isinstance(each, list | tuple) else repeat(each) for each in given),
            strict=False,
        )

    results = out if isinstance(out, list | tuple) else args[0]  # in place
    named = by_position(kwargs.values()) if kwargs else repeat(())
    for result, of_one, named_of_one in zip(results, by_position(args), named, strict=False):
        yield of_one, dict(zip(kwargs, named_of_one, strict=True)), result
