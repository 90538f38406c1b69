"""How many elements a tensor stores, and where; and the rules that cost so much per element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flops.counting.costs.table import Formulas

_BY_ROWS = (Tensor.crow_indices, Tensor.col_indices)
_BY_COLUMNS = (Tensor.ccol_indices, Tensor.row_indices)
_INDICES = {
    torch.sparse_coo: (Tensor._indices,),  # noqa: SLF001 - the public ways need a coalesced tensor
    torch.sparse_csr: _BY_ROWS,
    torch.sparse_bsr: _BY_ROWS,
    torch.sparse_csc: _BY_COLUMNS,
    torch.sparse_bsc: _BY_COLUMNS,
}
_ORDINARY = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
}


def per_output(weight: int = 1, complex_weight: int | None = None) -> Formulas:
    """`weight` FLOPs per element of the (first) output."""

    def cost(out: Any) -> int | None:
        result = out if isinstance(out, Tensor) else first_tensor(out)
        return weighted(result, weight, complex_weight)

    return Formulas(cost)


def per_input(weight: int = 1, complex_weight: int | None = None, *, of: str = "self") -> Formulas:
    """`weight` FLOPs per element of the argument `of`."""

    def cost(tensor: Tensor, out: Any) -> int | None:
        if not is_exact(tensor) or not isinstance(out, Tensor) or is_exact(out):
            return weighted(tensor, weight, complex_weight)
        return tensor.numel() * weight  # integers, reduced as floating-point numbers

    return Formulas(cost, names={"tensor": of})


def tensors_in(*values: Any) -> Iterator[Tensor]:
    """The tensors among values and lists of values."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(*value)


def first_tensor(*values: Any) -> Tensor:
    """The first tensor among values and lists of values."""
    for tensor in tensors_in(*values):
        return tensor
    raise TypeError("an operator without a tensor has no elements to count")


def weighted(tensor: Tensor, weight: int, complex_weight: int | None = None) -> int | None:
    """`weight` or `complex_weight` FLOPs per element; 0 for integers and booleans."""
    if tensor.dtype.is_floating_point and tensor.layout == torch.strided:
        return tensor.numel() * weight
    if is_exact(tensor):
        return 0
    each = weight_of(tensor, weight, complex_weight)
    if each is None or stores_unknown(tensor):
        return None
    return (stored(tensor) if is_sparse(tensor) else tensor.numel()) * each


def weight_of(tensor: Tensor, weight: int, complex_weight: int | None = None) -> int | None:
    """Which of both holds for a tensor of this kind; 0 for integers and booleans."""
    if tensor.dtype.is_complex:
        return complex_weight
    return 0 if is_exact(tensor) else weight


def wanted(*tensors: Tensor) -> list[bool]:
    """Which of a backward kernel's inputs have a gradient that was asked for.

    A kernel without an `output_mask` computes them all. What autograd saved for it still says which
    require one. Where none does, the kernel was called directly, and is asked for all.
    """
    require = [tensor.requires_grad for tensor in tensors]
    return require if any(require) else [True] * len(tensors)


def is_exact(tensor: Tensor) -> bool:
    """Whether its elements are integers or booleans, and no others in their form (`quint8`)."""
    return tensor.dtype in _ORDINARY


def is_sparse(tensor: Tensor) -> bool:
    """Whether a tensor stores some of its elements: `Tensor.is_sparse` knows COO alone."""
    return tensor.layout in _INDICES


def parts_of(sparse: Tensor) -> list[Tensor]:
    """The tensors that a sparse one stores: its indices, and last its values."""
    values = Tensor._values if sparse.layout is torch.sparse_coo else Tensor.values  # noqa: SLF001 - as above
    return [part(sparse) for part in (*_INDICES[sparse.layout], values)]


def storage_of(tensor: Tensor) -> UntypedStorage | None:
    """The storage that a tensor shares with its views, fake ones too.

    PyTorch has one Python object for a storage, which lives as long as the storage does, whoever
    holds it. Sparse and opaque tensors have none, nor those that `torch.func` transforms.
    """
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        return None


def stored(sparse: Tensor) -> int:
    """Stored values; a block of a block-sparse matrix stores every element of the block."""
    return parts_of(sparse)[-1].numel()


def stores_unknown(tensor: Tensor) -> bool:
    """Whether a tensor is sparse and has a shape alone: nobody knows how many values it stores."""
    return has_no_values(tensor) and is_sparse(tensor) and not stored(tensor)


def has_no_values(tensor: Tensor) -> bool:
    """Whether a tensor is a shape alone: fake, or on the meta device."""
    return isinstance(tensor, FakeTensor) or tensor.is_meta
