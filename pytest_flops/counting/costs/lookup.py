"""How the rule of an operator is found, and how users register costs of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from itertools import repeat
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from pytest_flops.counting.costs.elements import first_tensor
from pytest_flops.counting.costs.elementwise import pointwise
from pytest_flops.counting.costs.free import FREE_NAMESPACES
from pytest_flops.counting.costs.kernels import cost_of_launches, function_of
from pytest_flops.counting.costs.table import (
    FREE,
    TABLE,
    Args,
    Cost,
    Formula,
    Kwargs,
    Rule,
    enter,
    rule_of_each,
)

_CostT = TypeVar("_CostT", bound=Callable[..., Any])

# Files of `libraries` by the namespaces of their operators.
_LIBRARIES = {
    "torchaudio": "torchaudio",
    "torchvision": "torchvision",
    **dict.fromkeys(("c10d", "fsdp", "_dtensor"), "distributed"),
    **dict.fromkeys(("_c10d_functional", "_c10d_functional_autograd"), "distributed"),
}

_METRICS = ("flops", "bytes", "full_precision")
"""What costs are registered for. Launches follow from these; the rest is no matter of formulas."""

_registered: dict[tuple[str, object], Cost] = {}  # by metric, and operator or function of a kernel
_found: dict[OpOverload, Rule] = {}


def register_cost(operator: Any, *, metric: str = "flops") -> Callable[[_CostT], _CostT]:
    """Give a custom operator or a Triton kernel a cost.

    Args:
        operator: The operator as `"namespace::operator"`, e.g. `"my_lib::my_op"`; or the kernel,
            with or without the wrappers of `triton.autotune` and `triton.heuristics`.
        metric: `"flops"`; or `"bytes"`, by default those of the tensors that are read and written;
            or `"full_precision"`, of a product: its FLOPs if the result is float32 or float64.

    Returns:
        A decorator of a function that returns the cost of one call, a whole number. Of an operator
        it is a function `(args, kwargs, out)` of the call's positional arguments, keyword arguments
        and result. Of a kernel, its parameters are the arguments of the kernel that it reads, by
        their names, and `grid`, the launch's grid as three integers.

    Raises:
        ValueError: The name is not of the form `namespace::operator`, or costs are not registered
            for the metric.
        TypeError: What is decorated cannot be called, or reads what the kernel does not have; or
            the operator is neither a name nor a kernel.
    """

    def decorate(cost: _CostT) -> _CostT:
        _register(operator, {metric: cost})
        return cost

    return decorate


def register_costs(costs: Mapping[Any, Formula | Mapping[str, Formula]]) -> None:
    """Give several their costs, in FLOPs or by metric; see `register_cost`."""
    for operator, given in costs.items():
        _register(operator, given if isinstance(given, Mapping) else {"flops": given})


def _register(operator: Any, by_metric: Mapping[str, Formula]) -> None:
    key, name = _key(operator)
    for metric, cost in by_metric.items():
        if metric not in _METRICS:
            raise ValueError(
                f"a cost is registered for one of {', '.join(_METRICS)}, not for {metric!r}"
            )
        if not callable(cost):
            raise TypeError(f"the cost of {name} must be a function that returns an int")
        of_calls = cost if isinstance(key, str) else cost_of_launches(key, cost)
        _registered[metric, key] = _checked(name, metric, of_calls)
    _found.clear()


def _key(operator: Any) -> tuple[str | FunctionType, str]:
    """What an operator's or a kernel's costs are found by, and what it is called."""
    if isinstance(operator, str):
        namespace, separator, name = operator.partition("::")
        if namespace and separator and name.isidentifier():
            return operator, operator
        raise ValueError(
            f"a cost is registered for 'namespace::operator', such as 'my_lib::my_op', "
            f"not for {operator!r}"
        )
    function = function_of(operator)
    if function is None:
        raise TypeError(
            "a cost is registered for an operator, by its name 'namespace::operator', or for a "
            f"Triton kernel, not for {operator!r}"
        )
    return function, f"the kernel {function.__name__}"


def _checked(name: str, metric: str, cost: Cost) -> Cost:
    """A cost from outside, which must return what ours return."""
    unit = "bytes" if metric == "bytes" else "FLOPs"

    def checked(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        value = cost(args, kwargs, out)
        if (value is None and metric == "flops") or (type(value) is int and value >= 0):
            return value
        raise TypeError(f"the cost of {name} must be a whole number of {unit}, not {value!r}")

    return checked


def registered_cost(metric: str, func: Any) -> Cost | None:
    """What somebody registered for an operator, or for the function of a kernel, in a metric."""
    if isinstance(func, OpOverload):
        func = f"{func.namespace}::{func.overloadpacket.__name__}"
    return _registered.get((metric, func))


def rule_of(operator: OpOverload) -> Rule | None:
    """The rule of an operator overload, or None when nothing claims it."""
    rule = _found.get(operator) or _find_rule(operator)
    # This one is composite on the CPU, and for as long as a step is counted like CUDA's it is not.
    if rule is not None and operator is not torch.ops.aten._fused_rms_norm.default:  # noqa: SLF001
        _found[operator] = rule
    return rule


def _find_rule(operator: OpOverload) -> Rule | None:
    packet = operator.overloadpacket
    registered = registered_cost("flops", operator)
    if registered is not None:
        return Rule(registered)
    if operator.namespace in ("aten", "prims"):
        return _aten_rule(operator, packet)
    if operator.namespace in _LIBRARIES:
        _load(_LIBRARIES[operator.namespace])
    formulas = TABLE.get(f"{operator.namespace}::{packet.__name__}")
    if formulas is not None:
        return formulas.of(operator)
    if operator.namespace in FREE_NAMESPACES or operator.is_view:
        return Rule(None)
    return _registry_rule(packet)


@cache
def _load(library: str) -> None:
    """Enter the rules of another library's operators; most runs never meet one."""
    enter(import_module(f"{__package__}.libraries.{library}").RULES)


def _aten_rule(operator: OpOverload, packet: Any) -> Rule | None:
    """In-place forms, list forms and `prims` cost what the plain form in `aten` costs."""
    name = packet.__name__
    if not name.startswith("__"):  # `__and__`
        name = name.rstrip("_")
    plain = name.removeprefix("_foreach_")
    packet = getattr(torch.ops.aten, plain, packet)
    formulas = TABLE.get(plain) or (FREE if operator.is_view else pointwise(packet))
    # With autograd a composite operator runs as its parts, which need not cost the same.
    if formulas is not FREE and is_composite(operator):
        return None
    rule = formulas.of(operator) if formulas else _registry_rule(packet)
    if rule is not None and plain != name:
        return _of_every_tensor(operator, rule.cost)
    if rule is not None and rule.cost is not None and operator.namespace == "prims":
        return _unless_of_shapes(rule.cost)
    return rule


def is_composite(operator: OpOverload) -> bool:
    """Whether PyTorch runs an operator as other operators on every device."""
    name = operator.name()  # type: ignore[no-untyped-call]
    has_kernel = partial(torch._C._dispatch_has_kernel_for_dispatch_key, name)  # noqa: SLF001
    return has_kernel("CompositeImplicitAutograd") and not any(map(has_kernel, ("CPU", "CUDA")))


def _unless_of_shapes(cost: Cost) -> Rule:
    """PyTorch computes the shapes of forward-mode gradients by `prims` on the meta device."""

    def cost_of_values(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        result = first_tensor(out, args)
        on_meta = result.is_meta and not isinstance(result, FakeTensor)
        in_forward_mode = forward_ad._current_level >= 0  # noqa: SLF001 - as unpack_dual asks
        return 0 if on_meta and in_forward_mode else cost(args, kwargs, out)

    return Rule(cost_of_values)


def _of_every_tensor(operator: OpOverload, cost: Cost | None) -> Rule:
    """The rule of a list form, by the cost of its plain form, whose arguments are named alike."""
    names = [argument.name for argument in operator._schema.arguments]  # noqa: SLF001

    def each(args: Args, kwargs: Kwargs, out: Any) -> list[int | None]:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if isinstance(given.get("scalars"), Tensor):  # a list of numbers, as a tensor
            given["scalars"] = given["scalars"].tolist()
        results = out if isinstance(out, list | tuple) else given["self"]  # in place
        lists = [one if isinstance(one, list | tuple) else repeat(one) for one in given.values()]
        return [
            0 if cost is None else cost((), dict(zip(given, plain, strict=True)), result)
            for result, *plain in zip(results, *lists, strict=False)
        ]

    return rule_of_each(each)


def _registry_rule(packet: Any) -> Rule | None:
    """PyTorch's own formula, if any; complex operands cost 8 per multiply-add where it says 2."""
    from torch.utils.flop_counter import flop_registry  # imports Triton, which is 80 MB

    if packet not in flop_registry:
        return None
    formula = flop_registry[packet]

    def cost(args: Args, kwargs: Kwargs, out: Any) -> int:
        flops = int(formula(*args, **kwargs, out_val=out))
        is_complex = any(isinstance(arg, Tensor) and arg.dtype.is_complex for arg in args)
        return flops * (4 if is_complex else 1)

    return Rule(cost)
