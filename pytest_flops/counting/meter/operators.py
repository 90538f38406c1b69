"""`Operator`: what the meter does with the calls of one operator, found once for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._library.custom_ops import OPDEFS
from torch._library.triton import triton_ops_to_kernels
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs import Rule, is_composite, registered_cost, rule_of
from pytest_flops.counting.costs.elements import is_exact
from pytest_flops.counting.costs.flex_attention import FLEX_ATTENTION
from pytest_flops.counting.costs.nested import STRIDED_COSTS
from pytest_flops.counting.costs.table import Cost, CostEach
from pytest_flops.counting.measurement import KERNEL
from pytest_flops.counting.meter.data_dependence import explaining_meta
from pytest_flops.counting.meter.workarounds.conjugates import (
    may_conjugate_inside,
    resolving_conjugates,
)
from pytest_flops.counting.meter.workarounds.fake_kernels import running_on_fakes
from pytest_flops.counting.meter.workarounds.higher_order import eager_form
from pytest_flops.counting.meter.workarounds.spectra import SPECTRA
from pytest_flops.counting.metrics import Prices


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, resolved."""

    func: object  # the operator itself, kept alive so that its id is never another's
    run: Callable[..., Any]  # runs it; of a composite one, runs the operators that it is made of
    name: str  # in the results
    cost: Cost | None = None  # of a call; None for one that is free
    side_cost: Cost | None = None  # what a call costs on a line of its own, such as a bias
    side_name: str = ""  # of that line
    each: CostEach | None = None  # of an operator over lists of tensors: the cost of each position
    decomposes: bool = False  # whether `run` runs operators that are counted in its place
    depends: bool = False  # whether the kind of the tensors decides what it is
    prices: Prices = ()  # what the other metrics of a meter make of a call


def resolved(func: Any) -> Operator:
    """What an operator's rule makes of it, else what it is made of, else one without a cost.

    A function is that of a Triton kernel.
    """
    if isinstance(func, HigherOrderOperator):
        return _of_higher_order(func)
    if isinstance(func, FunctionType):
        name = f"{KERNEL}{func.__name__}"
        return Operator(func, func, name, registered_cost("flops", func) or _no_cost)
    name = str(func.overloadpacket)  # the name that FlopCounterMode uses
    rule = rule_of(func)
    if rule is not None:
        return _with_rule(func, name, rule)
    kernel = _decomposition(func)
    if kernel is None:
        return _with_rule(func, name, _unclaimed(name))
    return _composite(func, name, resolving_conjugates(kernel))


def _of_higher_order(func: HigherOrderOperator) -> Operator:
    name, form = f"higher_order.{func.__name__}", eager_form(func)
    if func in FLEX_ATTENTION:
        return _with_rule(func, name, FLEX_ATTENTION[func])
    return _composite(func, name, form) if form else _with_rule(func, name, _unclaimed(name))


@cache
def resolved_on_nested(func: OpOverload, name: str) -> Operator:
    """An operator of `STRIDED_COSTS`, on a nested tensor of strided layout."""
    return _with_rule(func, name, Rule(STRIDED_COSTS[name]))


def _composite(func: object, name: str, run: Callable[..., Any]) -> Operator:
    return Operator(func, run, name, decomposes=True, depends=True)


def _with_rule(func: Callable[..., Any], name: str, rule: Rule) -> Operator:
    run: Callable[..., Any] = func
    if type(func) is OpOverload:
        # `_op` is what calling an OpOverload calls; every call is spared the Python around it.
        run = explaining_meta(func, func._op)  # noqa: SLF001
    run = running_on_fakes(name, run)
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
        depends=rule in _UNCLAIMED,
    )


def _cost_unless_integer(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int | None:
    """0 if all tensors are integers or booleans; there is no cost otherwise.

    Quantised numbers and packed weights (`torch.ScriptObject`) stand for floating-point ones.
    """
    leaves = tree_leaves((args, kwargs, out))
    if any(isinstance(leaf, torch.ScriptObject) for leaf in leaves):
        return None
    return 0 if all(is_exact(leaf) for leaf in leaves if isinstance(leaf, Tensor)) else None


def _no_cost(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
    """A product of integers may stand for one of floating-point numbers (`int8`)."""


_UNKNOWN, _NEVER_FREE = _UNCLAIMED = (Rule(_cost_unless_integer), Rule(_no_cost))
_IS_PRODUCT = re.compile(r"mm(_|$)|matmul|gemm|linear|conv(olution|\d|_|$)")
_IS_COLLECTIVE = re.compile(r"_?c10d|symm_mem")


def _unclaimed(name: str) -> Rule:
    """The rule of an operator that no rule claims.

    What its name calls a product is not free, nor a collective, which has its payload.
    """
    return _NEVER_FREE if _IS_PRODUCT.search(name) or _IS_COLLECTIVE.match(name) else _UNKNOWN


def _decomposition(func: OpOverload) -> Callable[..., Any] | None:
    """What PyTorch runs for a composite operator; the C++ kernel before the one in Python."""
    if func in SPECTRA:
        return SPECTRA[func]
    if is_composite(func):
        return partial(func._op_dk, DispatchKey.CompositeImplicitAutograd)  # noqa: SLF001
    if func._can_decompose():  # noqa: SLF001 - as PyTorch's own counter asks
        return func.decompose
    name = func._schema.name  # noqa: SLF001
    # PyTorch's own that are written in Python, and `triton_op`, which runs operators and kernels.
    if func.namespace == "torch_nn" or name in triton_ops_to_kernels:
        kernel: Callable[..., Any] = OPDEFS[name]._init_fn  # noqa: SLF001
        return kernel
    return None
