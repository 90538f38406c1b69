"""The formulas that `costs.py` names where a count per element does not do.

Each is the cost of one call, `(args, kwargs, out) -> int`, in FLOPs; `None` where the arguments are
of a kind that has no formula. Shapes are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2, prod
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

Args: TypeAlias = Sequence[Any]
Kwargs: TypeAlias = Mapping[str, Any]
Cost: TypeAlias = Callable[[Args, Kwargs, Any], "int | None"]
CostEach: TypeAlias = Callable[[Args, Kwargs, Any], "list[int | None]"]

# maximum, subtract, exponential, sum, divide
SOFTMAX = 5
# gradient times softmax, sum, subtract, times softmax
SOFTMAX_BACKWARD = 4
# mean, variance, subtract, times the inverse deviation
NORMALISE = 4
# normalise again (2); two sums, one of a product (3); subtract both means (3), rescale (1)
NORMALISE_BACKWARD = 9

# Per hidden unit: what the plain cell executes besides its two products and their biases.
# LSTM: 4 sums of the two products, 3 sigmoids, 2 tanh, 3 multiplies, 1 add.
# GRU: 3 sums, 2 sigmoids, 1 tanh, 2 multiplies, 1 subtract, 1 more sum.
# RNN: 1 sum, 1 tanh or ReLU.
CELL_POINTWISE = {"lstm": 13, "gru": 10, "rnn": 2}
CELL_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# Their gradients: LSTM 3 sigmoids, 2 tanh, 6 multiplies, 1 add; GRU alike; RNN 1.
CELL_BACKWARD = {"lstm": 12, "gru": 11, "rnn": 1}
_MEAN = 1  # as embedding_bag numbers sum, mean and max
_RNN_MODES = ("rnn", "rnn", "lstm", "gru")  # as cuDNN numbers them: relu, tanh, LSTM, GRU


def first_tensor(*candidates: Any) -> Tensor:
    """The first tensor among values and lists of values."""
    for candidate in candidates:
        if isinstance(candidate, Tensor):
            return candidate
        if isinstance(candidate, tuple | list) and candidate:
            return first_tensor(*candidate)
    raise TypeError("an operator without a tensor has no elements to count")


def weighted(tensor: Tensor, weight: int, complex_weight: int | None) -> int | None:
    """`weight` or `complex_weight` FLOPs per element; 0 for integers and booleans."""
    if is_exact(tensor):
        return 0
    each = weight if tensor.dtype.is_floating_point else complex_weight
    if each is None or stores_unknown(tensor):
        return None
    return elements(tensor) * each


def is_exact(tensor: Tensor) -> bool:
    """Whether its elements are integers or booleans."""
    return not tensor.dtype.is_floating_point and not tensor.dtype.is_complex


def elements(tensor: Tensor) -> int:
    """How many elements a tensor stores."""
    return _nonzeros(tensor) if _is_sparse(tensor) else tensor.numel()


def stores_unknown(tensor: Tensor) -> bool:
    """Whether a tensor is sparse and has a shape alone: nobody knows how many values it stores."""
    without_values = isinstance(tensor, FakeTensor) or tensor.is_meta
    return without_values and _is_sparse(tensor) and not _nonzeros(tensor)


def argument(args: Args, kwargs: Kwargs, position: int, name: str) -> Any:
    """What an operator was given, by position or by name; None if nothing."""
    return args[position] if len(args) > position else kwargs.get(name)


def _multiply_add(tensor: Tensor) -> int:
    if tensor.dtype.is_floating_point:
        return 2
    return 8 if tensor.dtype.is_complex else 0


def _is_sparse(tensor: Tensor) -> bool:
    return tensor.layout not in (torch.strided, torch.jagged)


def matrix_product(a: Tensor, b: Tensor) -> int | None:
    """`(..., m, k) @ (..., k, n)`, `(m, k) @ (k,)` or `(k,) @ (k,)`; one may be sparse."""
    columns = b.shape[-1] if b.dim() > 1 else 1
    if not _is_sparse(a) and not _is_sparse(b):
        return _multiply_add(a) * a.numel() * columns
    if (_is_sparse(a) and _is_sparse(b)) or stores_unknown(a) or stores_unknown(b):
        return None
    if _is_sparse(a):
        return _multiply_add(a) * _nonzeros(a) * columns
    return _multiply_add(b) * _nonzeros(b) * prod(a.shape[:-1])


def _nonzeros(sparse: Tensor) -> int:
    """Stored values; a block of a block-sparse matrix stores every element of the block."""
    if sparse.layout == torch.sparse_coo:
        return sparse._values().numel()  # noqa: SLF001 - the public way needs a coalesced tensor
    return sparse.values().numel()


def values_of_sparse(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """A view, and free; but what is computed with no values of a fake tensor counts as nothing."""
    return None if stores_unknown(args[0]) else 0


def linear(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`x @ weight.T`, of `(..., in)` and `(out, in)`."""
    x, weight = args[0], args[1]
    return _multiply_add(x) * int(x.numel() * weight.shape[0])


def linear_bias(args: Args, kwargs: Kwargs, out: Any) -> int | None:
    """One addition per output element, where there is a bias."""
    return 0 if argument(args, kwargs, 2, "bias") is None else weighted(out, 1, 2)


def sampled_product(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`(m, k) @ (k, n)` where the sparse first argument stores a value."""
    if stores_unknown(args[0]):
        return None
    return _multiply_add(args[1]) * _nonzeros(args[0]) * int(args[1].shape[-1])


def sparse_product_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`_sparse_mm_reduce_impl_backward(sparse, grad, ...)`: a product for each gradient wanted."""
    sparse, gradient, wanted = args[0], args[1], args[5]
    if stores_unknown(sparse):
        return None
    return int(2 * _nonzeros(sparse) * gradient.shape[-1] * sum(wanted))


def bias(_args: Args, kwargs: Kwargs, out: Any) -> int | None:
    """One addition per output element; a bias times 0 is not added."""
    return 0 if kwargs.get("beta", 1) == 0 else weighted(out, 1, 2)


def quantised_product(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """An integer product that stands for a floating-point one: `(m, k) @ (k, n)`, 2 each."""
    a, b = args[0], args[1]
    return int(2 * a.numel() * b.shape[-1])


def grouped_product(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`_grouped_mm(a, b, offs)`: every row of a group times the matrix of its group.

    2-D times 3-D groups the rows, 3-D times 2-D the columns, 2-D times 2-D the inner dimension:
    in each the groups split one dimension, so the multiply-adds are those of one product.
    """
    a, b = args[0], args[1]
    if a.dim() == 3 and b.dim() == 3:
        return int(_multiply_add(a) * a.numel() * b.shape[-1])
    if a.dim() == 3:
        return _multiply_add(a) * int(a.shape[1] * a.shape[2] * b.shape[-1])
    return int(_multiply_add(a) * a.numel() * b.shape[-1])


def sum_of_products_bias(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """`addbmm`: `self + sum_b a[b] @ b[b]` adds one matrix per batch entry."""
    return int(args[1].shape[0]) * (weighted(out, 1, 2) or 0)


def trilinear(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """`sum_d i1 * i2 * i3` (`nn.Bilinear`): first i1 with i2, then the result with i3.

    Sizes are read after broadcasting; dimensions that i3 does not have are summed by the first
    product, the other summed dimensions by the second.
    """
    expanded = args[3:6]
    summed = set(args[6])
    dims = out.dim() + len(summed)
    sizes = [
        _unsqueezed(tensor, where, dims) for tensor, where in zip(args[:3], expanded, strict=True)
    ]
    first_pair = [max(a, b) for a, b in zip(sizes[0], sizes[1], strict=True)]
    first_sums = summed & set(args[5])
    between = [1 if d in first_sums else size for d, size in enumerate(first_pair)]
    second_pair = [max(a, b) for a, b in zip(between, sizes[2], strict=True)]
    multiply_add = _multiply_add(args[0])
    multiply = {2: 1, 8: 6}.get(multiply_add, 0)
    first = prod(first_pair) * (multiply_add if first_sums else multiply)
    second = prod(second_pair) * (multiply_add if summed - first_sums else multiply)
    return first + second


def _unsqueezed(tensor: Tensor, positions: Sequence[int], dims: int) -> list[int]:
    sizes = iter(tensor.shape)
    return [1 if d in positions else next(sizes) for d in range(dims)]


def convolution(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """2 per weight per position: output positions, or input positions when transposed.

    The weight holds `c_in / groups` channels, so groups need no term of their own.
    """
    x, weight, transposed = args[0], args[1], args[6]
    positions = prod((x if transposed else out).shape[2:])
    return int(_multiply_add(x) * x.shape[0] * positions * weight.numel())


def convolution_bias(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """One addition per output element, where there is a bias."""
    return 0 if args[2] is None else weighted(out, 1, 2) or 0


def convolution_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """The gradients of input and of weight cost a forward each."""
    grad_out, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    positions = prod((x if transposed else grad_out).shape[2:])
    forward = _multiply_add(x) * x.shape[0] * positions * weight.numel()
    return int(forward * (wanted[0] + wanted[1]))


def convolution_backward_bias(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """The bias's gradient sums the output's."""
    return (weighted(args[0], 1, 2) or 0) if args[10][2] else 0


def alpha(args: Args, kwargs: Kwargs) -> Any:
    """The scalar that `add` and its kin multiply the second operand by."""
    return args[2] if len(args) > 2 else kwargs.get("alpha", 1)


def value(args: Args, kwargs: Kwargs) -> Any:
    """The scalar that `addcmul` multiplies the product by; a list for some `_foreach_` forms."""
    return args[3] if len(args) > 3 else kwargs.get("value", kwargs.get("scalars", 1))


def negative_log_likelihood(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """One log-probability per target is summed."""
    return int(args[1].numel())


def multilabel_margin(_args: Args, _kwargs: Kwargs, out: Any) -> int | None:
    """`max(0, 1 - (x_target - x_other))`, summed, for every pair of a target and another class."""
    return _target_pairs(out[1])


def multilabel_margin_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """The margin again (2), and a gradient for both classes of the pair."""
    return _target_pairs(args[4])


def _target_pairs(is_target: Tensor) -> int | None:
    """4 FLOPs per pair; which classes are targets only their values tell."""
    if isinstance(is_target, FakeTensor) or is_target.is_meta:
        return None
    targets, others = is_target.sum(-1), (1 - is_target).sum(-1)
    return int(4 * (targets * others).sum())


# Per step and state of the sequence with blanks: the log-sum of three predecessors (12), and the
# log-probability. Backward recurses likewise, and adds the product with the forward variable to its
# class (2); per class the gradient is (exp(p) - exp(sum + loss - p)) * gradient (6).
CTC_STATE, CTC_OCCUPANCY, CTC_CLASS = 13, 2, 6


def ctc_loss(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """Graves et al. 2006, equations 5 to 8: 2 L + 1 states for a target of length L."""
    log_probabilities, targets, steps, lengths = args[:4]
    return CTC_STATE * _ctc_states(log_probabilities, targets, steps, lengths)


def ctc_loss_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """Graves et al. 2006, equations 9 to 16."""
    log_probabilities, targets, steps, lengths = args[1:5]
    states = _ctc_states(log_probabilities, targets, steps, lengths)
    return (CTC_STATE + CTC_OCCUPANCY) * states + CTC_CLASS * int(log_probabilities.numel())


def _ctc_states(log_probabilities: Tensor, targets: Tensor, steps: Any, lengths: Any) -> int:
    """States of all steps of all sequences; where lengths have no values, all are the longest."""
    lists = not isinstance(steps, Tensor) and not isinstance(lengths, Tensor)
    if not lists and any(isinstance(t, FakeTensor) for t in (log_probabilities, steps, lengths)):
        longest, batch = (int(size) for size in log_probabilities.shape[:2])
        return longest * (2 * targets.numel() + batch)
    pairs = zip(_integers(steps), _integers(lengths), strict=True)
    return sum(step * (2 * length + 1) for step, length in pairs)


def _integers(given: Tensor | Sequence[int]) -> Sequence[int]:
    return given.reshape(-1).tolist() if isinstance(given, Tensor) else given


def normalised(args: Args, parts: int, weight: Any, bias: Any, position: int = 0) -> int | None:
    """`parts` per element, and 1 each for the learned scale and shift."""
    affine = (weight is not None) + (bias is not None)
    return weighted(args[position], parts + affine, None)


def layer_norm(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`native_layer_norm(x, shape, weight, bias, eps)`."""
    return normalised(args, NORMALISE, args[2], args[3])


def layer_norm_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`native_layer_norm_backward(grad, x, shape, mean, rstd, weight, bias, wanted)`."""
    return _normalisation_gradients(args[1], weight=args[5], wanted=args[7])


def group_norm(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`native_group_norm(x, weight, bias, ...)`."""
    return normalised(args, NORMALISE, args[1], args[2])


def group_norm_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`native_group_norm_backward(grad, x, mean, rstd, weight, N, C, HxW, group, wanted)`."""
    return _normalisation_gradients(args[1], weight=args[4], wanted=args[9])


def batch_norm_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`native_batch_norm_backward(grad, x, weight, ..., train, eps, wanted)`."""
    weight, training, wanted = args[2], args[7], args[9]
    if training:
        return _normalisation_gradients(args[1], weight=weight, wanted=wanted)
    input_gradient = wanted[0] * (1 + (weight is not None))
    normalise_again = 2 * bool(wanted[1])
    return weighted(args[1], input_gradient + normalise_again + 2 * wanted[1] + wanted[2], None)


def cudnn_batch_norm_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`cudnn_batch_norm_backward(x, grad, weight, ...)`: of training, all three gradients."""
    return _normalisation_gradients(args[0], weight=args[2], wanted=(True, True, True))


def _normalisation_gradients(x: Tensor, weight: Any, wanted: Sequence[bool]) -> int | None:
    """The input's gradient; the scale's (a product and its sum); the shift's (a sum)."""
    input_gradient = wanted[0] * (NORMALISE_BACKWARD + (weight is not None))
    scale_gradient = wanted[1] * (2 + 2 * (not wanted[0]))
    return weighted(x, input_gradient + scale_gradient + wanted[2], None)


def rms_norm(args: Args, _kwargs: Kwargs, out: Any) -> int | None:
    """Square, mean, times the inverse root; the learned scale; per row epsilon and the root."""
    per_element = normalised(args, 3, args[2], None)
    return None if per_element is None else per_element + 2 * int(out[1].numel())


def rms_norm_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """`_fused_rms_norm_backward(grad, x, shape, rstd, weight, wanted)`: what autograd executes.

    Of the input: times the inverse root (1); the root's own, a product and its sum (2); the mean's
    (1), the square's (3), joined (1); the scale (1); per row the inverse root's (3). Of the scale:
    a product and its sum (2).
    """
    x, rows, weight, wanted = args[1], int(args[3].numel()), args[4], args[5]
    per_element = weighted(x, wanted[0] * (8 + (weight is not None)) + 2 * wanted[1], None)
    return None if per_element is None else per_element + wanted[0] * 3 * rows


def weight_norm(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`_weight_norm_interface(v, g)`: the norm of v, g divided by it, times v."""
    return int(2 * args[0].numel() + args[1].numel())


def weight_norm_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`g/n * (grad - v * s/n^2)` and `s/n`, where n is the norm of v and s the sum of grad * v."""
    return int(5 * args[0].numel() + 4 * args[2].numel())


def dropout(args: Args, _kwargs: Kwargs, out: Any) -> int | None:
    """Times the mask, times the scale; nothing outside training."""
    return 0 if args[2] is False else weighted(out[0], 2, None)


def pool(args: Args, _kwargs: Kwargs, out: Any) -> int | None:
    """1 per element under the window, per output element."""
    result = out if isinstance(out, Tensor) else out[0]
    dims = result.dim() - 2 if result.dim() > 2 else 1
    window = args[1] if len(args[1]) > 1 else args[1] * dims
    return weighted(result, prod(window), None)


def average_pool_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """Every element under the window gets its share of the gradient."""
    return weighted(args[0], prod(args[2]), None)


def index_put(args: Args, kwargs: Kwargs, _out: Any) -> int | None:
    """One addition per value where it accumulates."""
    accumulates = argument(args, kwargs, 3, "accumulate")
    return weighted(args[2], 1, 2) if accumulates else 0


def scatter(args: Args, kwargs: Kwargs, _out: Any) -> int | None:
    """`scatter` is a copy unless it is told how to reduce."""
    if kwargs.get("reduce") is None:
        return 0
    return weighted(args[0], 1, 2) and int(args[2].numel())


def weighted_histogram(position: int | None = None) -> Cost:
    """Counting is free; a weight is added to its bin, and a density divides."""

    def cost(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        weights = kwargs.get("weight", kwargs.get("weights"))
        if position is not None:
            weights = argument(args, kwargs, position, "weights")
        divided = first_tensor(out).numel() if kwargs.get("density") else 0
        return divided if weights is None else divided + (weighted(weights, 1, None) or 0)

    return cost


def embedding_bag(args: Args, kwargs: Kwargs, out: Any) -> int:
    """Every row looked up is added to its bag, times its weight if it has one; a mean divides."""
    weighted_rows = argument(args, kwargs, 6, "per_sample_weights") is not None
    is_mean = argument(args, kwargs, 4, "mode") == _MEAN
    rows = args[1].numel() * args[0].shape[-1]
    return int(rows * (1 + weighted_rows) + is_mean * out[0].numel())


def embedding_bag_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """Every row looked up accumulates a gradient."""
    return int(args[1].numel() * args[0].shape[-1])


def embedding_bag_weights_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """A row's weight has the product of its bag's gradient with the row for a gradient."""
    return int(2 * args[2].numel() * args[1].shape[-1])


def renormalise(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`renorm(x, p, dim, maximum)`: norm and scale of every slice; the scale is 2 per slice."""
    return int(2 * args[0].numel() + 2 * args[0].shape[args[2]])


def embedding_renormalise(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """As `renorm`, of every row that is looked up."""
    return int(args[1].numel() * (2 * args[0].shape[-1] + 2))


def cdist(args: Args, _kwargs: Kwargs, out: Any) -> int | None:
    """Subtract, power and add for every feature of every pair of rows."""
    return weighted(out, 3 * int(args[0].shape[-1]), None)


def cdist_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """Subtract, scale by the distance, times the gradient, add: per feature of every pair."""
    return weighted(args[0], 4 * int(args[1].shape[-1]), None)


def _transforms(elements: int, lengths: Sequence[int]) -> float:
    return 5 * elements * log2(max(prod(lengths), 1))


def fft_complex(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """Complex to complex, over the dimensions of the second argument."""
    return round(_transforms(out.numel(), [out.shape[d] for d in args[1]]))


def fft_from_real(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """`onesided` computes half of the spectrum, for half of the cost."""
    x, onesided = args[0], args[3]
    full = _transforms(x.numel(), [x.shape[d] for d in args[1]])
    return round(full / 2 if onesided else full)


def fft_to_real(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """Complex to real: half the cost of a complex transform of that length."""
    return round(_transforms(out.numel(), [out.shape[d] for d in args[1]]) / 2)


def matrices(matrix: Tensor) -> int:
    """How many matrices a batch holds."""
    return prod(matrix.shape[:-2])


def arithmetic(matrix: Tensor) -> int:
    """A complex multiply-add is 4 real ones."""
    return 4 if matrix.dtype.is_complex else 1


def svd(args: Args, kwargs: Kwargs, _out: Any) -> int:
    """Golub and Van Loan, figure 8.6.1: values only, thin vectors, or all vectors."""
    matrix = args[0]
    full = argument(args, kwargs, 1, "full_matrices")
    vectors = argument(args, kwargs, 2, "compute_uv")
    m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
    if vectors is False:
        flops = 4 * m * n**2 - 4 * n**3 // 3
    elif full:
        flops = 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    else:
        flops = 14 * m * n**2 + 8 * n**3
    return matrices(matrix) * flops * arithmetic(matrix)


def eigh(args: Args, kwargs: Kwargs, _out: Any) -> int:
    """Tridiagonalisation is 4/3 n^3; with vectors the symmetric QR iteration takes 9 n^3."""
    matrix, n = args[0], int(args[0].shape[-1])
    vectors = argument(args, kwargs, 2, "compute_v")
    flops = 4 * n**3 // 3 if vectors is False else 9 * n**3
    return matrices(matrix) * flops * arithmetic(matrix)


def qr(args: Args, kwargs: Kwargs, _out: Any) -> int:
    """Householder: `2mn^2 - 2n^3/3` for R, as much again for a thin Q, `4(m^2 n - ...)` for all."""
    matrix = args[0]
    mode = argument(args, kwargs, 1, "mode") or "reduced"
    m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
    triangle = 2 * m * n**2 - 2 * n**3 // 3
    thin = triangle
    full = 4 * (m**2 * n - m * n**2) + 4 * n**3 // 3
    flops = triangle + {"r": 0, "reduced": thin, "complete": full}[mode]
    return matrices(matrix) * flops * arithmetic(matrix)


def reflect(args: Args, kwargs: Kwargs, _out: Any) -> int:
    """`ormqr`: k reflectors of length m on n vectors (Golub and Van Loan, section 5.1.6)."""
    reflectors, tau, other = args[0], args[1], args[2]
    left = argument(args, kwargs, 3, "left") is not False
    k, m = int(tau.shape[-1]), int(reflectors.shape[-2])
    n = int(other.shape[-1 if left else -2])
    return matrices(reflectors) * 2 * n * k * (2 * m - k) * arithmetic(reflectors)


def linear_solve(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """LU of every A, then a forward and a back substitution per column of the solution."""
    matrix, n = args[0], int(args[0].shape[-1])
    factorisations = matrices(matrix) * (2 * n**3 // 3)
    return (factorisations + 2 * n * int(out[0].numel())) * arithmetic(matrix)


def least_squares(args: Args, _kwargs: Kwargs, out: Any) -> int:
    """Householder QR of every A, then Q^H b and a back substitution per column of the solution."""
    matrix = args[0]
    columns = int(out[0].numel()) // int(matrix.shape[-1])
    m, n = sorted((int(size) for size in matrix.shape[-2:]), reverse=True)
    factorisations = matrices(matrix) * (2 * m * n**2 - 2 * n**3 // 3)
    return (factorisations + columns * (4 * m * n - n**2)) * arithmetic(matrix)


def _cell_products(kind: str, features: int, hidden: int) -> int:
    return 2 * CELL_GATES[kind] * hidden * (features + hidden)


def _cell(kind: str, features: int, hidden: int, *, biases: bool) -> int:
    """One time step of one sequence: `W x + b + U h + c`, and the gates."""
    added = 2 * CELL_GATES[kind] * hidden * biases
    return _cell_products(kind, features, hidden) + added + CELL_POINTWISE[kind] * hidden


def _cell_backward(kind: str, features: int, hidden: int, *, biases: bool) -> int:
    """Two gradients per product, one sum per bias, and the gates."""
    summed = 2 * CELL_GATES[kind] * hidden * biases
    return 2 * _cell_products(kind, features, hidden) + summed + CELL_BACKWARD[kind] * hidden


def mkldnn_rnn(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """One layer in one direction over an input `(time, batch, features)`."""
    x, kind = args[0], _RNN_MODES[args[9]]
    steps = int(x.shape[0] * x.shape[1])
    return steps * _cell(kind, int(x.shape[2]), int(args[10]), biases=bool(args[12]))


def mkldnn_rnn_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int:
    """Its kind is read from the gates of the recurrent weight `(gates * hidden, hidden)`."""
    x, weight_hh = args[0], args[2]
    hidden = int(weight_hh.shape[1])
    kind = {4: "lstm", 3: "gru", 1: "rnn"}[int(weight_hh.shape[0]) // hidden]
    steps = int(x.shape[0] * x.shape[1])
    return steps * _cell_backward(kind, int(x.shape[2]), hidden, biases=True)


def _cudnn_steps(args: Args, kind: str, hidden: int, cell: Callable[..., int]) -> int:
    """Layers and directions, each with `args[2]` weights of the list `args[1]`."""
    x, weights, per_layer = args[0], args[1], args[2]
    layers = [weights[i : i + per_layer] for i in range(0, len(weights), per_layer)]
    features = [int(layer[0].shape[1]) for layer in layers]
    step = sum(cell(kind, size, hidden, biases=per_layer >= 4) for size in features)
    return int(x.numel() // x.shape[-1]) * step


def cudnn_rnn(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """Every layer and direction; a projection (`proj_size`) has no rule."""
    if args[8]:
        return None
    return _cudnn_steps(args, _RNN_MODES[args[6]], int(args[7]), _cell)


def cudnn_rnn_backward(args: Args, _kwargs: Kwargs, _out: Any) -> int | None:
    """As `cudnn_rnn`."""
    if args[12]:
        return None
    return _cudnn_steps(args, _RNN_MODES[args[10]], int(args[11]), _cell_backward)


def _lengths(x: Tensor) -> list[int]:
    """Tokens of every sequence of a `(batch, length, width)` or of a nested tensor."""
    if x.is_nested:
        return [int(length) for length, _ in x._nested_tensor_size().tolist()]  # noqa: SLF001
    return [int(x.shape[1])] * int(x.shape[0])


def _self_attention(lengths: list[int], width: int, heads: int, *, masked: bool) -> int:
    """Query, key and value; scaled scores; softmax; the weighted sum; the output projection."""
    tokens = sum(lengths)
    scores = heads * sum(length**2 for length in lengths)
    projections = tokens * (2 * width * 4 * width + 4 * width)
    products = 2 * 2 * scores * (width // heads)
    return projections + 2 * tokens * width + products + scores * (SOFTMAX + masked)


def native_attention(args: Args, kwargs: Kwargs, _out: Any) -> int | None:
    """`_native_multi_head_attention(query, key, value, embed_dim, num_head, ...)` of one input."""
    query = args[0]
    if query is not args[1] or query is not args[2]:
        return None
    masked = argument(args, kwargs, 9, "mask") is not None
    return _self_attention(_lengths(query), args[3], args[4], masked=masked)


def transformer_layer(args: Args, kwargs: Kwargs, _out: Any) -> int:
    """`_transformer_encoder_layer_fwd`: attention, two sums, two layer norms, the feed-forward."""
    x, width, heads, inner = args[0], args[1], args[2], int(args[15].shape[0])
    lengths = _lengths(x)
    tokens = sum(lengths)
    masked = argument(args, kwargs, 19, "mask") is not None
    attention = _self_attention(lengths, width, heads, masked=masked)
    residuals, norms = 2 * tokens * width, 2 * tokens * width * (NORMALISE + 2)
    feed_forward = tokens * (2 * 2 * width * inner + inner + width + inner)
    return int(attention + residuals + norms + feed_forward)


def adam_weight(kwargs: Kwargs) -> int:
    """Moments 3 and 4, the denominator 3, the update 3; L2 decay is 2 more."""
    return int(13 + kwargs["amsgrad"] + kwargs["maximize"] + 2 * (kwargs["weight_decay"] != 0))


def adamw_weight(kwargs: Kwargs) -> int:
    """As Adam; the decoupled decay is one multiply."""
    return int(13 + kwargs["amsgrad"] + kwargs["maximize"] + (kwargs["weight_decay"] != 0))


def sgd_weight(kwargs: Kwargs) -> int:
    """The update 2; decay 2; momentum 2 (3 with dampening) after its first step; Nesterov 2."""
    momentum = 0
    if kwargs["momentum"] != 0 and not kwargs["is_first_step"]:
        momentum = 2 + (kwargs["dampening"] != 0)
    nesterov = 2 * kwargs["nesterov"]
    decay = 2 * (kwargs["weight_decay"] != 0)
    return int(2 + kwargs["maximize"] + decay + momentum + nesterov)


def adagrad_weight(kwargs: Kwargs) -> int:
    """Sum of squares 2, its root plus epsilon 2, the update 3; decay 2."""
    return int(7 + kwargs["maximize"] + 2 * (kwargs["weight_decay"] != 0))
