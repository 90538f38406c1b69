"""`bytes`: the memory traffic of eager operators, operands only.

It is what an ideal kernel of each operator has to move: every distinct region of memory among its
arguments is read once, and every one of its results is written once. What an operator reads and
writes follows from its schema and from the exceptions in `operands`. A kernel's own scratch is not
in it, nor what a cache or a compiler would spare.

Regions are told apart by storage, start and span, never by an address in memory, so fake tensors
and tensors on the meta device move as much as real ones.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs.table import bound
from pytest_flops.counting.metrics.operands import always, exceptions_of, moves_nothing, never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_flops.counting.costs.table import Args, Kwargs
    from pytest_flops.counting.metric import Costs
    from pytest_flops.counting.metrics import Call
    from pytest_flops.counting.metrics.operands import Operands

Traffic: TypeAlias = "Callable[[Args, Kwargs, Any], int] | None"
"""The bytes that a call of one operator moves; `None` if it moves none, whatever it is given."""


class Counter:
    """The bytes that each call moves, and those of each operator in `details["operations"]`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # several threads may count at once
        self._operations: defaultdict[tuple[Any, str], int] = defaultdict(int)

    def start(self, note: Callable[[int], None]) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to undo."""

    def of_call(self, call: Call) -> int:
        """What a call reads and writes."""
        cost = self.cost(call)
        if cost:
            with self._lock:
                self._operations[call.func, call.phase] += cost
        return cost

    def cost(self, call: Call) -> int:
        """The same; another metric of operators replaces it."""
        return moved_by(call)

    def finished(self, costs: Costs, paths: Mapping[int, str]) -> Costs:  # noqa: ARG002
        """The costs with those of each operator, by phase."""
        operations: dict[str, dict[str, int]] = {}
        with self._lock:
            for (func, phase), cost in self._operations.items():
                of_phase = operations.setdefault(str(getattr(func, "_overloadpacket", func)), {})
                told = "backward" if phase == "recomputed" else phase
                of_phase[told] = of_phase.get(told, 0) + cost
        return replace(costs, details={"operations": dict(sorted(operations.items()))})


def moved_by(call: Call) -> int:
    """The bytes that a call reads and writes."""
    func = call.func
    known = _known.get(id(func))
    if known is None:
        known = _known[id(func)] = (func, traffic_of(func))
    traffic = known[1]
    return 0 if traffic is None else traffic(call.args, call.kwargs, call.out)


# By id, since the hash of an operator is a function in Python. Each is kept alive here, so that its
# id is never another's.
_known: dict[int, tuple[object, Traffic]] = {}


def traffic_of(func: Any) -> Traffic:
    """What the calls of an operator move.

    A higher-order operator, which has no schema, reads the tensors among its arguments and writes
    those that it returns.
    """
    if not isinstance(func, OpOverload):
        return lambda args, kwargs, out: of_all(*tree_leaves((args, kwargs))) + of_one(out)
    name = func._overloadpacket.__name__  # noqa: SLF001 - the overload's only way to its name
    is_view = func.is_view or torch.Tag.inplace_view in func.tags
    if is_view or moves_nothing(func.namespace, name):
        return None
    return _compiled(func, exceptions_of(func.namespace, name))


def _compiled(func: OpOverload, exceptions: Operands) -> Traffic:
    """The traffic of an operator that has a schema, as a function of its calls.

    Every operator of a step comes here, so the function is compiled, as `bound` compiles formulas.
    """
    schema = func._schema  # noqa: SLF001 - PyTorch has no public way to a schema
    names = {"of_one": of_one, "of_two": of_two, "of_all": of_all, "part": part}

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
        name = argument.name
        value = f"(args[{place}] if len(args) > {place} else kwargs.get({name!r}))"
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
    written += _new_results(schema)
    for values in (read, written):
        if values:
            regions = {1: "of_one", 2: "of_two"}.get(len(values), "of_all")
            parts.append(f"{regions}({', '.join(values)})")
    source = f"lambda args, kwargs, out: {' + '.join(parts) or 0}"
    traffic: Traffic = eval(source, names)
    return traffic


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
    return sum([region[-1] for region in {*map(_region, _flattened(values))}])


def of_one(value: Any) -> int:
    """The same of a single value, which most often is a tensor."""
    return _size(value) if isinstance(value, Tensor) else of_all(value)


def of_two(one: Any, other: Any) -> int:
    """The same of two values; most often they have nothing but their size in common."""
    if isinstance(one, _LISTS) or isinstance(other, _LISTS):
        return of_all(one, other)
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return of_one(one) + of_one(other)
    size, other_size = _size(one), _size(other)
    are_same = size == other_size and _region(one) == _region(other)
    return size if are_same else size + other_size


def part(tensor: Tensor | None, elements: int) -> int:
    """The bytes of so many elements of a tensor, and of no more than it has."""
    return 0 if tensor is None else min(_size(tensor), elements * tensor.itemsize)


def _flattened(values: Iterable[Any]) -> list[Tensor]:
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors += (value,)
        elif isinstance(value, _LISTS):
            tensors += _flattened(value)
    return tensors


_LISTS = (list, tuple)
_STRIDED = torch.strided


def _size(tensor: Tensor) -> int:
    """How many bytes of memory a tensor has; those that several elements share count once."""
    if tensor.layout is not _STRIDED:
        return _size_without_strides(tensor)
    return tensor.nbytes if tensor.is_contiguous() else _strided(tensor)[0]


def _region(tensor: Tensor) -> tuple[Any, ...]:
    """What tells the memory of a tensor from others'; its size comes last."""
    if tensor.layout is not _STRIDED:
        return id(tensor), _size_without_strides(tensor)
    storage = tensor.untyped_storage()._cdata  # noqa: SLF001 - a fake one has no address
    start = tensor.storage_offset() * tensor.itemsize
    if tensor.is_contiguous():
        size = tensor.nbytes
        return storage, start, size, size
    size, span = _strided(tensor)
    return storage, start, span, size


def _strided(tensor: Tensor) -> tuple[int, int]:
    """The size of a tensor with gaps or overlaps, and the span of bytes that it reaches over."""
    if tensor.is_nested:
        return tensor.nbytes, tensor.nbytes
    elements, reach = 1, 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride:  # a dimension of stride 0 is one element, repeated
            elements *= length
            reach += (length - 1) * stride
    # Windows that overlap hold no more than their span; an empty tensor holds nothing.
    return min(elements, reach, tensor.numel()) * tensor.itemsize, reach * tensor.itemsize


def _size_without_strides(tensor: Tensor) -> int:
    """A sparse tensor's values and indices; an opaque one's elements."""
    layout = tensor.layout
    if layout is torch.sparse_coo:
        return of_all(tensor._indices(), tensor._values())  # noqa: SLF001 - even if uncoalesced
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return of_all(tensor.crow_indices(), tensor.col_indices(), tensor.values())
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        return of_all(tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    return tensor.numel() * tensor.itemsize
