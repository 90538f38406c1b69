"""`TABLE`: the rule of every operator by name, and `Call`: what a rule's formula reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from torch._ops import OpOverload

Args: TypeAlias = Sequence[Any]
Kwargs: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[Args, Kwargs], Any]
"""Returns what one argument of a call is."""


def readers_of(operator: OpOverload) -> dict[str, Read]:
    """How every argument of an operator is read, by its name, in the order of the schema.

    The schema is walked once per operator, so that an argument of a call costs one look-up.
    """
    arguments = operator._schema.arguments  # noqa: SLF001 - PyTorch has no public way to a schema
    return {
        # `prims.sum(inp, dims)` is `aten.sum(self, dim)`: both are counted by one formula.
        "self" if argument.name == "inp" else argument.name: _reader(position, argument)
        for position, argument in enumerate(arguments)
    }


def _reader(position: int, argument: Any) -> Read:
    name, default = argument.name, argument.default_value

    def read(args: Args, kwargs: Kwargs) -> Any:
        return args[position] if position < len(args) else kwargs.get(name, default)

    return read


class Call:
    """The arguments and the result of one call.

    How many arguments stand by position is the caller's choice, and where one stands differs
    between kernels for one purpose. Names hold for all of them.
    """

    __slots__ = ("_args", "_kwargs", "_readers", "out")

    def __init__(self, readers: dict[str, Read], args: Args, kwargs: Kwargs, out: Any) -> None:
        self._readers = readers
        self._args = args
        self._kwargs = kwargs
        self.out = out

    def argument(self, name: str) -> Any:
        """What was given for this argument, or its default in the schema.

        Raises:
            KeyError: The schema has no argument of this name, so the formula is wrong.
        """
        return self._readers[name](self._args, self._kwargs)

    def either(self, *names: str) -> Any:
        """The first of these arguments that the schema has; None if it has none of them.

        For formulas that serve operators which name one thing differently.
        """
        for name in names:
            if name in self._readers:
                return self._readers[name](self._args, self._kwargs)
        return None


_T = TypeVar("_T")
_FormulaT = TypeVar("_FormulaT", bound="Formula")

Cost: TypeAlias = Callable[[Args, Kwargs, Any], "int | None"]
"""FLOPs of one call; None where these arguments have no cost, e.g. sparse times sparse."""
CostEach: TypeAlias = Callable[[Args, Kwargs, Any], "list[int | None]"]
Formula: TypeAlias = Callable[[Call], "int | None"]
"""A `Cost` that reads the arguments by name."""
FormulaEach: TypeAlias = Callable[[Call], "list[int | None]"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one operator is counted.

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

    def of(self, _operator: OpOverload) -> Rule:
        """The rule of one overload: this one for every overload."""
        return self


@dataclass(frozen=True, slots=True)
class RuleByName:
    """A rule whose formulas read arguments by name, in the schema of an overload."""

    formula: Formula
    side: Formula | None = None
    side_line: str = ""

    def of(self, operator: OpOverload) -> Rule:
        """The rule of one overload."""
        side = None if self.side is None else with_names(operator, self.side)
        return Rule(with_names(operator, self.formula), side, self.side_line)


@dataclass(frozen=True, slots=True)
class RuleOfEach:
    """The rule of an operator over lists of tensors: FLOPs of every tensor of the first list."""

    formula: FormulaEach

    def of(self, operator: OpOverload) -> Rule:
        """The rule of one overload."""
        return rule_of_each(with_names(operator, self.formula))


def with_names(operator: OpOverload, formula: Callable[[Call], _T]) -> Callable[..., _T]:
    """The formula as a function `(args, kwargs, out)` of the calls of one operator."""
    readers = readers_of(operator)
    return lambda args, kwargs, out: formula(Call(readers, args, kwargs, out))


def rule_of_each(each: CostEach) -> Rule:
    """The rule of an operator over lists, whose cost is the sum over the tensors."""

    def cost(args: Args, kwargs: Kwargs, out: Any) -> int | None:
        costs = each(args, kwargs, out)
        return None if None in costs else sum(cost or 0 for cost in costs)

    return Rule(cost, each=each)


class AnyRule(Protocol):
    """What the table holds: a rule, or what makes the rule of an overload."""

    def of(self, operator: OpOverload, /) -> Rule:
        """The rule of one overload."""


FREE = Rule(None)
TABLE: dict[str, AnyRule] = {}


def enter(**rules: AnyRule) -> None:
    """Enter rules into the table, by the operators' names without the `_` of in-place forms."""
    twice = TABLE.keys() & rules.keys()
    if twice:  # the later one would hide the earlier, in whichever file that stands
        raise ValueError(f"operators that have a rule already: {', '.join(sorted(twice))}")
    TABLE.update(rules)


def rule(*names: str, bias: Formula | None = None) -> Callable[[_FormulaT], _FormulaT]:
    """Enter the decorated formula as the rule of these operators.

    `bias` is the formula of the line `:bias`, for products that add one.
    """

    def decorate(formula: _FormulaT) -> _FormulaT:
        entry = RuleByName(formula, bias, "bias" if bias else "")
        enter(**dict.fromkeys(names, entry))
        return formula

    return decorate
