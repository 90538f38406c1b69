"""Higher-order operators (`cond`, `while_loop`, `scan`) hide what they run from a dispatch mode.

PyTorch: run eagerly, such an operator calls the functions that it is given: the branch taken, each
iteration. `cond` and `scan` refuse to do so inside a dispatch mode of one's own, and the gradients
of `cond`, `map` and `scan` need the compiler, which turns what the functions close over into
inputs; without it those gradients are lost. So the meter calls the functions itself, under
autograd, like any other code, and counts what they run.
Seen in: 2.11 to 2.13.
May go when: `tests/counting/test_costs_higher_order.py` passes without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch._C import DispatchKey
from torch._higher_order_ops.cond import cond_op
from torch._higher_order_ops.map import map_impl
from torch._higher_order_ops.scan import generic_scan, scan_op
from torch._ops import HigherOrderOperator


@contextmanager
def under_autograd() -> Iterator[None]:
    """While active, `cond`, `map` and `scan` run their functions under autograd."""
    key = DispatchKey.Autograd
    operators: tuple[HigherOrderOperator, ...] = (cond_op, map_impl, scan_op)
    kernels = [operator.py_kernels[key] for operator in operators]
    for operator in operators:
        _set_kernel(operator, key, eager_form(operator))
    try:
        yield
    finally:
        for operator, kernel in zip(operators, kernels, strict=True):
            _set_kernel(operator, key, kernel)


def _set_kernel(operator: HigherOrderOperator, key: DispatchKey, kernel: Any) -> None:
    operator.py_kernels[key] = kernel
    operator._dispatch_cache.clear()  # noqa: SLF001 - as registering a kernel does


def eager_form(operator: HigherOrderOperator) -> Callable[..., Any] | None:
    """What runs the operator by calling the functions it is given; None if nothing does."""
    kernel = operator.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
    return _OWN_FORMS.get(operator.__name__, kernel)


def _cond(predicate: Any, true_fn: Any, false_fn: Any, operands: Any) -> Any:
    return true_fn(*operands) if predicate else false_fn(*operands)


def _scan(combine_fn: Any, init: Any, xs: Any, additional_inputs: Any = ()) -> Any:
    return generic_scan(  # type: ignore[no-untyped-call]
        combine_fn, init, xs, additional_inputs=additional_inputs
    )


def _invoke_subgraph(subgraph: Any, _identifier: Any, *operands: Any) -> Any:
    return subgraph(*operands)


# What PyTorch's own kernels do, which refuse a dispatch mode.
_OWN_FORMS: dict[str, Callable[..., Any]] = {
    "cond": _cond,
    "scan": _scan,
    "invoke_subgraph": _invoke_subgraph,
}
