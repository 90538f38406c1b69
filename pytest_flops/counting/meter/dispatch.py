"""`CountingMode`: sees every operator PyTorch dispatches, and writes its cost down."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.autograd import set_multithreading_enabled
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from pytest_flops.counting.autograd import graph_task
from pytest_flops.counting.costs.elements import stores_unknown, tensors_in
from pytest_flops.counting.costs.nested import STRIDED_COSTS, layout_of_nested
from pytest_flops.counting.measurement import SPARSE_WITHOUT_VALUES
from pytest_flops.counting.meter.attribution import (
    Attribution,
    Place,
    ThreadState,
)
from pytest_flops.counting.meter.module_paths import OUTSIDE
from pytest_flops.counting.meter.operators import Operator, resolved, resolved_on_nested
from pytest_flops.counting.meter.parameter_updates import ParameterUpdates
from pytest_flops.counting.meter.workarounds.distributed_shapes import hide_shape_propagation
from pytest_flops.counting.metrics import Call

__tracebackhide__ = True  # an error of an operator ends in the line that called it


@contextmanager
def counting_here(attribution: Attribution) -> Iterator[None]:
    """While active, every operator of the calling thread is counted; once, however often entered.

    A thread that is replaced by a plain call (`Thread.start` patched to call `run`) counts already.
    """
    thread = attribution.local.state
    if thread.counted:
        yield
        return
    thread.counted = True
    try:
        # Autograd runs a backward in a thread of the device, if it has a GPU. Threads number the
        # autograd nodes that they record each for itself, so of a node that such a thread recorded
        # (`create_graph`, a checkpoint) the number would not tell the module. What is executed is
        # the same, and PyTorch means to make this the default (pytorch/pytorch#192082).
        with set_multithreading_enabled(False), CountingMode(attribution):
            yield
    finally:
        thread.counted = False


def counting_modes() -> list[CountingMode]:
    """The modes that count the calling thread's next operator, the outermost first.

    There is none inside an operator that has a cost: what it starts is a part of that cost.
    """
    return [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, CountingMode)]


class CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each operator of the thread it is active in, and runs it.

    Composite operators, which reach it whole under `torch.inference_mode`, are taken apart.
    """

    supports_higher_order_operators = True

    def __init__(self, attribution: Attribution) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.attribution = attribution
        self._operators: dict[int, Operator] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare every operator a detour through the compiler, and this process its import.

        Nothing is compiled while a mode like this one is active, so there is nothing to skip.
        """
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if types and _are_distributed(types):
            return NotImplemented  # DTensor runs it on what this rank holds, which comes back here
        operator = self._operators.get(id(func)) or self._meet(func)
        kwargs = kwargs or {}
        if operator.depends:
            nested = layout_of_nested(args)
            if nested == torch.jagged:
                return NotImplemented  # its class runs it, by operators that this mode will see
            if nested is not None and operator.name in STRIDED_COSTS:
                operator = self._with_prices(resolved_on_nested(func, operator.name))
            elif operator.decomposes:
                with self:
                    return operator.run(*args, **kwargs)
        out = operator.run(*args, **kwargs)
        self._count(operator, args, kwargs, out)
        return out

    def saw(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Write down a call that PyTorch does not dispatch, such as a kernel's launch."""
        operator = self._operators.get(id(func)) or self._meet(func)
        self._count(operator, args, kwargs, None)

    def _meet(self, func: Any) -> Operator:
        operator = self._operators[id(func)] = self._with_prices(resolved(func))
        return operator

    def _count(
        self, operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        """Write down what a call has cost, for the phase and the module that it belongs to."""
        attribution = self.attribution
        thread = attribution.local.state
        phase, module, call_task, _, updates = thread.frames[-1]
        task = graph_task()
        if not attribution.active:
            return
        if task != call_task:  # invariant 3 of `attribution`
            phase, updates = attribution.phase_in_backward(thread, task), None
            # The module is looked up only if something is written down for the call: more than
            # half of the operators of a backward are free.
            if operator.cost is not None or operator.prices:
                module = attribution.module_of_running_node(thread)
        flops: int | None = 0
        if updates is not None and operator.each is not None:
            module, flops = _count_each(thread, updates, operator, (args, kwargs, out))
        else:
            if updates is not None:
                module = updates.follow(args, out)
            if operator.cost is not None:
                flops = operator.cost(args, kwargs, out)
                _write(thread, (phase, module, operator.name), flops, args)
                if operator.side_cost is not None:
                    side = operator.side_cost(args, kwargs, out)
                    _write(thread, (phase, module, operator.side_name), side, args)
        if operator.prices:
            # The constructor of a named tuple takes twice as long.
            call = tuple.__new__(Call, (args, kwargs, out, flops, phase, module))
            attribution.join(thread, call, operator.name, operator.prices)

    def _with_prices(self, operator: Operator) -> Operator:
        """An operator with what the meter's other metrics make of its calls."""
        counters = self.attribution.counters.items()
        asked = ((metric, counter.of_operator(operator.func)) for metric, counter in counters)
        prices = tuple((metric, price) for metric, price in asked if price is not None)
        return replace(operator, prices=prices)


def _count_each(
    thread: ThreadState,
    updates: ParameterUpdates,
    operator: Operator,
    call: tuple[Sequence[Any], Mapping[str, Any], Any],
) -> tuple[int, int | None]:
    """Write down what an operator over lists costs each module; by other metrics it is one call."""
    args, kwargs, out = call
    assert operator.each is not None
    costs = operator.each(args, kwargs, out)
    modules = [*updates.follow_each(args, out, len(costs))]
    for module, flops in zip(modules, costs, strict=True):
        _write(thread, ("optimizer", module, operator.name), flops, args)
    whose = modules[0] if len(set(modules)) == 1 else OUTSIDE
    return whose, sum(flops or 0 for flops in costs)


def _are_distributed(kinds: Iterable[type]) -> bool:
    """Whether one of the classes is `DTensor`, which stands for the tensors of all ranks."""
    library = sys.modules.get("torch.distributed.tensor")
    found = library is not None and any(issubclass(kind, library.DTensor) for kind in kinds)
    if found:
        hide_shape_propagation()
    return found


def _write(thread: ThreadState, key: Place, flops: int | None, args: Sequence[Any]) -> None:
    """Add the cost of a call; 0 makes no line, and `None` is an operator without a cost."""
    if flops:
        thread.flops[key] += flops
    elif flops is None:
        why = SPARSE_WITHOUT_VALUES if any(map(stores_unknown, tensors_in(*args))) else ""
        thread.uncounted[key[2] + why] += 1
