"""`communication`: the payload of the collectives that one rank calls.

Of each call it is the larger of what the rank gives and what it gets: of an all-gather the output,
of a reduce-scatter the input, of an all-reduce, a broadcast or a point-to-point message the tensor,
once. So it is the largest operand of the operator. What an algorithm makes of it (rings, trees) and
what overlaps with computing are a matter of time, and not in it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pytest_flops.counting import metrics
from pytest_flops.counting.costs.elements import tensors_in
from pytest_flops.counting.costs.libraries.distributed import kind_of
from pytest_flops.counting.metrics import PHASE
from pytest_flops.counting.metrics.bytes import of_one

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.metric import Costs
    from pytest_flops.counting.metrics import Call, Price


class Counter(metrics.Counter):
    """The payload of each call, also by kind of collective and dtype."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._calls: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def of_operator(self, func: Any) -> Price | None:
        """The payload of a collective's calls; any other operator has none."""
        if not isinstance(func, OpOverload):  # an operator of higher order
            return None
        name = func.overloadpacket.__name__
        kind = kind_of(func.namespace, name)
        return partial(self._of_call, kind) if kind else None

    def _of_call(self, kind: str, call: Call) -> int:
        operands = (*call.args, *call.kwargs.values(), call.out)
        if kind == "barrier":  # it is given a tensor that nobody reads
            operands = ()
        largest = max(([*tensors_in(each)] for each in operands), key=_payload, default=[])
        value = self.value(largest)
        dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in largest})
        name, phase = " ".join((kind, *dtypes)), PHASE[call.phase]
        if value:
            with self._lock:
                self._values[name][phase] += value
                self._calls[name][phase] += 1
        return value

    def value(self, tensors: list[Tensor]) -> int:
        """What a call counts for, by what it sends or receives."""
        return _payload(tensors)

    def finished(self, costs: Costs, paths: Mapping[int, str]) -> Costs:  # noqa: ARG002
        """The costs with those of each kind of collective, and with how often it was called."""
        with self._lock:
            details = {"operations": _plain(self._values), "calls": _plain(self._calls)}
        return replace(costs, details=details) if details["calls"] else costs


def _payload(tensors: list[Tensor]) -> int:
    """The bytes of tensors, each as often as it is there; of a sparse one of what it stores."""
    return sum(each.nbytes if each.layout is torch.strided else of_one(each) for each in tensors)


def _plain(values: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {name: dict(values[name]) for name in sorted(values)}
