"""Indices and masks keep their values in a step on fakes, where they decide shapes.

How many edges of a graph are left without its self-loops, or how many rows a mask chooses, follows
from the integers and booleans that a model is given. PyTorch's fakes keep the value of a tensor of
one element, as a constant beside the fake: an operator on constants alone is computed for real, and
any other operator forgets them. Here, tensors of integers and booleans are such constants too,
those that code fills with ones or zeros included, and `torch.ones` of any type: masks begin so.

Whether numbers are finite (`torch.isfinite(x).all()`, `isinf(x).any()`) is answered as if all were.
That the gradient which a backward begins with is 1 is known to losses that compare it with 1. It is
no constant, whose views would be storages of their own to the peak of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

ALL_FINITE = "counted as if all numbers were finite, which the code asks (isfinite, isinf or isnan)"

_LARGEST = 1 << 24  # elements whose values are kept, as a mask of every pair of 4,096 tokens
_ATEN = torch.ops.aten
_FILLED = {
    getattr(_ATEN, name).default: value
    for value, names in ((1, "ones ones_like new_ones"), (0, "zeros zeros_like new_zeros"))
    for name in names.split()
}
# They read shapes alone, and kernels of fakes return the tensors that they make as mere shapes.
_MADE_LIKE_ANOTHER = frozenset(
    getattr(_ATEN, name).default
    for name in ("new_empty", "new_empty_strided", "new_full", "empty_like", "full_like")
)
_NOT_FINITE = frozenset(
    getattr(_ATEN, name).default for name in ("isinf", "isnan", "isneginf", "isposinf")
)


def keep_known_values(mode: FakeTensorMode, assumptions: set[str]) -> None:
    """Make the mode keep the values of indices and masks, and of what is computed of them.

    Methods of the one mode are replaced: PyTorch looks up the rules of its higher-order operators
    by the class of the mode, and would find none for a class of our own. What is answered without
    being known is added to the assumptions.
    """
    run = mode.dispatch

    def dispatch(func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _ATEN.equal.default and _is_one(args[0]) and _is_one(args[1]):
            return True
        known = [each for each in args if getattr(each, "constant", None) is not None]
        if len(known) < 2 or not _make_something_large(known):
            out = run(func, types, args, kwargs)
        else:  # PyTorch would compute it, and then ask whether that may be kept
            with _unknown(known):
                out = run(func, types, args, kwargs)
        if not isinstance(out, FakeTensor):
            return out
        if func in _MADE_LIKE_ANOTHER or func in _FILLED:
            out.constant = None
        if func in _FILLED and _is_index_or_mask(out, or_number=func is _ATEN.ones.default):
            _know(mode, out, _FILLED[func])
        _note_if_one(func, args, out)
        answer = _if_all_are_finite(func, args)
        if answer is not None and out.constant is None:
            vars(out)["if_all_are_finite"] = answer, _times_written(out)
            if out.numel() == 1:
                _know(mode, out, answer)
                assumptions.add(ALL_FINITE)
        return out

    def may_turn_const(tensor: Tensor) -> bool:
        return _may_be_known(tensor) and not mode.is_our_fake(tensor)

    mode.dispatch = dispatch  # type: ignore[method-assign]
    mode.may_turn_const = may_turn_const  # type: ignore[method-assign, assignment]


def fake_of(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A fake of the tensor, with its values if it is an index or mask."""
    if type(tensor) is not Tensor or not _is_index_or_mask(tensor):
        return cast("Tensor", mode.from_tensor(tensor.detach(), static_shapes=True))
    converter = mode.fake_tensor_converter
    return cast("Tensor", converter.from_real_tensor(mode, tensor.clone(), make_constant=True))


def _is_index_or_mask(tensor: Tensor, *, or_number: bool = False) -> bool:
    is_number = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    return (or_number or not is_number) and tensor.device.type == "cpu" and _may_be_known(tensor)


def _may_be_known(tensor: Tensor) -> bool:
    return (
        tensor.numel() <= _LARGEST
        and tensor.layout == torch.strided
        and tensor.device.type != "meta"
    )


def _make_something_large(known: list[FakeTensor]) -> bool:
    """Whether they, if joined element by element, are too large, as a mask of every pair."""
    try:
        shape: torch.Size = torch.broadcast_shapes(*(fake.shape for fake in known))  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return shape.numel() > _LARGEST


@contextmanager
def _unknown(known: list[FakeTensor]) -> Iterator[None]:
    """While active, these fakes have no values."""
    values = [fake.constant for fake in known]
    for fake in known:
        fake.constant = None
    try:
        yield
    finally:
        for fake, value in zip(known, values, strict=True):
            fake.constant = value


def _know(mode: FakeTensorMode, fake: FakeTensor, value: float) -> None:
    """Let every element of a fake have this value."""
    fake.constant = torch.full(fake.shape, value, dtype=fake.dtype)
    mode.fake_tensor_converter.add_constant_storage_mapping(fake)


def _if_all_are_finite(func: Any, args: Any) -> bool | None:
    """What each element of the result is if all numbers are finite, where that alone decides it.

    `isfinite(x)` is `(x == x) * (abs(x) != inf)`.
    """
    if func in _NOT_FINITE:
        return False
    if func is _ATEN.eq.Tensor:
        return True if args[0] is args[1] else None
    if func is _ATEN.ne.Scalar:
        return True if args[1] == inf else None
    if func in (_ATEN.mul.Tensor, _ATEN.all.default, _ATEN.any.default):
        answers = {*map(_answer_of, args)}
        return answers.pop() if len(answers) == 1 else None
    return None


def _answer_of(tensor: Any) -> bool | None:
    """What was answered of a tensor, if it has not been written since."""
    answer, written = getattr(tensor, "if_all_are_finite", (None, None))
    return answer if answer is not None and _times_written(tensor) == written else None


def _note_if_one(func: Any, args: Any, out: FakeTensor) -> None:
    """A backward begins with `ones_like` of the loss; that of a sum expands it."""
    if func is _ATEN.ones_like.default or (func is _ATEN.expand.default and _is_one(args[0])):
        vars(out)["one"] = _times_written(out)


def _is_one(number: Tensor) -> bool:
    """Whether a tensor without dimensions is known to be 1."""
    constant = getattr(number, "constant", None)
    known = getattr(number, "one", None) == _times_written(number)
    return not number.dim() and (known if constant is None else bool(constant == 1))


def _times_written(tensor: Tensor) -> int:
    """How often; PyTorch does not keep that of a tensor that was made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001
