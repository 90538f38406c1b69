"""`CountingMode`: sees every operator PyTorch dispatches, and writes its cost down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._library.custom_ops import OPDEFS
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.costs import Rule, is_composite, rule_of
from pytest_flops.counting.costs.elements import stores_unknown
from pytest_flops.counting.costs.nested import STRIDED_COSTS, layout_of_nested
from pytest_flops.counting.measurement import SPARSE_WITHOUT_VALUES
from pytest_flops.counting.meter.attribution import graph_task
from pytest_flops.counting.meter.data_dependence import explaining_meta
from pytest_flops.counting.meter.higher_order import has_eager_form, run_parts
from pytest_flops.counting.meter.workarounds.conjugates import (
    heeding_conjugates,
    may_conjugate_inside,
)
from pytest_flops.counting.meter.workarounds.fake_kernels import FAKE_KERNELS
from pytest_flops.counting.meter.workarounds.spectra import SPECTRA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flops.counting.costs.table import Cost, CostEach
    from pytest_flops.counting.meter.attribution import Attribution, LedgerKey, ThreadState


__tracebackhide__ = True  # an error of an operator ends in the line that called it


@dataclass(frozen=True, slots=True)
class _Entry:
    """An operator, resolved once: its name in the results and what to do with a call."""

    operator: object  # kept alive, so that its id stays its own
    run: Callable[..., Any]
    name: str
    cost: Cost | None
    side_cost: Cost | None
    side_name: str
    each: CostEach | None
    decomposes: bool
    depends: bool  # on the kind of tensor: taken apart, or without a rule


class CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each operator of the thread it is active in, and runs it.

    Composite operators, which reach it whole under `torch.inference_mode`, are taken apart.
    """

    supports_higher_order_operators = True

    def __init__(self, attribution: Attribution) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.attribution = attribution
        self._local = attribution.local
        self._entries: dict[int, _Entry] = {}
        self._nested: dict[str, _Entry] = {}

    def __exit__(self, *error: Any) -> None:
        """Leave the mode, whichever have been entered since: meters of asyncio's tasks overlap."""
        modes = _get_current_dispatch_mode_stack()
        if self not in modes:
            return
        above = [_pop_mode() for _ in modes[modes.index(self) + 1 :]]
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for mode in reversed(above):
            _push_mode(mode)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare every operator a detour through the compiler, and this process its import.

        Nothing is compiled while a mode like this one is active, so there is nothing to skip.
        """
        return False

    def __torch_dispatch__(  # noqa: C901 - a call less, for every operator
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        entry = self._entries.get(id(func)) or self._resolve(func)
        kwargs = kwargs or {}
        if entry.depends:
            settled, done = self._settle(func, entry, args, kwargs)
            if settled is None:
                return done
            entry = settled
        out = entry.run(*args, **kwargs)
        thread = self._local.state
        phase, module, call_task, _, updates = thread.frames[-1]  # where most operators belong
        task = graph_task()
        if task != call_task or not self.attribution.active:
            place = self.attribution.locate_in_backward(thread, task, entry.cost is None)
            if place is None:
                return out
            phase, module = place
            updates = None
        if updates is not None:
            if entry.each is not None:
                _record_each(thread, entry.name, entry.each(args, kwargs, out), args, out)
                return out
            module = updates.follow(args, out)
        if entry.cost is not None:
            flops = entry.cost(args, kwargs, out)
            if flops:  # as `_write` does
                thread.flops[phase, module, entry.name] += flops
            elif flops is None:
                _report(thread, entry.name, args)
            if entry.side_cost is not None:
                side = entry.side_cost(args, kwargs, out)
                _write(thread, (phase, module, entry.side_name), side, args)
        return out

    def _resolve(self, func: Any) -> _Entry:
        if isinstance(func, HigherOrderOperator):
            entry = _higher_order_entry(func)
        else:
            entry = _operator_entry(func)
        self._entries[id(func)] = entry
        return entry

    def _settle(
        self, func: Any, entry: _Entry, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[_Entry | None, Any]:
        """What an operator is with these tensors; None if it is done, and with what result."""
        nested = layout_of_nested(args)
        if nested == torch.jagged:
            return None, NotImplemented  # its class runs it, by operators that we will see
        if nested is not None and entry.name in STRIDED_COSTS:
            return self._resolve_nested(func, entry.name), None
        if entry.decomposes:
            with self:
                return None, entry.run(*args, **kwargs)
        return entry, None

    def _resolve_nested(self, func: Any, name: str) -> _Entry:
        if name not in self._nested:
            self._nested[name] = _entry(func, name, Rule(STRIDED_COSTS[name]))
        return self._nested[name]


def _write(thread: ThreadState, key: LedgerKey, flops: int | None, args: Sequence[Any]) -> None:
    if flops:
        thread.flops[key] += flops
    elif flops is None:
        _report(thread, key[2], args)


def _report(thread: ThreadState, name: str, args: Sequence[Any]) -> None:
    if any(isinstance(leaf, Tensor) and stores_unknown(leaf) for leaf in tree_leaves(args)):
        name += SPARSE_WITHOUT_VALUES
    thread.uncounted[name] += 1


def _record_each(
    thread: ThreadState,
    name: str,
    costs: Sequence[int | None],
    args: Sequence[Any],
    out: Any,
) -> None:
    """An operator over lists of tensors: each position goes to the module of its parameter."""
    updates = thread.frames[-1].updates
    assert updates is not None
    lists = [arg for arg in args if isinstance(arg, list | tuple)]
    results = out or [None] * len(costs)
    for position, flops in enumerate(costs):
        tensors = [each[position] for each in lists if position < len(each)]
        module = updates.module_of(tensors)
        _write(thread, ("optimizer", module, name), flops, args)
        updates.derive(results[position], module)


def _unknown_cost(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int | None:
    """An operator that no rule claims has no cost; work on integers and booleans alone is free."""
    for leaf in tree_leaves((args, kwargs, out)):
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            return None
    return 0


_UNKNOWN = Rule(_unknown_cost)


def _parts_of(func: OpOverload) -> Callable[..., Any] | None:
    """What PyTorch runs for an operator that is made of others; the C++ kernel before Python's."""
    if func in SPECTRA:
        return SPECTRA[func]
    if is_composite(func):
        return partial(func._op_dk, DispatchKey.CompositeImplicitAutograd)  # noqa: SLF001
    if func._can_decompose():  # noqa: SLF001 - as PyTorch's own counter asks
        return func.decompose
    if func.namespace == "torch_nn":  # PyTorch's own, written in Python
        parts: Callable[..., Any] = OPDEFS[func._schema.name]._init_fn  # noqa: SLF001
        return parts
    return None


def _operator_entry(func: OpOverload) -> _Entry:
    name = str(func._overloadpacket)  # noqa: SLF001 - the name that FlopCounterMode uses
    rule = rule_of(func)
    if rule is not None:
        return _entry(func, name, rule)
    parts = _parts_of(func)
    if parts is None:
        return _entry(func, name, _UNKNOWN)
    return _entry_of_parts(func, name, heeding_conjugates(parts))


def _entry_of_parts(func: object, name: str, run: Callable[..., Any]) -> _Entry:
    return _Entry(func, run, name, None, None, "", None, decomposes=True, depends=True)


def _entry(func: Callable[..., Any], name: str, rule: Rule) -> _Entry:
    side_name = f"{name}:{rule.side_line}"
    parts = (rule.cost, rule.side_cost, side_name, rule.each)
    # What calling an OpOverload does; every operator is spared the Python around it.
    run: Callable[..., Any] = func
    if type(func) is OpOverload:
        run = explaining_meta(func, func._op)  # noqa: SLF001
    if name in FAKE_KERNELS:
        run = partial(FAKE_KERNELS[name], run)
    if may_conjugate_inside(name):
        run = heeding_conjugates(run)
    return _Entry(func, run, name, *parts, decomposes=False, depends=rule is _UNKNOWN)


def _higher_order_entry(func: HigherOrderOperator) -> _Entry:
    name = f"higher_order.{func.__name__}"
    if not has_eager_form(func):
        return _entry(func, name, _UNKNOWN)
    return _entry_of_parts(func, name, lambda *args, **kwargs: run_parts(func, args, kwargs))
