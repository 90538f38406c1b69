"""`TABLE`: the rule of every operator by name, and how a rule is written: as a formula.

    RULES = {"mkldnn_linear": lambda out, weight: 2 * out.numel() * weight.shape[1]}

The parameters of a formula are the arguments that it reads, by their names in the operator's
schema; `out` is the result of the call. A parameter that some of the operators lack has a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, TypeAlias

from torch._ops import OpOverload

Args: TypeAlias = Sequence[Any]
Kwargs: TypeAlias = Mapping[str, Any]
Cost: TypeAlias = Callable[[Args, Kwargs, Any], "int | None"]
"""FLOPs of one call; None where these arguments have no cost, as where only values tell it."""
CostEach: TypeAlias = Callable[[Args, Kwargs, Any], "list[int | None]"]
Formula: TypeAlias = Callable[..., Any]
"""A `Cost` or a `CostEach` of named arguments."""

# Where operators have different names for one thing, the name that formulas use.
_ALIASES = {
    "inp": "self",  # `prims.sum(inp, dims)` is `aten.sum(self, dim)`
    "cu_seqlens_q": "cum_seq_q",
    "cu_seqlens_k": "cum_seq_k",
    "max_seqlen_q": "max_q",
    "max_seqlen_k": "max_k",
    "attn_mask": "attn_bias",
    "custom_mask_type": "is_causal",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """How the calls of one operator are counted.

    Attributes:
        cost: FLOPs of one call; `None` for an operator that is free.
        side_cost: FLOPs of one call that are shown on a line of their own.
        side_line: The name of that line: `bias` or `softmax`.
        each: For operators over lists of tensors, FLOPs of every tensor of the first list.
    """

    cost: Cost | None
    side_cost: Cost | None = None
    side_line: str = ""
    each: CostEach | None = None


@dataclass(frozen=True, slots=True)
class Formulas:
    """What the table holds for an operator: the formulas that its `Rule` is made of.

    Attributes:
        cost: FLOPs of one call, or of every tensor of the first list; `None` if it is free.
        side: FLOPs of the line `side_line`.
        side_line: The name of that line.
        each: Whether `cost` returns a list.
        names: Arguments by parameters of the formulas, where the two are not named alike.
    """

    cost: Formula | None
    side: Formula | None = None
    side_line: str = "bias"
    each: bool = False
    names: Mapping[str, str] | None = None

    def of(self, operator: OpOverload) -> Rule:
        """The rule of one overload."""
        cost = self.cost and bound(self.cost, operator, self.names)
        side = self.side and bound(self.side, operator, self.names)
        return rule_of_each(cost) if cost and self.each else Rule(cost, side, self.side_line)


def bound(
    formula: Formula, operator: OpOverload, names: Mapping[str, str] | None = None
) -> Callable[[Args, Kwargs, Any], Any]:
    """The formula as a function of the calls of one operator.

    Raises:
        TypeError: The formula reads an argument that the operator does not have.
    """
    schema = operator._schema.arguments  # noqa: SLF001 - PyTorch has no public way to a schema
    places = {_ALIASES.get(argument.name, argument.name): i for i, argument in enumerate(schema)}
    reads = []
    for parameter in signature(formula).parameters.values():
        name = (names or {}).get(parameter.name, parameter.name)
        i = places.get(name)
        if name == "out":
            reads.append(f"{parameter.name}=out")
        elif i is not None:
            by_name = f"kwargs.get({schema[i].name!r}, defaults[{i}])"
            reads.append(f"{parameter.name}=args[{i}] if len(args) > {i} else {by_name}")
        elif parameter.default is Parameter.empty:
            raise TypeError(f"{operator} has no argument {name!r}, which its formula reads")
    # Every operator of a step comes here. Compiled, as `dataclasses` compiles an `__init__`, the
    # reading takes a tenth of what a loop over the parameters takes.
    source = f"lambda args, kwargs, out: formula({', '.join(reads)})"
    cost: Callable[[Args, Kwargs, Any], Any] = eval(
        source, {"formula": formula, "defaults": [argument.default_value for argument in schema]}
    )
    return cost


def rule_of_each(each: CostEach) -> Rule:
    """The rule of an operator over lists, whose cost is the sum over the tensors."""

    def cost(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        costs = each(args, kwargs, out)
        return None if None in costs else sum(cost or 0 for cost in costs)

    return Rule(cost, each=each)


FREE = Formulas(None)
TABLE: dict[str, Formulas] = {}
Rules: TypeAlias = Mapping[str, Formulas | Formula]
"""Formulas by the names of their operators, parted by blanks, without the `_` of in-place forms.

Of `aten` and `prims` the bare name; of others `namespace::name`.
"""


def named(namespace: str, names: str) -> str:
    """The names of operators that are not `aten`'s."""
    return " ".join(f"{namespace}::{name}" for name in names.split())


def enter(rules: Rules) -> None:
    """Enter rules into the table."""
    for names, formulas in rules.items():
        for name in names.split():
            if name in TABLE:  # the later one would hide the earlier, in whichever file that stands
                raise ValueError(f"an operator that has a rule already: {name}")
            TABLE[name] = formulas if isinstance(formulas, Formulas) else Formulas(formulas)
