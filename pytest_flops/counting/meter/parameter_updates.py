"""`ParameterUpdates`: which module the tensors belong to that one optimizer step works on.

A parameter's tensors are the parameter, its gradient, its states in the optimizer, and whatever the
step computes from them. An operator of the step belongs to the module that holds the parameter of
the first tensor argument that is known.

A tensor is looked up by `id()`, the cheapest first: parameters and states, which are held so that
no id becomes another tensor's; then results of earlier operators, with a weak reference that tells
whether the id is still theirs; then, for gradients and `parameter.data`, the storage it shares.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pytest_flops.counting.meter.module_paths import OUTSIDE, ModulePaths

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.optim import Optimizer


_SEQUENCE = (tuple, list)


class ParameterUpdates:
    """One step of one optimizer; a module is given by its number in `ModulePaths`."""

    def __init__(self, optimizer: Optimizer, paths: ModulePaths) -> None:
        self.optimizer = optimizer
        self._paths = paths
        self._held: list[Tensor] = []  # parameters and states
        self._modules: dict[int, int] = {}  # theirs, by id
        self._derived: dict[int, tuple[weakref.ref[Tensor], int]] = {}  # results, by id
        self._by_storage: dict[int, int] = {}
        self._states_read = -1  # how many there were
        self._hold_parameters()
        self._hold_states()

    def read_again(self) -> None:
        """Look up the parameters again, after the step's closure.

        It may have called a module for the first time, which no parameter belonged to before.
        """
        owners = {
            id(parameter): self._paths.owner(parameter)
            for group in self.optimizer.param_groups
            for parameter in group["params"]
        }
        if owners.items() <= self._modules.items():
            return
        self._modules.update(owners)
        self._by_storage.clear()
        self._states_read = -1
        self._hold_states()

    def follow(self, args: Sequence[Any], out: Any) -> int:
        """The module of an operator of the step; its result belongs to that module from now on."""
        # Nearly every operator of a step begins with a parameter or a state.
        first = args[0] if args else None
        module = self._modules.get(id(first))
        if module is None:
            module = self.module_of(args)
        if out is not first:
            self.derive(out, module)
        return module

    def module_of(self, tensors: Iterable[Any]) -> int:
        """The module of the first tensor that is known; `OUTSIDE` when none is."""
        known = self._modules
        for tensor in tensors:
            if id(tensor) in known:
                return known[id(tensor)]
        found = self._find_derived(tensors)
        return self._search(tensors) if found is None else found

    def _search(self, tensors: Iterable[Any]) -> int:
        """The module of a tensor that is neither held nor derived."""
        # An optimizer makes its states in the middle of its first step.
        if self._hold_states():
            return self.module_of(tensors)
        found = self._find_by_storage(tensors)
        return OUTSIDE if found is None else found

    def derive(self, results: Any, module: int) -> None:
        """Let the results of an operator belong to a module."""
        if module == OUTSIDE:
            return
        if isinstance(results, Tensor):
            if id(results) not in self._modules:
                self._derived[id(results)] = (weakref.ref(results), module)
        elif isinstance(results, _SEQUENCE):
            for result in results:
                self.derive(result, module)

    def _find_derived(self, tensors: Iterable[Any]) -> int | None:
        for tensor in tensors:
            derived = self._derived.get(id(tensor))
            if derived is not None and derived[0]() is tensor:
                return derived[1]
        return None

    def _hold_parameters(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                self._modules[id(parameter)] = self._paths.owner(parameter)
            self._held += group["params"]

    def _hold_states(self) -> bool:
        """Whether there are states that had not been read."""
        states = sum(map(len, self.optimizer.state.values()))
        if states == self._states_read:
            return False
        self._states_read = states
        for parameter, state in self.optimizer.state.items():
            module = self._modules.get(id(parameter), OUTSIDE)
            for value in state.values():
                if isinstance(value, Tensor):
                    self._modules[id(value)] = module
                    self._held.append(value)
        return True

    def _find_by_storage(self, tensors: Iterable[Any]) -> int | None:
        """The module of a gradient, of `parameter.data` or of another view of what is held."""
        if not self._by_storage:
            self._read_storages()
        keys = [_storage(tensor) for tensor in tensors if isinstance(tensor, Tensor)]
        return next((self._by_storage[key] for key in keys if key in self._by_storage), None)

    def _read_storages(self) -> None:
        owned = [(tensor, self._modules[id(tensor)]) for tensor in self._held]
        owned += [(t.grad, module) for t, module in owned if t.is_leaf and t.grad is not None]
        for tensor, module in owned:
            self._by_storage.setdefault(_storage(tensor), module)
        self._by_storage.pop(_NO_STORAGE, None)


_NO_STORAGE = 0


def _storage(tensor: Tensor) -> int:
    """What identifies the storage that a tensor shares with its views; sparse ones have none."""
    if tensor.layout != torch.strided:
        return _NO_STORAGE
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - data_ptr() is 0 on meta
