"""The cost table of the meter: what one call of one PyTorch operator costs, in FLOPs.

The rules, from the general to the particular:

* A product costs 2 per multiply-add, as in `torch.utils.flop_counter`, whose registry is used for
  everything that is not listed here. A bias inside a product is 1 per output element, on a line of
  its own (`aten.addmm:bias`); so is the softmax inside a fused attention kernel.
* Pointwise arithmetic and transcendental functions cost 1 per output element, whatever they are
  (a `gelu` is 1). Fused multiply-adds count their parts: `POINTWISE_WEIGHTS`.
* A reduction costs 1 per input element.
* A fused operator (softmax, a normalisation, a fused optimizer, a recurrent cell) costs what its
  plain parts cost. `_foreach_` forms, in-place forms and `out=` forms cost what the plain form costs.
* Complex: add 2, multiply 6, divide 11; a complex product 8 per multiply-add.
* Views, copies, casts, indexing, comparisons, sorting, random fills and initialisation cost 0, and
  so does all work on integers and booleans. Accumulating by index is 1 per element accumulated.
* What no rule claims has no cost. It is never taken for 0: the meter reports it as uncounted.

A rule is a function `(args, kwargs, out) -> int | None` of one call. `None` means that these
arguments have no cost here, e.g. a sparse matrix times a sparse matrix.

Add an operator of your own with `register_cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2, prod
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

Cost: TypeAlias = Callable[[Sequence[Any], Mapping[str, Any], Any], "int | None"]
CostEach: TypeAlias = Callable[[Sequence[Any], Mapping[str, Any]], "list[int | None]"]
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


def _is_real(tensor: Tensor) -> bool:
    return tensor.dtype.is_floating_point


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.dtype.is_floating_point or tensor.dtype.is_complex


def _first_tensor(*candidates: Any) -> Tensor:
    for candidate in candidates:
        if isinstance(candidate, Tensor):
            return candidate
        if isinstance(candidate, tuple | list) and candidate:
            return _first_tensor(*candidate)
    raise TypeError("an operator without a tensor has no elements to count")


def _weighted(tensor: Tensor, weight: int, complex_weight: int | None) -> int | None:
    if tensor.dtype.is_floating_point:
        return tensor.numel() * weight
    if tensor.dtype.is_complex:
        return None if complex_weight is None else tensor.numel() * complex_weight
    return 0


def per_output(weight: int = 1, complex_weight: int | None = None) -> Rule:
    """`weight` FLOPs per element of the (first) output."""

    def cost(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int | None:
        result = out if isinstance(out, Tensor) else _first_tensor(out, args)
        return _weighted(result, weight, complex_weight)

    return Rule(cost)


def per_input(weight: int = 1, complex_weight: int | None = None, position: int = 0) -> Rule:
    """`weight` FLOPs per element of the input at `position`."""

    def cost(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
        return _weighted(_first_tensor(args[position]), weight, complex_weight)

    return Rule(cost)


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


# --- Products: 2 per multiply-add; complex 8 (a multiply of 6 and an add of 2) ----------------


def _multiply_add(tensor: Tensor) -> int:
    if tensor.dtype.is_floating_point:
        return 2
    return 8 if tensor.dtype.is_complex else 0


def _is_sparse(tensor: Tensor) -> bool:
    return tensor.layout != torch.strided


def _matrix_product(a: Tensor, b: Tensor) -> int | None:
    """`(..., m, k) @ (..., k, n)`, `(m, k) @ (k,)` or `(k,) @ (k,)`; one may be sparse."""
    columns = b.shape[-1] if b.dim() > 1 else 1
    if not _is_sparse(a) and not _is_sparse(b):
        return _multiply_add(a) * a.numel() * columns
    if _is_sparse(a) and _is_sparse(b):
        return None
    if _is_sparse(a):
        return _multiply_add(a) * _nonzeros(a) * columns
    return _multiply_add(b) * _nonzeros(b) * prod(a.shape[:-1])


def _nonzeros(sparse: Tensor) -> int:
    """Stored values; a block of a block-sparse matrix stores every element of the block."""
    if sparse.layout in (torch.sparse_bsr, torch.sparse_bsc):
        return sparse.values().numel()
    return sparse._nnz()  # noqa: SLF001 - the public way needs a coalesced tensor


def product(position: int = 0) -> Rule:
    """The matrix product of the arguments at `position` and the next."""

    def cost(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
        return _matrix_product(args[position], args[position + 1])

    return Rule(cost)


def product_with_bias() -> Rule:
    """`bias + a @ b`: the product, and 1 per output element for the bias."""
    return Rule(product(1).cost, per_output(1, 2).cost, "bias")


def _quantised_product(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """An integer product that stands for a floating-point one: `(m, k) @ (k, n)`, 2 each."""
    a, b = args[0], args[1]
    return 2 * a.numel() * b.shape[-1]


def _grouped_product(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int:
    """`_grouped_mm(a, b, offs)`: every row of a group times the matrix of its group.

    2-D times 3-D groups the rows, 3-D times 2-D the columns, 2-D times 2-D the inner dimension:
    in each the groups split one dimension, so the multiply-adds are those of one product.
    """
    a, b = args[0], args[1]
    if a.dim() == 3 and b.dim() == 3:
        return _multiply_add(a) * a.numel() * int(b.shape[-1])
    if a.dim() == 3:
        return _multiply_add(a) * int(a.shape[1] * a.shape[2] * b.shape[-1])
    return _multiply_add(a) * a.numel() * int(b.shape[-1])


def _sum_of_products_bias(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    """`addbmm`: `self + sum_b a[b] @ b[b]` adds one matrix per batch entry."""
    return int(args[1].shape[0]) * (per_output(1, 2).cost(args, {}, out) or 0)  # type: ignore[misc]


def _trilinear(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    """`sum_d i1 * i2 * i3` (`nn.Bilinear`): first i1 with i2, then the result with i3.

    Sizes are read after broadcasting; dimensions that i3 does not have are summed by the first
    product, the other summed dimensions by the second.
    """
    expanded = args[3:6]
    summed = set(args[6])
    dims = out.dim() + len(summed)
    sizes = [_unsqueezed(tensor, where, dims) for tensor, where in zip(args[:3], expanded)]
    first_pair = [max(a, b) for a, b in zip(sizes[0], sizes[1])]
    first_sums = summed & set(args[5])
    between = [1 if d in first_sums else size for d, size in enumerate(first_pair)]
    second_pair = [max(a, b) for a, b in zip(between, sizes[2])]
    multiply_add = _multiply_add(args[0])
    multiply = {2: 1, 8: 6}.get(multiply_add, 0)
    first = prod(first_pair) * (multiply_add if first_sums else multiply)
    second = prod(second_pair) * (multiply_add if summed - first_sums else multiply)
    return first + second


def _unsqueezed(tensor: Tensor, positions: Sequence[int], dims: int) -> list[int]:
    sizes = iter(tensor.shape)
    return [1 if d in positions else next(sizes) for d in range(dims)]


def _convolution(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    """2 per weight per position: output positions, or input positions when transposed.

    The weight holds `c_in / groups` channels, so groups need no term of their own.
    """
    x, weight, transposed = args[0], args[1], args[6]
    positions = prod((x if transposed else out).shape[2:])
    return _multiply_add(x) * int(x.shape[0]) * positions * weight.numel()


def _convolution_bias(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    return 0 if args[2] is None else _weighted(out, 1, 2) or 0


def _convolution_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """The gradients of input and of weight cost a forward each."""
    grad_out, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    positions = prod((x if transposed else grad_out).shape[2:])
    forward = _multiply_add(x) * int(x.shape[0]) * positions * weight.numel()
    return forward * (wanted[0] + wanted[1])


def _convolution_backward_bias(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    return (_weighted(args[0], 1, 2) or 0) if args[10][2] else 0


_CONVOLUTION = Rule(_convolution, _convolution_bias, "bias")

PRODUCTS: dict[str, Rule] = {
    "mm": product(),
    "bmm": product(),
    "mv": product(),
    "dot": product(),
    "vdot": product(),
    "addmm": product_with_bias(),
    "addmv": product_with_bias(),
    "baddbmm": product_with_bias(),
    "addbmm": Rule(product(1).cost, _sum_of_products_bias, "bias"),
    "addr": per_output(2, 8),
    "_addmm_activation": product_with_bias(),
    "_sparse_addmm": product_with_bias(),
    "_sparse_mm": product(),
    "_int_mm": Rule(_quantised_product),
    "_grouped_mm": Rule(_grouped_product),
    "_trilinear": Rule(_trilinear),
    "convolution": _CONVOLUTION,
    "_convolution": _CONVOLUTION,
    "convolution_backward": Rule(_convolution_backward, _convolution_backward_bias, "bias"),
}

# --- Attention: the two products, and the softmax between them on its own line -----------------
# Costs are those of the mathematical form, which is what the meta device executes. Kernels for
# CUDA follow PyTorch's registry, whose backward includes their recomputation of the scores.


def _scores(query: Tensor, key: Tensor) -> int:
    batch, heads, length = query.shape[:3]
    return int(batch * heads * length * key.shape[2])


def _attention_products(query: Tensor, key: Tensor, value: Tensor) -> int:
    return 2 * _scores(query, key) * int(query.shape[3] + value.shape[3])


def _attention_cpu(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    return _attention_products(*args[:3])


def _attention_cpu_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """Each product has two gradients."""
    return 2 * _attention_products(*args[1:4])


def _scaling(query: Tensor, key: Tensor) -> int:
    """The square root of the scale is multiplied into the query and into the key."""
    return query.numel() + query.numel() // query.shape[2] * key.shape[2]


def _attention_softmax(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int:
    query, key = args[0], args[1]
    causal = _argument(args, kwargs, 4, "is_causal")
    masked = kwargs.get("attn_mask") is not None or causal
    return _scores(query, key) * (SOFTMAX + bool(masked)) + _scaling(query, key)


def _attention_softmax_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    query, key = args[1], args[2]
    return _scores(query, key) * SOFTMAX_BACKWARD + _scaling(query, key)


# maximum, subtract, exponential, sum, divide
SOFTMAX = 5
# gradient times softmax, sum, subtract, times softmax
SOFTMAX_BACKWARD = 4

_CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
ATTENTION: dict[str, Rule] = {
    _CPU_ATTENTION: Rule(_attention_cpu, _attention_softmax, "softmax"),
    f"{_CPU_ATTENTION}_backward": Rule(
        _attention_cpu_backward, _attention_softmax_backward, "softmax"
    ),
}
for _kernel in ("flash", "efficient", "cudnn"):
    ATTENTION[f"_scaled_dot_product_{_kernel}_attention"] = Rule(
        None, _attention_softmax, "softmax"
    )
    ATTENTION[f"_scaled_dot_product_{_kernel}_attention_backward"] = Rule(
        None, _attention_softmax_backward, "softmax"
    )

# --- Pointwise: 1 per output element, and these exceptions -------------------------------------

POINTWISE_WEIGHTS: dict[str, int] = {
    "lerp": 3,  # a + weight * (b - a)
    "addcdiv": 3,  # a + value * b / c
    "addcmul": 3,  # a + value * b * c; 2 with a value of 1
    "native_dropout_backward": 2,  # gradient * mask * scale
}

COMPLEX_WEIGHTS: dict[str, int] = {
    "add": 2,
    "sub": 2,
    "rsub": 2,
    "neg": 2,
    "mul": 6,
    "div": 11,
    "reciprocal": 11,
    "square": 6,
    "pow": 6,
    "lerp": 10,
    "addcmul": 14,
    "addcdiv": 19,
    "exp": 5,  # exp, sin, cos, and two multiplies
    "_conj_physical": 1,
    "conj_physical": 1,
}


def _scale_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The scalar that is multiplied in: `alpha` of `add`, `value` of `addcmul`; 1 multiplies not."""
    if name in ("add", "sub", "rsub"):
        return kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    return kwargs.get("value", args[3] if len(args) > 3 else 1)


def _scaled_pointwise(name: str, plain: int, complex_plain: int) -> Rule:
    """An operator that multiplies by a scalar unless that scalar is 1."""

    def weights(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int]:
        scaled = _scale_of(name, args, kwargs) != 1
        return plain + scaled, complex_plain + 6 * scaled

    def cost(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int | None:
        return _weighted(out, *weights(args, kwargs))

    return Rule(cost)


SCALED: dict[str, Rule] = {
    "add": _scaled_pointwise("add", 1, 2),
    "sub": _scaled_pointwise("sub", 1, 2),
    "rsub": _scaled_pointwise("rsub", 1, 2),
    "addcmul": _scaled_pointwise("addcmul", 2, 8),
}

# Pointwise arithmetic that PyTorch does not tag as such.
UNTAGGED_POINTWISE = frozenset(
    """
    _add_relu _masked_scale _prelu_kernel _prelu_kernel_backward elu_backward floor_divide glu
    glu_backward hardshrink_backward hardsigmoid_backward hardswish hardswish_backward
    hardtanh_backward leaky_relu_backward log_sigmoid_backward log_sigmoid_forward mish_backward
    rrelu_with_noise rrelu_with_noise_backward softplus_backward softshrink_backward linalg_cross
    """.split()
)

# Pointwise functions whose output is not of the input's kind.
SPECIAL_POINTWISE: dict[str, Rule] = {
    "abs": per_input(1, 4),  # complex: two squares, their sum, its root
    "angle": per_input(1, 1),
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
    "soft_margin_loss": per_input(5),
    "soft_margin_loss_backward": per_input(5, position=1),
    "nll_loss_forward": per_input(1, position=1),
    "nll_loss_backward": FREE,  # writes one constant per row
    "nll_loss2d_forward": FREE,
    "nll_loss2d_backward": FREE,
    "dist": per_input(2),  # subtract, and the norm's reduction
}

# --- Reductions: 1 per input element (complex 2), and what is built from them -------------------

REDUCTIONS = frozenset(
    """
    _aminmax amax amin aminmax linalg_vector_norm logsumexp max mean min nansum norm
    std std_mean sum trace var var_mean cumsum _sparse_sum _sparse_csr_sum median nanmedian
    linalg__powsum native_norm
    """.split()
)
_COMPLEX_REDUCTIONS = {"sum": 2, "mean": 2, "nansum": 2, "cumsum": 2, "trace": 2}
_COMPLEX_REDUCTIONS |= {"linalg_vector_norm": 4, "norm": 4}


def _normalised(
    args: Sequence[Any], parts: int, weight: Any, bias: Any, position: int = 0
) -> int | None:
    """`parts` per element, and 1 each for the learned scale and shift."""
    affine = (weight is not None) + (bias is not None)
    return _weighted(args[position], parts + affine, None)


# mean, variance, subtract, times the inverse deviation
_NORMALISE = 4
# normalise again (2); two sums, one of a product (3); subtract both means (3), rescale (1)
_NORMALISE_BACKWARD = 9


def _layer_norm(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    return _normalised(args, _NORMALISE, args[2], args[3])


def _layer_norm_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    return _normalisation_gradients(args[1], weight=args[5], wanted=args[7])


def _group_norm(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    return _normalised(args, _NORMALISE, args[1], args[2])


def _group_norm_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    return _normalisation_gradients(args[1], weight=args[4], wanted=args[9])


def _batch_norm(training: Callable[[Sequence[Any]], bool]) -> Rule:
    """In evaluation the statistics are given: subtract, times the inverse deviation."""

    def cost(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
        parts = _NORMALISE if training(args) else 2
        return _normalised(args, parts, args[1], args[2])

    return Rule(cost)


def _batch_norm_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    weight, training, wanted = args[2], args[7], args[9]
    if training:
        return _normalisation_gradients(args[1], weight=weight, wanted=wanted)
    input_gradient = wanted[0] * (1 + (weight is not None))
    normalise_again = 2 * bool(wanted[1])
    return _weighted(args[1], input_gradient + normalise_again + 2 * wanted[1] + wanted[2], None)


def _normalisation_gradients(x: Tensor, weight: Any, wanted: Sequence[bool]) -> int | None:
    """The input's gradient; the scale's (a product and its sum); the shift's (a sum)."""
    input_gradient = wanted[0] * (_NORMALISE_BACKWARD + (weight is not None))
    scale_gradient = wanted[1] * (2 + 2 * (not wanted[0]))
    return _weighted(x, input_gradient + scale_gradient + wanted[2], None)


def _rms_norm(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """Square, mean, times the inverse root; and the learned scale."""
    return _normalised(args, 3, args[2], None)


def _rms_norm_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """Normalise again (1), a product's mean (2), subtract it (2), rescale (1); the scale's (2)."""
    weight, wanted = args[4], args[5]
    parts = wanted[0] * (6 + (weight is not None)) + 2 * wanted[1]
    return _weighted(args[1], parts, None)


def _dropout(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int | None:
    """Times the mask, times the scale; nothing outside training."""
    return 0 if args[2] is False else _weighted(out[0], 2, None)


NORMALISATIONS: dict[str, Rule] = {
    "_softmax": per_input(SOFTMAX),
    "_safe_softmax": per_input(SOFTMAX),
    "_softmax_backward_data": per_input(SOFTMAX_BACKWARD),
    "_log_softmax": per_input(5),  # maximum, subtract, exponential, sum, subtract
    "_log_softmax_backward_data": per_input(4),  # sum, exponential, product, subtract
    "native_layer_norm": Rule(_layer_norm),
    "native_layer_norm_backward": Rule(_layer_norm_backward),
    "native_group_norm": Rule(_group_norm),
    "native_group_norm_backward": Rule(_group_norm_backward),
    "native_batch_norm": _batch_norm(lambda args: bool(args[5])),
    "native_batch_norm_backward": Rule(_batch_norm_backward),
    "cudnn_batch_norm": _batch_norm(lambda args: bool(args[5])),
    "_native_batch_norm_legit": _batch_norm(lambda args: args[3] is True or args[5] is True),
    "_native_batch_norm_legit_no_training": _batch_norm(lambda _args: False),
    "_batch_norm_with_update": _batch_norm(lambda _args: True),
    "_batch_norm_no_update": _batch_norm(lambda _args: False),
    "_fused_rms_norm": Rule(_rms_norm),
    "_fused_rms_norm_backward": Rule(_rms_norm_backward),
    "native_dropout": Rule(_dropout),
}

# --- Pooling and resampling --------------------------------------------------------------------


def _pool(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int | None:
    """1 per element under the window, per output element."""
    result = out if isinstance(out, Tensor) else out[0]
    dims = result.dim() - 2 if result.dim() > 2 else 1
    window = args[1] if len(args[1]) > 1 else args[1] * dims
    return _weighted(result, prod(window), None)


def _average_pool_backward(
    args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any
) -> int | None:
    return _weighted(args[0], prod(args[2]), None)


POOLING: dict[str, Rule] = {
    "avg_pool1d": Rule(_pool),
    "avg_pool2d": Rule(_pool),
    "avg_pool3d": Rule(_pool),
    "max_pool2d_with_indices": Rule(_pool),
    "max_pool3d_with_indices": Rule(_pool),
    "avg_pool2d_backward": Rule(_average_pool_backward),
    "avg_pool3d_backward": Rule(_average_pool_backward),
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
}

# --- Accumulation by index: 1 per element accumulated ------------------------------------------


def _index_put(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int | None:
    accumulates = _argument(args, kwargs, 3, "accumulate")
    return _weighted(args[2], 1, 2) if accumulates else 0


def _scatter(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """`scatter` is a copy unless it is told how to reduce."""
    if kwargs.get("reduce") is None:
        return 0
    return args[2].numel() if _is_inexact(args[0]) else 0


def _embedding_bag(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """Every row looked up is added to its bag."""
    return args[1].numel() * int(args[0].shape[-1])


ACCUMULATION: dict[str, Rule] = {
    "embedding_dense_backward": per_input(1),
    "_embedding_bag": Rule(_embedding_bag),
    "_embedding_bag_forward_only": Rule(_embedding_bag),
    "_embedding_bag_dense_backward": per_input(1),
    "index_add": per_input(1, 2, position=3),
    "scatter_add": per_input(1, 2, position=3),
    "scatter_reduce": per_input(1, 2, position=3),
    "scatter": Rule(_scatter),
    "index_put": Rule(_index_put),
    "_index_put_impl": Rule(_index_put),
    "_unsafe_index_put": Rule(_index_put),
    "put": Rule(_index_put),
    "unfold_backward": per_input(1),
    "col2im": per_input(1),
    "_coalesce": FREE,
}

# --- Distances ---------------------------------------------------------------------------------


def _cdist(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int | None:
    """Subtract, power and add for every feature of every pair of rows."""
    return _weighted(out, 3 * int(args[0].shape[-1]), None)


def _cdist_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """Subtract, scale by the distance, times the gradient, add: per feature of every pair."""
    return _weighted(args[0], 4 * int(args[1].shape[-1]), None)


DISTANCES: dict[str, Rule] = {
    "_cdist_forward": Rule(_cdist),
    "_euclidean_dist": Rule(_cdist),
    "_cdist_backward": Rule(_cdist_backward),
}

# --- Fourier transforms: 5 N log2 N, half of it where one side is real -------------------------
# The conventional count of radix-2 (Cooley and Tukey 1965), as FFTW's benchmark uses it.


def _transforms(elements: int, lengths: Sequence[int]) -> float:
    return 5 * elements * log2(max(prod(lengths), 1))


def _fft_complex(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    return round(_transforms(out.numel(), [out.shape[d] for d in args[1]]))


def _fft_from_real(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """`onesided` computes half of the spectrum, for half of the cost."""
    x, onesided = args[0], args[3]
    full = _transforms(x.numel(), [x.shape[d] for d in args[1]])
    return round(full / 2 if onesided else full)


def _fft_to_real(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    return round(_transforms(out.numel(), [out.shape[d] for d in args[1]]) / 2)


FOURIER: dict[str, Rule] = {
    "_fft_c2c": Rule(_fft_complex),
    "_fft_r2c": Rule(_fft_from_real),
    "_fft_c2r": Rule(_fft_to_real),
}

# --- Linear algebra: the leading terms of Golub and Van Loan, Matrix Computations, 4th edition --
# m >= n are the sizes of one matrix, k the right-hand sides. Complex arithmetic costs 4 times that.


def _factorisation(flops: Callable[[int, int], int]) -> Rule:
    """A cost of the larger and the smaller side of every matrix in the first argument."""

    def cost(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
        matrix = args[0]
        m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
        return _matrices(matrix) * flops(m, n) * _arithmetic(matrix)

    return Rule(cost)


def _matrices(matrix: Tensor) -> int:
    return prod(matrix.shape[:-2])


def _arithmetic(matrix: Tensor) -> int:
    return 4 if matrix.dtype.is_complex else 1


def _svd(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int:
    """Golub and Van Loan, figure 8.6.1: values only, thin vectors, or all vectors."""
    matrix = args[0]
    full = _argument(args, kwargs, 1, "full_matrices")
    vectors = _argument(args, kwargs, 2, "compute_uv")
    m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
    if vectors is False:
        flops = 4 * m * n**2 - 4 * n**3 // 3
    elif full:
        flops = 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    else:
        flops = 14 * m * n**2 + 8 * n**3
    return _matrices(matrix) * flops * _arithmetic(matrix)


def _eigh(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int:
    """Tridiagonalisation is 4/3 n^3; with vectors the symmetric QR iteration takes 9 n^3."""
    matrix, n = args[0], int(args[0].shape[-1])
    vectors = _argument(args, kwargs, 2, "compute_v")
    flops = 4 * n**3 // 3 if vectors is False else 9 * n**3
    return _matrices(matrix) * flops * _arithmetic(matrix)


def _qr(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int:
    """Householder: `2mn^2 - 2n^3/3` for R, as much again for a thin Q, `4(m^2 n - ...)` for all."""
    matrix = args[0]
    mode = _argument(args, kwargs, 1, "mode") or "reduced"
    m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
    triangle = 2 * m * n**2 - 2 * n**3 // 3
    thin = triangle
    full = 4 * (m**2 * n - m * n**2) + 4 * n**3 // 3
    flops = triangle + {"r": 0, "reduced": thin, "complete": full}[mode]
    return _matrices(matrix) * flops * _arithmetic(matrix)


def _right_hand_sides(matrix: Tensor, other: Tensor) -> int:
    """Columns of B in A X = B; a B of one dimension less is a vector."""
    return 1 if other.dim() == matrix.dim() - 1 else int(other.shape[-1])


def _linear_solve(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """LU of A, then a forward and a back substitution per right-hand side."""
    matrix, n = args[0], int(args[0].shape[-1])
    flops = 2 * n**3 // 3 + 2 * n**2 * _right_hand_sides(matrix, args[1])
    return _matrices(matrix) * flops * _arithmetic(matrix)


def _substitution(passes: int, matrix: int, right: int) -> Rule:
    """`passes` triangular solves of n^2 per right-hand side."""

    def cost(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
        n = int(args[matrix].shape[-1])
        return passes * n * args[right].numel() * _arithmetic(args[matrix])

    return Rule(cost)


def _least_squares(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """Householder QR, then Q^H b and a back substitution per right-hand side."""
    matrix, k = args[0], _right_hand_sides(args[0], args[1])
    m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
    flops = 2 * m * n**2 - 2 * n**3 // 3 + k * (4 * m * n - n**2)
    return _matrices(matrix) * flops * _arithmetic(matrix)


_LU = _factorisation(lambda m, n: m * n**2 - n**3 // 3)

LINEAR_ALGEBRA: dict[str, Rule] = {
    "_linalg_solve_ex": Rule(_linear_solve),
    "linalg_lu_factor_ex": _LU,
    "linalg_lu": _LU,
    "_linalg_det": _LU,
    "_linalg_slogdet": _LU,
    "linalg_lu_solve": _substitution(2, matrix=0, right=2),
    "linalg_solve_triangular": _substitution(1, matrix=0, right=1),
    "triangular_solve": _substitution(1, matrix=1, right=0),
    "linalg_inv_ex": _factorisation(lambda _m, n: 2 * n**3),
    "linalg_cholesky_ex": _factorisation(lambda _m, n: n**3 // 3),
    "cholesky": _factorisation(lambda _m, n: n**3 // 3),
    "_cholesky_solve_helper": _substitution(2, matrix=1, right=0),
    "cholesky_solve": _substitution(2, matrix=1, right=0),
    "cholesky_inverse": _factorisation(lambda _m, n: 2 * n**3 // 3),
    "_linalg_svd": Rule(_svd),
    "_linalg_eigh": Rule(_eigh),
    "linalg_eig": _factorisation(lambda _m, n: 25 * n**3),
    "_linalg_eigvals": _factorisation(lambda _m, n: 10 * n**3),
    "linalg_eigvals": _factorisation(lambda _m, n: 10 * n**3),
    "linalg_qr": Rule(_qr),
    "geqrf": _factorisation(lambda m, n: 2 * m * n**2 - 2 * n**3 // 3),
    "linalg_householder_product": _factorisation(lambda m, n: 2 * m * n**2 - 2 * n**3 // 3),
    "linalg_lstsq": Rule(_least_squares),
    # thin SVD, scale, and one product
    "linalg_pinv": _factorisation(lambda m, n: 14 * m * n**2 + 8 * n**3 + n**2 + 2 * m * n**2),
}

# --- Recurrent cells and the fused Transformer layer -------------------------------------------

# Per hidden unit: what the plain cell executes besides its two products and their biases.
# LSTM: 4 sums of the two products, 3 sigmoids, 2 tanh, 3 multiplies, 1 add.
# GRU: 3 sums, 2 sigmoids, 1 tanh, 2 multiplies, 1 subtract, 1 more sum.
# RNN: 1 sum, 1 tanh or ReLU.
_CELL_POINTWISE = {"lstm": 13, "gru": 10, "rnn": 2}
_CELL_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# Their gradients: LSTM 3 sigmoids, 2 tanh, 6 multiplies, 1 add; GRU alike; RNN 1.
_CELL_BACKWARD = {"lstm": 12, "gru": 11, "rnn": 1}
_RNN_MODES = ("rnn", "rnn", "lstm", "gru")  # as cuDNN numbers them: relu, tanh, LSTM, GRU


def _cell_products(kind: str, features: int, hidden: int) -> int:
    return 2 * _CELL_GATES[kind] * hidden * (features + hidden)


def _cell(kind: str, features: int, hidden: int, *, biases: bool) -> int:
    """One time step of one sequence: `W x + b + U h + c`, and the gates."""
    bias = 2 * _CELL_GATES[kind] * hidden * biases
    return _cell_products(kind, features, hidden) + bias + _CELL_POINTWISE[kind] * hidden


def _cell_backward(kind: str, features: int, hidden: int, *, biases: bool) -> int:
    """Two gradients per product, one sum per bias, and the gates."""
    bias = 2 * _CELL_GATES[kind] * hidden * biases
    return 2 * _cell_products(kind, features, hidden) + bias + _CELL_BACKWARD[kind] * hidden


def _mkldnn_rnn(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """One layer in one direction over an input `(time, batch, features)`."""
    x, kind = args[0], _RNN_MODES[args[9]]
    steps = int(x.shape[0] * x.shape[1])
    return steps * _cell(kind, int(x.shape[2]), int(args[10]), biases=bool(args[12]))


def _mkldnn_rnn_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    x, weight_hh = args[0], args[2]
    hidden = int(weight_hh.shape[1])
    kind = {4: "lstm", 3: "gru", 1: "rnn"}[int(weight_hh.shape[0]) // hidden]
    steps = int(x.shape[0] * x.shape[1])
    return steps * _cell_backward(kind, int(x.shape[2]), hidden, biases=True)


def _cudnn_layers(
    x: Tensor,
    weights: Sequence[Tensor],
    per_layer: int,
    cell: Callable[..., int],
    kind: str,
    hidden: int,
) -> int:
    steps = x.numel() // int(x.shape[-1])
    layers = [weights[i : i + per_layer] for i in range(0, len(weights), per_layer)]
    biases = per_layer >= 4
    return steps * sum(cell(kind, int(w[0].shape[1]), hidden, biases=biases) for w in layers)


def _cudnn_rnn(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """Every layer and direction; a projection (`proj_size`) has no rule."""
    if args[8]:
        return None
    return _cudnn_layers(args[0], args[1], args[2], _cell, _RNN_MODES[args[6]], int(args[7]))


def _cudnn_rnn_backward(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int | None:
    if args[12]:
        return None
    kind, hidden = _RNN_MODES[args[10]], int(args[11])
    return _cudnn_layers(args[0], args[1], args[2], _cell_backward, kind, hidden)


def _fused_cell(kind: str, weights: Mapping[str, int]) -> Rule:
    """CUDA's fused gates, after the products: biases and pointwise parts per hidden unit."""

    def cost(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
        biased = len(args) > 3 and args[3] is not None
        bias = 2 * _CELL_GATES[kind] * (biased and weights is _CELL_POINTWISE)
        return int(out[0].numel()) * (weights[kind] + bias)

    return Rule(cost)


def _self_attention(batch: int, length: int, width: int, heads: int, *, masked: bool) -> int:
    """Query, key and value; scaled scores; softmax; the weighted sum; the output projection."""
    tokens = batch * length
    projections = 2 * tokens * width * 4 * width + tokens * 4 * width
    scores = batch * heads * length * length
    return (
        projections + tokens * width + 4 * scores * (width // heads) + scores * (SOFTMAX + masked)
    )


def _native_attention(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """`_native_multi_head_attention(query, key, value, embed_dim, num_head, ...)`: self-attention."""
    query = args[0]
    if query.is_nested or query is not args[1] or query is not args[2]:
        return None
    batch, length, width = query.shape
    masked = _argument(args, kwargs, 9, "mask") is not None
    return _self_attention(batch, length, width, args[4], masked=masked)


def _transformer_layer(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int | None:
    """`_transformer_encoder_layer_fwd`: attention, two sums, two layer norms, the feed-forward."""
    x, width, heads, inner = args[0], args[1], args[2], int(args[15].shape[0])
    if x.is_nested:
        return None
    batch, length, _ = x.shape
    tokens = batch * length
    masked = _argument(args, kwargs, 19, "mask") is not None
    attention = _self_attention(batch, length, width, heads, masked=masked)
    residuals, norms = 2 * tokens * width, 2 * tokens * width * (_NORMALISE + 2)
    products = 2 * tokens * width * inner * 2
    feed_forward = products + tokens * (inner + width) + tokens * inner
    return attention + residuals + norms + feed_forward


RECURRENT_AND_TRANSFORMER: dict[str, Rule] = {
    "mkldnn_rnn_layer": Rule(_mkldnn_rnn),
    "mkldnn_rnn_layer_backward": Rule(_mkldnn_rnn_backward),
    "_cudnn_rnn": Rule(_cudnn_rnn),
    "_cudnn_rnn_backward": Rule(_cudnn_rnn_backward),
    "_thnn_fused_lstm_cell": _fused_cell("lstm", _CELL_POINTWISE),
    "_thnn_fused_gru_cell": _fused_cell("gru", _CELL_POINTWISE),
    "_thnn_fused_lstm_cell_backward_impl": _fused_cell("lstm", _CELL_BACKWARD),
    "_thnn_fused_gru_cell_backward": _fused_cell("gru", _CELL_BACKWARD),
    "_native_multi_head_attention": Rule(_native_attention),
    "_transformer_encoder_layer_fwd": Rule(_transformer_layer),
}

# --- Fused optimizers: what their for-loop form executes, given the same arguments --------------


def _fused(weight: Callable[[Mapping[str, Any]], int]) -> Rule:
    """`weight` FLOPs per element of every parameter."""

    def each(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[int | None]:
        per_element = weight(kwargs) + (kwargs.get("grad_scale") is not None)
        return [_weighted(parameter, per_element, None) for parameter in args[0]]

    return _each_rule(each)


def _each_rule(each: CostEach) -> Rule:
    def cost(args: Sequence[Any], kwargs: Mapping[str, Any], _out: Any) -> int | None:
        costs = each(args, kwargs)
        return None if None in costs else sum(cost or 0 for cost in costs)

    return Rule(cost, each=each)


def _adam_weight(kwargs: Mapping[str, Any]) -> int:
    """Moments 3 and 4, the denominator 3, the update 3; L2 decay is 2 more."""
    return 13 + kwargs["amsgrad"] + kwargs["maximize"] + 2 * (kwargs["weight_decay"] != 0)


def _adamw_weight(kwargs: Mapping[str, Any]) -> int:
    """As Adam; the decoupled decay is one multiply."""
    return 13 + kwargs["amsgrad"] + kwargs["maximize"] + (kwargs["weight_decay"] != 0)


def _sgd_weight(kwargs: Mapping[str, Any]) -> int:
    """The update 2; decay 2; momentum 2 (3 with dampening) after its first step; Nesterov 2."""
    momentum = 0
    if kwargs["momentum"] != 0 and not kwargs["is_first_step"]:
        momentum = 2 + (kwargs["dampening"] != 0)
    nesterov = 2 * kwargs["nesterov"]
    return 2 + kwargs["maximize"] + 2 * (kwargs["weight_decay"] != 0) + momentum + nesterov


def _adagrad_weight(kwargs: Mapping[str, Any]) -> int:
    """Sum of squares 2, its root plus epsilon 2, the update 3; decay 2."""
    return 7 + kwargs["maximize"] + 2 * (kwargs["weight_decay"] != 0)


FUSED_OPTIMIZERS: dict[str, Rule] = {
    "_fused_adam": _fused(_adam_weight),
    "_fused_adamw": _fused(_adamw_weight),
    "_fused_sgd": _fused(_sgd_weight),
    "_fused_adagrad": _fused(_adagrad_weight),
}

# --- Free: no floating-point arithmetic --------------------------------------------------------

FREE_OPERATORS = frozenset(
    """
    __and__ __or__ __xor__ _assert_async _assert_scalar _assert_tensor_metadata _chunk_cat
    _coalesced _conj_copy _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
    _copy_from _copy_from_and_resize _cudnn_init_dropout_state _cudnn_rnn_flatten_weight _dimI _dimV
    _efficientzerotensor _foreach_clone _foreach_copy _foreach_zero _functional_assert_async
    _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _fused_sdp_choice _fw_primal_copy
    _has_same_storage_numel _indices_copy _is_all_true _is_any_true _lazy_clone
    _linalg_check_errors _local_scalar_dense _make_dual_copy _mkldnn_reshape _mkldnn_transpose
    _neg_view_copy _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned
    _nested_from_padded _nested_tensor_size _nested_tensor_storage_offsets _nested_tensor_strides
    _new_zeros_with_same_feature_meta _nnz _pack_padded_sequence _pin_memory _print
    _reshape_alias_copy _reshape_copy _resize_output _sample_dirichlet _sparse_broadcast_to_copy
    _sparse_compressed_tensor_with_dims _sparse_coo_tensor_with_dims
    _sparse_coo_tensor_with_dims_and_tensors _sparse_mask_projection _spdiags _stack
    _standard_gamma _to_copy _to_dense _to_sparse _to_sparse_bsc _to_sparse_bsr _to_sparse_csc
    _to_sparse_csr _unique _unique2 _unsafe_index _unsafe_masked_index _unsafe_view
    _validate_compressed_sparse_indices _values_copy alias_copy all allclose any arange argmax
    argmin as_strided as_strided_copy as_strided_scatter bernoulli binomial bitwise_and bitwise_not
    bitwise_or bitwise_xor block_diag bucketize cat cauchy channel_shuffle clone complex
    constant_pad_nd copy count_nonzero cummax _cummax_helper cummin _cummin_helper
    dense_dim detach detach_copy diag_embed diagonal_backward diagonal_copy diagonal_scatter
    embedding empty empty_like empty_permuted empty_strided eq equal exponential expand_copy eye
    fft_fftfreq fft_rfftfreq fill flip from_file full full_like gather ge geometric gt histc im2col
    index index_copy index_fill index_select indices_copy is_coalesced is_pinned is_same_size
    is_set_to isfinite isin isinf isnan isneginf isposinf kthvalue le lift lift_fresh
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
    """.split()
)

# Gradients of copies: what is copied twice is accumulated, 1 per element of the gradient.
ACCUMULATION |= {
    f"{name}_backward": per_input(1)
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
    **{name: per_output(1) for name in UNTAGGED_POINTWISE},
    **{name: per_input(1, _COMPLEX_REDUCTIONS.get(name)) for name in REDUCTIONS},
    **{name: FREE for name in FREE_OPERATORS},
    "prod": per_input(1, 6),
    "cumprod": per_input(1, 6),
    "logcumsumexp": per_input(3),
    **SCALED,
    **SPECIAL_POINTWISE,
    **LOSSES,
    **NORMALISATIONS,
    **POOLING,
    **ACCUMULATION,
    **DISTANCES,
    **FOURIER,
    **LINEAR_ALGEBRA,
    **RECURRENT_AND_TRANSFORMER,
    **FUSED_OPTIMIZERS,
}

# --- Finding the rule of an operator -----------------------------------------------------------

_registered: dict[str, Rule] = {}


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
        _registered[name] = Rule(cost)


def how_to_count(operator: str) -> str:
    """What to do about an operator without a cost, named as the meter names it."""
    name = operator.replace(".", "::", 1)
    return (
        f"{operator} has no cost; give it one with "
        f"@pytest_flops.counting.costs.register_cost({name!r}) on a function (args, kwargs, out) "
        f"that returns its FLOPs, or with the hook pytest_flops_register_costs"
    )


def rule_of(operator: torch._ops.OpOverload) -> Rule | None:
    """The rule of an operator overload, or None when nothing claims it."""
    packet = operator._overloadpacket  # noqa: SLF001 - the overload's only way to its name
    name = packet.__name__
    registered = _registered.get(f"{operator.namespace}::{name}")
    if registered is not None:
        return registered
    if operator.namespace == "aten":
        return _aten_rule(operator, _plain(name))
    if operator.namespace == "prim":
        return FREE
    if packet in flop_registry:
        return Rule(_registry_cost(packet))
    return FREE if operator.is_view else None


def _plain(name: str) -> str:
    """The name without the underscore of an in-place form."""
    return name if name.startswith("__") else name.rstrip("_")


def _aten_rule(operator: torch._ops.OpOverload, name: str) -> Rule | None:
    packet = getattr(torch.ops.aten, name, operator._overloadpacket)  # noqa: SLF001
    listed = TABLE.get(name) or ATTENTION.get(name)
    if listed is not None and listed.cost is None and listed.side_cost is not None:
        return Rule(_registry_cost(packet), listed.side_cost, listed.side_line)
    if listed is not None:
        return listed
    if packet in flop_registry:
        return Rule(_registry_cost(packet))
    if name.startswith("_foreach_"):
        return _foreach_rule(name.removeprefix("_foreach_"))
    if operator.is_view:
        return FREE
    tags = {tag for overload in packet.overloads() for tag in getattr(packet, overload).tags}
    if torch.Tag.pointwise in tags:
        return per_output(1, COMPLEX_WEIGHTS.get(name))
    return None


def _registry_cost(target: Any) -> Cost:
    """PyTorch's own formula; complex operands cost 8 per multiply-add where it says 2."""
    formula = flop_registry[target]

    def cost(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
        flops = int(formula(*args, **kwargs, out_val=out))
        is_complex = any(isinstance(arg, Tensor) and arg.dtype.is_complex for arg in args)
        return flops * (4 if is_complex else 1)

    return cost


def _foreach_rule(name: str) -> Rule | None:
    """A list form costs what the plain form costs on each of its tensors."""
    if name in ("norm", "max", "powsum"):
        return _each_rule(lambda args, _kwargs: [_weighted(t, 1, None) for t in args[0]])
    if name == "mm":
        return _each_rule(
            lambda args, _kwargs: [_matrix_product(a, b) for a, b in zip(args[0], args[1])]
        )
    weight, complex_weight = POINTWISE_WEIGHTS.get(name, 1), COMPLEX_WEIGHTS.get(name)
    if name == "abs":
        complex_weight = 4
    if name not in SCALED:
        return _each_rule(
            lambda args, _kwargs: [_weighted(t, weight, complex_weight) for t in args[0]]
        )
    plain, complex_plain = (2, 8) if name == "addcmul" else (1, 2)

    def each(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[int | None]:
        scales = _foreach_scales(name, args, kwargs)
        return [
            _weighted(tensor, plain + (scale != 1), complex_plain + 6 * (scale != 1))
            for tensor, scale in zip(args[0], scales)
        ]

    return _each_rule(each)


def _foreach_scales(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
    scale = _scale_of(name, args, kwargs)
    scale = kwargs.get("scalars", scale)
    return (
        scale.tolist()
        if isinstance(scale, Tensor)
        else (scale if isinstance(scale, list | tuple) else [scale] * len(args[0]))
    )
