"""Errors of code that asks for the values of tensors that have none: fake ones, or on `meta`.

PyTorch names the operator that failed, not what somebody wrote, and no way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    UnsupportedOperatorException,
)
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.origin import origin

# What people write that ends in these operators.
_WRITTEN_AS = {
    "aten._local_scalar_dense": ".item(), float(tensor) or a tensor in an if",
    "aten.nonzero": "nonzero(), where(condition) or a mask as an index",
    "aten.masked_select": "masked_select()",
    "aten.equal": "torch.equal()",
    "aten._to_copy": ".tolist(), .cpu() or another copy of its values",
}
# What an error says that is no error of an operator, and what people write that ends in it.
_TOLD_AS = {
    ".numpy()": ".numpy()",
    "data is not allocated yet": "C++ code that reads its memory",
    "required positional argument: 'closure'": "its closure, which returns the loss",
}
_NEEDS_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class DataDependentError(RuntimeError):
    """The model asks for the value of a tensor, and the tensor has none."""


@contextmanager
def naming_the_culprit(culprit: str | None = None) -> Iterator[None]:
    """While active, an error for want of a fake tensor's values says whose it is and what to do.

    Args:
        culprit: What asks for them; if None, the code that the error comes from.
    """
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise _of_fake_tensors(_written(error.func), culprit, error) from error
    except UnsupportedOperatorException as error:
        place = origin(error)
        raise RuntimeError(
            f"the operator {error.func.overloadpacket} does not say what it returns for fake "
            f"tensors, which have shapes but no values{f' ({place})' if place else ''}: "
            "torch.library.register_fake tells it so; or count a real step"
        ) from error
    except (RuntimeError, TypeError) as error:
        for told, written in _TOLD_AS.items():
            if told in str(error):
                raise _of_fake_tensors(written, culprit, error) from error
        raise


def _of_fake_tensors(written: str, culprit: str | None, error: Exception) -> DataDependentError:
    place = origin(error) if culprit is None else None
    way_out = (
        "count a real step, in a marked test or by yourself: with FLOPsMeter() as meter: ...; "
        'or with values="real" in count_flops or the workload'
    )
    if culprit is None:
        library = place.library if place else None
        culprit = f"the library {library}" if library else "the model's code"
        way_out = f"either write that part so that shapes decide, or {way_out}"
    return DataDependentError(
        f"{culprit} depends on the values of a tensor through {written}, and count_flops runs it "
        f"on fake tensors, which have shapes but no values{f' ({place})' if place else ''}; "
        f"{way_out}"
    )


def explaining_meta(operator: OpOverload, run: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the operator; an error for want of a `meta` tensor's values says what to do."""
    copies_values = str(operator) == "aten._to_copy.default"
    if not copies_values and not any(tag in operator.tags for tag in _NEEDS_VALUES):
        return run

    def run_explaining(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except RuntimeError as error:
            if "meta" not in str(error).lower() or not any(map(_is_on_meta, tree_leaves(args))):
                raise
            raise DataDependentError(
                f"the code depends on the values of a tensor through {_written(operator)}, and a "
                f"tensor on the meta device has a shape but no values. Either write that part so "
                f"that shapes decide, or count it with tensors on a device"
            ) from error

    return run_explaining


def _is_on_meta(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_meta and not isinstance(leaf, FakeTensor)


def _written(operator: OpOverload) -> str:
    name = str(operator.overloadpacket)
    return f"{_WRITTEN_AS[name]} ({name})" if name in _WRITTEN_AS else name
