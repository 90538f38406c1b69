"""Higher-order operators (`cond`, `while_loop`, `scan`, ...): what they run, so that it is counted.

Run eagerly, such an operator calls the functions it was given: the branch taken, each iteration.
The meter lets it do so while it watches, and so counts what really runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch._C import DispatchKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch._ops import HigherOrderOperator


def has_eager_form(operator: HigherOrderOperator) -> bool:
    """Whether the operator can be run through its parts."""
    return _eager_form(operator) is not None


def run_parts(operator: HigherOrderOperator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run the operator through its parts."""
    run = _eager_form(operator)
    assert run is not None
    return run(*args, **kwargs)


def _eager_form(operator: HigherOrderOperator) -> Callable[..., Any] | None:
    if operator.__name__ in _OWN_FORMS:
        return _OWN_FORMS[operator.__name__]
    kernel: Callable[..., Any] | None = operator.py_kernels.get(
        DispatchKey.CompositeExplicitAutograd
    )
    return kernel


def _cond(predicate: Any, true_fn: Any, false_fn: Any, operands: Any) -> Any:
    """PyTorch's own kernel, which refuses to be watched, does the same."""
    return true_fn(*operands) if predicate else false_fn(*operands)


def _scan(combine_fn: Any, init: Any, xs: Any, additional_inputs: Any = ()) -> Any:
    """As above."""
    from torch._higher_order_ops.scan import generic_scan

    return generic_scan(  # type: ignore[no-untyped-call]
        combine_fn, init, xs, additional_inputs=additional_inputs
    )


def _subgraph(subgraph: Any, _identifier: Any, *operands: Any) -> Any:
    return subgraph(*operands)


_OWN_FORMS: dict[str, Callable[..., Any]] = {
    "cond": _cond,
    "scan": _scan,
    "invoke_subgraph": _subgraph,
}
