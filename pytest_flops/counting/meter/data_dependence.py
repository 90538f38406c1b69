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
)
from torch.utils._pytree import tree_leaves

# What people write that ends in these operators.
_WRITTEN_AS = {
    "aten._local_scalar_dense": ".item(), float(tensor) or a tensor in an if",
    "aten.nonzero": "nonzero(), where(condition) or a mask as an index",
    "aten.masked_select": "masked_select()",
    "aten.equal": "torch.equal()",
    "aten._to_copy": ".tolist(), .cpu() or another copy of its values",
}
_NEEDS_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class DataDependentError(RuntimeError):
    """The model asks for the value of a tensor, and the tensor has none."""


@contextmanager
def naming_the_operator() -> Iterator[None]:
    """While active, an error for want of a fake tensor's values says what to do."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise _of_fake_tensors(_written(error.func)) from error
    except RuntimeError as error:
        if ".numpy()" in str(error):
            raise _of_fake_tensors(".numpy()") from error
        if "data is not allocated yet" in str(error):
            raise _of_fake_tensors("C++ code that reads its memory") from error
        raise


def _of_fake_tensors(written: str) -> DataDependentError:
    return DataDependentError(
        f"the model's code depends on the values of a tensor through {written}, and count_flops "
        f"runs it on fake tensors, which have shapes but no values. Either write that part so that "
        f"shapes decide, or count a real step: with FLOPsMeter() as meter: ..."
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
