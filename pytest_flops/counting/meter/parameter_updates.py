"""`ParameterUpdates`: which module the tensors belong to that one optimizer step works on.

A parameter's tensors are the parameter, its gradient, its states in the optimizer, and whatever the
step computes from them. An operator of the step belongs to the module that holds the parameter.
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
    """One step of one optimizer."""

    def __init__(self, optimizer: Optimizer, paths: ModulePaths) -> None:
        self.optimizer = optimizer
        self._paths = paths
        self._held: list[Tensor] = []  # so that the ids below stay theirs
        self._modules: dict[int, int] = {}
        self._derived: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._by_storage: dict[int, int] = {}
        self._states_read = -1
        self._hold_parameters()
        self._hold_states()

    def read_again(self) -> None:
        """After the step's closure, which may have called a module for the first time."""
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
        """The module of an operator of the step; what it results in belongs there from now on."""
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
        """States are made in the first step, so they are read again for a tensor not known."""
        if self._hold_states():
            return self.module_of(tensors)
        found = self._find_by_storage(tensors)
        return OUTSIDE if found is None else found

    def derive(self, results: Any, module: int) -> None:
        """What a step computes from a parameter's tensors belongs to the parameter's module."""
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
        """For gradients, `parameter.data` and other faces of a known tensor."""
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
    """What a tensor shares with its views; sparse tensors have none."""
    if tensor.layout != torch.strided:
        return _NO_STORAGE
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - data_ptr() is 0 on meta
