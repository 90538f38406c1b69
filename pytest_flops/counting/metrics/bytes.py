"""`bytes`: the memory traffic of eager operators, operands only.

It is what an ideal kernel of each operator has to move: every distinct region of memory among its
arguments is read once, and every one of its results is written once. What an operator reads and
writes follows from its schema and from the exceptions in `operands`. A kernel's own scratch is not
in it, nor what a cache or a compiler would spare.

Regions are told apart by storage, start and span, never by an address in memory, so fake tensors
and tensors on the meta device move as much as real ones.
"""

from __future__ import annotations

from functools import cache
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from pytest_flops.counting import metrics
from pytest_flops.counting.costs import registered_cost
from pytest_flops.counting.costs.elements import is_sparse, parts_of, storage_of, tensors_in
from pytest_flops.counting.costs.table import bound
from pytest_flops.counting.metrics.operands import (
    Operands,
    always,
    exceptions_of,
    moves_nothing,
    never,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flops.counting.metrics import Price

_LISTS = (list, tuple)
_STRIDED = torch.strided


class Counter(metrics.Counter):
    """The bytes that each call reads and writes."""

    def of_operator(self, func: Any) -> Price | None:
        """The bytes that its calls move."""
        return traffic_of(func)


def traffic_of(func: Any) -> Price | None:
    """What the calls of an operator move; `None` if they move nothing, whatever they are given.

    A higher-order operator and a Triton kernel, which have no schema, move the tensors among their
    arguments once, and those that they return. What somebody registered for it comes first.
    """
    return registered_price("bytes", func) or _traffic_of(func)


def registered_price(metric: str, func: Any) -> Price | None:
    """What somebody registered an operator, or the function of a Triton kernel, to cost."""
    cost = registered_cost(metric, func)
    return cost and (lambda call: cost(call.args, call.kwargs, call.out) or 0)


@cache
def _traffic_of(func: Any) -> Price | None:
    if not isinstance(func, OpOverload):
        return lambda call: of_all(*tree_leaves((call.args, call.kwargs))) + of_one(call.out)
    name = func.overloadpacket.__name__
    is_view = func.is_view or torch.Tag.inplace_view in func.tags
    if is_view or moves_nothing(func.namespace, name):
        return None
    return _compiled(func, exceptions_of(func.namespace, name))


def _compiled(func: OpOverload, exceptions: Operands) -> Price:
    """The traffic of an operator that has a schema, as a function of its calls.

    Every operator of a step comes here, so the function is compiled, as `bound` compiles formulas.
    """
    schema = func._schema  # noqa: SLF001 - PyTorch has no public way to a schema
    names: dict[str, Any] = {"of_one": of_one, "of_two": of_two, "of_all": of_all, "part": part}

    def formula(of_arguments: Callable[..., Any]) -> str:
        name = f"formula_{len(names)}"
        names[name] = bound(of_arguments, func)
        return f"{name}(args, kwargs, out)"

    read: list[str] = []
    written: list[str] = []
    parts: list[str] = []
    for place, argument in enumerate(schema.arguments):
        if "Tensor" not in str(argument.type):
            continue
        name, value = argument.name, _expression(place, argument)
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        reads = never if argument.is_out else exceptions.read.get(name, always)
        writes = exceptions.written.get(name, always if is_written else never)
        elements = exceptions.elements.get(name)
        for condition, whole in ((reads, read), (writes, written)):
            if condition is never:
                continue
            touched = value
            if condition is not always:
                touched = f"({value} if {formula(condition)} else None)"
            if elements is None:
                whole.append(touched)
            else:
                parts.append(f"part({touched}, {formula(elements)})")
    results = _new_results(schema)
    written += [result for result in results if exceptions.written.get(result) is not never]
    for values in (read, written):
        if values:
            regions = {1: "of_one", 2: "of_two"}.get(len(values), "of_all")
            parts.append(f"{regions}({', '.join(values)})")
    operands = "args, kwargs, out = call.args, call.kwargs, call.out"
    exec(f"def traffic(call):\n    {operands}\n    return {' + '.join(parts) or 0}", names)
    traffic: Price = names["traffic"]
    return traffic


def _expression(place: int, argument: Any) -> str:
    """An argument of a call; the dispatcher gives those by position that have to be there."""
    if argument.kwarg_only or argument.has_default_value():
        return f"(args[{place}] if len(args) > {place} else kwargs.get({argument.name!r}))"
    return f"args[{place}]"


def _new_results(schema: Any) -> list[str]:
    """The results that are no argument and no view of one, as they are read from `out`."""
    new = [result.alias_info is None for result in schema.returns]
    if len(new) == 1:
        return ["out"] * new[0]
    return [f"out[{place}]" for place, is_new in enumerate(new) if is_new]


def of_all(*values: Any) -> int:
    """The bytes of the distinct regions of memory of all tensors among values and lists of values.

    Regions are the same if they have storage, start and span in common. Those that overlap in part
    count each.
    """
    tensors = [*tensors_in(*values)]
    if len({*map(storage_of, tensors)}) == len(tensors):  # most often; cheaper than regions
        return sum(map(of_one, tensors))
    return sum([region[-1] for region in {*map(_region, tensors)}])


def of_one(value: Any) -> int:
    """The same of a single value, which most often is a tensor without gaps."""
    if isinstance(value, Tensor):
        if value.layout is _STRIDED and value.is_contiguous():
            return value.nbytes
        return _size_with_gaps(value)
    return of_all(*value) if isinstance(value, _LISTS) else 0


def of_two(one: Any, other: Any) -> int:
    """The same of two values; most often they have nothing but their size in common."""
    if isinstance(one, _LISTS) or isinstance(other, _LISTS):
        return of_all(one, other)
    size, other_size = of_one(one), of_one(other)
    if size != other_size or not size or storage_of(one) is not storage_of(other):
        return size + other_size
    return size if _region(one) == _region(other) else size + other_size


def part(tensor: Tensor | None, elements: int) -> int:
    """The bytes of so many elements of a tensor, and of no more than it has."""
    return 0 if tensor is None else min(of_one(tensor), elements * tensor.itemsize)


def _size_with_gaps(tensor: Tensor) -> int:
    """How many bytes of memory a tensor has; those that several elements share count once."""
    if tensor.layout is not _STRIDED:
        return _size_without_strides(tensor)
    return _strided(tensor)[0]


def _region(tensor: Tensor) -> tuple[Any, ...]:
    """What tells the memory of a tensor from others'; its size comes last."""
    if tensor.layout is not _STRIDED:
        return id(tensor), _size_without_strides(tensor)
    storage = tensor.untyped_storage()
    start = tensor.storage_offset() * tensor.itemsize
    if tensor.is_contiguous():
        size = tensor.nbytes
        return storage, start, size, size
    size, span = _strided(tensor)
    return storage, start, span, size


def _strided(tensor: Tensor) -> tuple[int, int]:
    """The size of a tensor with gaps or overlaps, and the span of bytes that it reaches over.

    It is not empty: PyTorch calls every empty tensor contiguous.
    """
    if tensor.is_nested:
        return tensor.nbytes, tensor.nbytes
    shape, strides = tensor.shape, tensor.stride()
    reach = 1 + sum(map(mul, shape, strides)) - sum(strides)  # of (length - 1) * stride, and 1
    elements = tensor.numel()
    if 0 in strides:  # a dimension of stride 0 is one element, repeated
        elements = prod([length for length, stride in zip(shape, strides, strict=True) if stride])
    # Windows that overlap hold no more than their span.
    return min(elements, reach) * tensor.itemsize, reach * tensor.itemsize


def _size_without_strides(tensor: Tensor) -> int:
    """A sparse tensor's values and indices; an opaque one's elements."""
    return of_all(parts_of(tensor)) if is_sparse(tensor) else tensor.numel() * tensor.itemsize
