"""`_foreach_` operators: a list form costs what the plain form costs on each of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pytest_flops.counting.costs.elementwise import pointwise_rule
from pytest_flops.counting.costs.table import (
    TABLE,
    Args,
    Kwargs,
    Rule,
    readers_of,
    rule_of_each,
)


def foreach_rule(operator: OpOverload, name: str) -> Rule | None:
    """The rule of `_foreach_{name}`, if the plain form has one."""
    packet = getattr(torch.ops.aten, name, None)
    plain = TABLE.get(name) or (packet and pointwise_rule(name, packet))
    if plain is None:
        return None
    # A list form's arguments are named as the plain form's, so its own schema serves.
    cost, names = plain.of(operator).cost, list(readers_of(operator))

    def each(args: Args, kwargs: Kwargs, out: Any) -> list[int | None]:
        calls = _plain_calls(names, args, kwargs, out)
        return [0 if cost is None else cost(*call) for call in calls]

    return rule_of_each(each)


def _plain_calls(
    names: Sequence[str], args: Args, kwargs: Kwargs, out: Any
) -> Iterator[tuple[Args, Kwargs, Any]]:
    """The calls of a plain form that one call of a list form stands for, all arguments by name."""
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if isinstance(given.get("scalars"), Tensor):  # a list of numbers, as a tensor
        given["scalars"] = given["scalars"].tolist()
    results = out if isinstance(out, list | tuple) else given["self"]  # in place
    of_one = zip(
        *(each if isinstance(each, list | tuple) else repeat(each) for each in given.values()),
        strict=False,
    )
    for result, arguments in zip(results, of_one, strict=False):
        yield (), dict(zip(given, arguments, strict=True)), result
