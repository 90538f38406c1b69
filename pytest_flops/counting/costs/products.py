"""Matrix products and convolutions: 2 FLOPs per multiply-add, and a bias on a line of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from pytest_flops.counting.costs.elements import (
    is_exact,
    is_sparse,
    per_output,
    stored,
    stores_unknown,
    weighted,
)
from pytest_flops.counting.costs.table import Formula, Formulas, Rules


def multiply_add(tensor: Tensor) -> int:
    """2 FLOPs; complex 8, a multiply of 6 and an add of 2; 0 for integers."""
    if tensor.dtype.is_complex:
        return 8
    return 0 if is_exact(tensor) else 2


def matrix_product(a: Tensor, b: Tensor) -> int | None:
    """`(..., m, k) @ (..., k, n)`, `(m, k) @ (k,)` or `(k,) @ (k,)`; they may be sparse."""
    columns = b.shape[-1] if b.dim() > 1 else 1
    if not is_sparse(a) and not is_sparse(b):
        return multiply_add(a) * a.numel() * columns
    if stores_unknown(a) or stores_unknown(b):
        return None
    if is_sparse(a) and is_sparse(b):
        return multiply_add(a) * _meetings(a, b)
    if is_sparse(a):
        return multiply_add(a) * stored(a) * columns
    return multiply_add(b) * stored(b) * prod(a.shape[:-1])


def _meetings(a: Tensor, b: Tensor) -> int:
    """How often a value that `(m, k)` stores meets one that `(k, n)` stores."""
    (_, columns), (rows, _) = map(_places, (a, b))
    return int(rows.bincount(minlength=b.shape[0])[columns].sum())


def _places(matrix: Tensor) -> Tensor:
    """Rows and columns of what a sparse matrix stores."""
    places: Tensor = matrix.to_sparse(layout=torch.sparse_coo)._indices()  # noqa: SLF001 - the public way needs a coalesced tensor
    return places


def _product(left: str, right: str, bias: Formula | None = None) -> Formulas:
    """The matrix product of two arguments; `alpha` and `beta` are free."""
    return Formulas(matrix_product, bias, names={"a": left, "b": right})


def _bias(out: Tensor, beta: Any) -> int | None:
    """`beta * self + left @ right` adds once per output element; `self` times 0 is not added."""
    return 0 if beta == 0 else weighted(out, 1, 2)


def _optional_bias(out: Tensor, bias: Tensor | None) -> int | None:
    """One addition per output element, where there is a bias."""
    return 0 if bias is None else weighted(out, 1, 2)


def _bias_of_sum(out: Tensor, batch1: Tensor) -> int:
    """`self + sum_b batch1[b] @ batch2[b]` adds one matrix per batch entry."""
    return batch1.shape[0] * (weighted(out, 1, 2) or 0)


def _scaled_product(self: Tensor, mat2: Tensor) -> int:
    """`(m, k) @ (k, n)` of few bits; scales are not counted."""
    return 2 * _unpacked(self) * mat2.shape[-1]


def _scaled_grouped_product(self: Tensor, mat2: Tensor) -> int:
    return _grouped_product(self, mat2) * _unpacked(self) // self.numel()


def _unpacked(tensor: Tensor) -> int:
    """Elements of a tensor; of four bits, two are stored as one."""
    return tensor.numel() * (2 if tensor.dtype == torch.float4_e2m1fn_x2 else 1)


def _grouped_product(self: Tensor, mat2: Tensor) -> int:
    """Every row of a group times the matrix of its group.

    2-D times 3-D groups the rows, 3-D times 2-D the columns, 2-D times 2-D the inner dimension:
    in each the groups split one dimension, so the multiply-adds are those of one product.
    """
    rows_and_inner = self.shape[1:] if self.dim() > mat2.dim() else self.shape
    return multiply_add(self) * prod(rows_and_inner) * mat2.shape[-1]


def _trilinear(
    out: Tensor,
    i1: Tensor,
    i2: Tensor,
    i3: Tensor,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
) -> int:
    """`sum_d i1 * i2 * i3` (`nn.Bilinear`): first i1 with i2, then the result with i3.

    Sizes are read after broadcasting; dimensions that i3 does not have are summed by the first
    product, the other summed dimensions by the second.
    """
    dims = out.dim() + len(set(sumdim))
    inputs = zip((i1, i2, i3), (expand1, expand2, expand3), strict=True)
    first, second, third = (_unsqueezed(x, expand, dims) for x, expand in inputs)
    add, multiply = {0: (0, 0), 2: (2, 1), 8: (8, 6)}[multiply_add(i1)]
    pairs = [max(a, b) for a, b in zip(first, second, strict=True)]
    first_sums = set(sumdim) & set(expand3)
    between = [1 if d in first_sums else size for d, size in enumerate(pairs)]
    results = [max(a, b) for a, b in zip(between, third, strict=True)]
    return prod(pairs) * (add if first_sums else multiply) + prod(results) * (
        add if set(sumdim) - first_sums else multiply
    )


def _unsqueezed(tensor: Tensor, positions: Sequence[int], dims: int) -> list[int]:
    sizes = iter(tensor.shape)
    return [1 if d in positions else next(sizes) for d in range(dims)]


def convolution(out: Tensor, input: Tensor, weight: Tensor, transposed: bool) -> int:
    """2 per weight per position: output positions, or input positions when transposed.

    Of an input `(batch, c_in, *size)` and a weight `(c_out, c_in / groups, *kernel)`, which holds
    `c_in / groups` channels, so groups need no term of their own.
    """
    positions = prod((input if transposed else out).shape[2:])
    return multiply_add(input) * input.shape[0] * positions * weight.numel()


def _bias_gradient(grad_output: Tensor, output_mask: Sequence[bool]) -> int:
    """The bias's gradient sums the output's."""
    return (weighted(grad_output, 1, 2) or 0) if output_mask[2] else 0


def _convolution_and_relu(
    out: Tensor, self: Tensor, weight: Tensor, z: Tensor | None = None
) -> int:
    """ReLU, and the sum with `z`."""
    return convolution(out, self, weight, transposed=False) + out.numel() * (1 + (z is not None))


def _linear(x: Tensor, weight: Tensor) -> int:
    """`x @ weight.T`, of `(..., in)` and `(out, in)`."""
    return multiply_add(x) * x.numel() * weight.shape[0]


def _linear_backward(
    self: Tensor, grad_output: Tensor, weight: Tensor, output_mask: Sequence[bool]
) -> int:
    """A product each for the gradients of input and of weight."""
    of_input, of_weight, _ = output_mask
    return (of_input + of_weight) * multiply_add(self) * grad_output.numel() * weight.shape[1]


def _convolution_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, transposed: bool, output_mask: list[bool]
) -> int:
    """The gradients of input and of weight cost a forward each."""
    of_input, of_weight, _ = output_mask
    return (of_input + of_weight) * convolution(grad_output, input, weight, transposed)


_OF_INTEGER_WEIGHTS = """
    _weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu
    _weight_int4pack_mm_with_scales_and_zeros
    """

RULES: Rules = {
    "mm bmm": _product("self", "mat2"),
    "mv": _product("self", "vec"),
    "dot": _product("self", "tensor"),
    "vdot": _product("self", "other"),
    "addmm _addmm_activation _sparse_addmm": _product("mat1", "mat2", _bias),
    "addmv": _product("mat", "vec", _bias),
    "baddbmm": _product("batch1", "batch2", _bias),
    "addbmm": _product("batch1", "batch2", _bias_of_sum),
    "addr": per_output(2, 8),
    "_sparse_mm": _product("sparse", "dense"),
    "_sparse_sparse_matmul": _product("self", "other"),
    "hspmm": _product("mat1", "mat2"),
    # what the sparse `self` stores is added
    "sspaddmm": _product("mat1", "mat2", lambda self: weighted(self, 1)),
    "_sparse_mm_reduce_impl": _product("self", "other"),
    "linear": Formulas(_linear, _optional_bias, names={"x": "input"}),
    "mkldnn_linear": Formulas(_linear, _optional_bias, names={"x": "self"}),
    "mkldnn_linear_backward": Formulas(_linear_backward, _bias_gradient),
    # an integer product that stands for a floating-point one: `(m, k) @ (k, n)`, 2 each
    "_int_mm": _scaled_product,
    # of eight or four bits, times a weight that may be packed; an integer weight alone
    "_scaled_mm _scaled_mm_v2": Formulas(_scaled_product, _optional_bias),
    "_scaled_grouped_mm _scaled_grouped_mm_v2": Formulas(_scaled_grouped_product, _optional_bias),
    _OF_INTEGER_WEIGHTS: lambda out, self: 2 * self.numel() * out.shape[-1],
    "_dyn_quant_matmul_4bit": lambda out, inp: 2 * inp.numel() * out.shape[-1],
    "_mixed_dtypes_linear": Formulas(
        lambda out, input: 2 * input.numel() * out.shape[-1], _optional_bias
    ),
    # a matrix that stores two of four values
    "_sparse_semi_structured_mm": lambda mat1, mat2: 2 * mat1.numel() * mat2.shape[-1],
    "_sparse_semi_structured_addmm": Formulas(
        lambda mat1, mat2: 2 * mat1.numel() * mat2.shape[-1], _bias
    ),
    "_sparse_semi_structured_linear": Formulas(
        lambda input, weight: 2 * weight.numel() * prod(input.shape[:-1]), _optional_bias
    ),
    # `(m, k) @ (k, n)` where the sparse `self` stores a value
    "sparse_sampled_addmm": Formulas(
        lambda self, mat1: (
            None if stores_unknown(self) else multiply_add(mat1) * stored(self) * mat1.shape[-1]
        ),
        _bias,
    ),
    # a product for each gradient that is wanted
    "_sparse_mm_reduce_impl_backward": lambda self, grad_out, output_mask: (
        None if stores_unknown(self) else 2 * stored(self) * grad_out.shape[-1] * sum(output_mask)
    ),
    "_grouped_mm": Formulas(_grouped_product, _optional_bias),
    "_trilinear": _trilinear,
    "convolution _convolution": Formulas(convolution, _optional_bias),
    "mkldnn_convolution": Formulas(
        lambda out, self, weight: convolution(out, self, weight, transposed=False), _optional_bias
    ),
    "cudnn_convolution_relu cudnn_convolution_add_relu": Formulas(
        _convolution_and_relu, _optional_bias
    ),
    # of (steps, batch, channels), a weight (taps, channels, filters)
    "conv_tbc": Formulas(
        lambda out, weight: 2 * out.numel() * weight.shape[0] * weight.shape[1], _optional_bias
    ),
    "convolution_backward": Formulas(_convolution_backward, _bias_gradient),
}
