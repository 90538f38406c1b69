"""Matrix products and convolutions: 2 FLOPs per multiply-add, and a bias on a line of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from pytest_flops.counting.costs.elements import (
    is_sparse,
    per_output,
    stored,
    stores_unknown,
    weighted,
)
from pytest_flops.counting.costs.table import Call, RuleByName, enter, rule


def multiply_add(tensor: Tensor) -> int:
    """2 FLOPs; complex 8, a multiply of 6 and an add of 2; 0 for integers."""
    if tensor.dtype.is_floating_point:
        return 2
    return 8 if tensor.dtype.is_complex else 0


def matrix_product(a: Tensor, b: Tensor) -> int | None:
    """`(..., m, k) @ (..., k, n)`, `(m, k) @ (k,)` or `(k,) @ (k,)`; one may be sparse.

    What a product of two sparse matrices costs depends on where their values stand: no cost.
    """
    columns = b.shape[-1] if b.dim() > 1 else 1
    if not is_sparse(a) and not is_sparse(b):
        return multiply_add(a) * a.numel() * columns
    if (is_sparse(a) and is_sparse(b)) or stores_unknown(a) or stores_unknown(b):
        return None
    if is_sparse(a):
        return multiply_add(a) * stored(a) * columns
    return multiply_add(b) * stored(b) * prod(a.shape[:-1])


def _product(left: str, right: str) -> RuleByName:
    """The matrix product of two arguments."""
    return RuleByName(lambda call: matrix_product(call.argument(left), call.argument(right)))


def _bias(call: Call) -> int | None:
    """One addition per output element; a bias times 0 is not added."""
    return 0 if call.argument("beta") == 0 else weighted(call.out, 1, 2)


def _product_with_bias(left: str, right: str) -> RuleByName:
    """`beta * self + left @ right`; the scalars `alpha` and `beta` are free."""
    return RuleByName(_product(left, right).formula, _bias, "bias")


def _bias_of_sum(call: Call) -> int:
    """`self + sum_b batch1[b] @ batch2[b]` adds one matrix per batch entry."""
    return int(call.argument("batch1").shape[0]) * (weighted(call.out, 1, 2) or 0)


enter(
    mm=_product("self", "mat2"),
    bmm=_product("self", "mat2"),
    mv=_product("self", "vec"),
    dot=_product("self", "tensor"),
    vdot=_product("self", "other"),
    addmm=_product_with_bias("mat1", "mat2"),
    addmv=_product_with_bias("mat", "vec"),
    baddbmm=_product_with_bias("batch1", "batch2"),
    addbmm=RuleByName(_product("batch1", "batch2").formula, _bias_of_sum, "bias"),
    addr=per_output(2, 8),
    _addmm_activation=_product_with_bias("mat1", "mat2"),
    _sparse_addmm=_product_with_bias("mat1", "mat2"),
    _sparse_mm=_product("sparse", "dense"),
    _sparse_mm_reduce_impl=_product("self", "other"),
)


def _optional_bias(call: Call) -> int | None:
    """One addition per output element, where there is a bias."""
    return 0 if call.argument("bias") is None else weighted(call.out, 1, 2)


@rule("linear", bias=_optional_bias)
def linear(call: Call) -> int:
    """`input @ weight.T`, of `(..., in)` and `(out, in)`."""
    x = call.argument("input")
    return multiply_add(x) * int(x.numel() * call.argument("weight").shape[0])


@rule("sparse_sampled_addmm", bias=_bias)
def sampled_product(call: Call) -> int | None:
    """`(m, k) @ (k, n)` where the sparse `self` stores a value."""
    sparse, left = call.argument("self"), call.argument("mat1")
    if stores_unknown(sparse):
        return None
    return multiply_add(left) * stored(sparse) * int(left.shape[-1])


@rule("_sparse_mm_reduce_impl_backward")
def sparse_product_backward(call: Call) -> int | None:
    """A product for each gradient that is wanted."""
    sparse = call.argument("self")
    if stores_unknown(sparse):
        return None
    columns = call.argument("grad_out").shape[-1]
    return int(2 * stored(sparse) * columns * sum(call.argument("output_mask")))


@rule("_int_mm")
def quantised_product(call: Call) -> int:
    """An integer product that stands for a floating-point one: `(m, k) @ (k, n)`, 2 each."""
    return int(2 * call.argument("self").numel() * call.argument("mat2").shape[-1])


@rule("_grouped_mm")
def grouped_product(call: Call) -> int:
    """Every row of a group times the matrix of its group.

    2-D times 3-D groups the rows, 3-D times 2-D the columns, 2-D times 2-D the inner dimension:
    in each the groups split one dimension, so the multiply-adds are those of one product.
    """
    a, b = call.argument("self"), call.argument("mat2")
    rows_and_inner = a.shape[1:] if a.dim() > b.dim() else a.shape
    return int(multiply_add(a) * prod(rows_and_inner) * b.shape[-1])


@rule("_trilinear")
def trilinear(call: Call) -> int:
    """`sum_d i1 * i2 * i3` (`nn.Bilinear`): first i1 with i2, then the result with i3.

    Sizes are read after broadcasting; dimensions that i3 does not have are summed by the first
    product, the other summed dimensions by the second.
    """
    summed = set(call.argument("sumdim"))
    dims = call.out.dim() + len(summed)
    first, second, third = (
        _unsqueezed(call.argument(f"i{i}"), call.argument(f"expand{i}"), dims) for i in (1, 2, 3)
    )
    add, multiply = {0: (0, 0), 2: (2, 1), 8: (8, 6)}[multiply_add(call.argument("i1"))]
    pairs = [max(a, b) for a, b in zip(first, second, strict=True)]
    first_sums = summed & set(call.argument("expand3"))
    between = [1 if d in first_sums else size for d, size in enumerate(pairs)]
    results = [max(a, b) for a, b in zip(between, third, strict=True)]
    return prod(pairs) * (add if first_sums else multiply) + prod(results) * (
        add if summed - first_sums else multiply
    )


def _unsqueezed(tensor: Tensor, positions: Sequence[int], dims: int) -> list[int]:
    sizes = iter(tensor.shape)
    return [1 if d in positions else next(sizes) for d in range(dims)]


def _convolution(call: Call, positions: Tensor) -> int:
    """2 per weight per position: output positions, or input positions when transposed.

    The weight holds `c_in / groups` channels, so groups need no term of their own.
    """
    x, weight = call.argument("input"), call.argument("weight")
    shape = (x if call.argument("transposed") else positions).shape
    return int(multiply_add(x) * x.shape[0] * prod(shape[2:]) * weight.numel())


@rule("convolution", "_convolution", bias=_optional_bias)
def convolution(call: Call) -> int:
    """Of an input `(batch, c_in, *size)` and a weight `(c_out, c_in / groups, *kernel)`."""
    return _convolution(call, call.out)


def _convolution_bias_gradient(call: Call) -> int:
    """The bias's gradient sums the output's."""
    of_bias = call.argument("output_mask")[2]
    return (weighted(call.argument("grad_output"), 1, 2) or 0) if of_bias else 0


@rule("convolution_backward", bias=_convolution_bias_gradient)
def convolution_backward(call: Call) -> int:
    """The gradients of input and of weight cost a forward each."""
    of_input, of_weight, _ = call.argument("output_mask")
    return _convolution(call, call.argument("grad_output")) * int(of_input + of_weight)
