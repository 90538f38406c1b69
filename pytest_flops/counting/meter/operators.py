"""`Operator`: what the meter does with the calls of one operator, found once for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch._C import DispatchKey
from torch._library.custom_ops import OPDEFS
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs import Rule, is_composite, rule_of
from pytest_flops.counting.costs.nested import STRIDED_COSTS
from pytest_flops.counting.meter.data_dependence import explaining_meta
from pytest_flops.counting.meter.workarounds.conjugates import (
    may_conjugate_inside,
    resolving_conjugates,
)
from pytest_flops.counting.meter.workarounds.fake_kernels import FAKE_KERNELS
from pytest_flops.counting.meter.workarounds.higher_order import eager_form
from pytest_flops.counting.meter.workarounds.spectra import SPECTRA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flops.counting.costs.table import Cost, CostEach


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, resolved.

    Attributes:
        func: The operator itself, kept alive so that its id is never another's.
        run: Runs it; of a composite one, runs the operators that it is made of.
        name: Its name in the results.
        cost: What a call costs; `None` for one that is free.
        side_cost: What a call costs on a line of its own, such as a bias.
        side_name: The name of that line.
        each: For an operator over lists of tensors, what each position costs.
        decomposes: Whether `run` runs other operators, which are counted in its place.
        depends: Whether the kind of the tensors decides what it is.
    """

    func: object
    run: Callable[..., Any]
    name: str
    cost: Cost | None
    side_cost: Cost | None
    side_name: str
    each: CostEach | None
    decomposes: bool
    depends: bool


def resolved(func: Any) -> Operator:
    """What an operator's rule makes of it, else what it is made of, else one without a cost."""
    if isinstance(func, HigherOrderOperator):
        name = f"higher_order.{func.__name__}"
        form = eager_form(func)
        return _with_rule(func, name, _UNKNOWN) if form is None else _composite(func, name, form)
    name = str(func._overloadpacket)  # noqa: SLF001 - the name that FlopCounterMode uses
    rule = rule_of(func)
    if rule is not None:
        return _with_rule(func, name, rule)
    kernel = _decomposition(func)
    if kernel is None:
        return _with_rule(func, name, _UNKNOWN)
    return _composite(func, name, resolving_conjugates(kernel))


def resolved_on_nested(func: OpOverload, name: str) -> Operator:
    """An operator of `STRIDED_COSTS`, on a nested tensor of strided layout."""
    return _with_rule(func, name, Rule(STRIDED_COSTS[name]))


def _composite(func: object, name: str, run: Callable[..., Any]) -> Operator:
    return Operator(func, run, name, None, None, "", None, decomposes=True, depends=True)


def _with_rule(func: Callable[..., Any], name: str, rule: Rule) -> Operator:
    run: Callable[..., Any] = func
    if type(func) is OpOverload:
        # `_op` is what calling an OpOverload calls; every call is spared the Python around it.
        run = explaining_meta(func, func._op)  # noqa: SLF001
    if name in FAKE_KERNELS:
        run = partial(FAKE_KERNELS[name], run)
    if may_conjugate_inside(name):
        run = resolving_conjugates(run)
    return Operator(
        func,
        run,
        name,
        rule.cost,
        rule.side_cost,
        f"{name}:{rule.side_line}",
        rule.each,
        decomposes=False,
        depends=rule is _UNKNOWN,
    )


def _unknown_cost(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int | None:
    """An operator that no rule claims has no cost; work on integers and booleans alone is free."""
    for leaf in tree_leaves((args, kwargs, out)):
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            return None
    return 0


_UNKNOWN = Rule(_unknown_cost)


def _decomposition(func: OpOverload) -> Callable[..., Any] | None:
    """What PyTorch runs for a composite operator; the C++ kernel before the one in Python."""
    if func in SPECTRA:
        return SPECTRA[func]
    if is_composite(func):
        return partial(func._op_dk, DispatchKey.CompositeImplicitAutograd)  # noqa: SLF001
    if func._can_decompose():  # noqa: SLF001 - as PyTorch's own counter asks
        return func.decompose
    if func.namespace == "torch_nn":  # PyTorch's own, written in Python
        kernel: Callable[..., Any] = OPDEFS[func._schema.name]._init_fn  # noqa: SLF001
        return kernel
    return None
