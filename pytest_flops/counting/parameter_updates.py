"""`ParameterUpdates`: which module the tensors belong to that one optimizer step works on.

A parameter's tensors are the parameter, its gradient, its states in the optimizer, and whatever the
step computes from them. An operator of the step belongs to the module that holds the parameter.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pytest_flops.counting.module_paths import OUTSIDE, ModulePaths

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.optim import Optimizer


class ParameterUpdates:
    """One step of one optimizer."""

    def __init__(self, optimizer: Optimizer, paths: ModulePaths) -> None:
        self.optimizer = optimizer
        self._paths = paths
        self._held: list[Tensor] = []  # so that the ids below stay theirs
        self._modules: dict[int, int] = {}
        self._derived: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._by_storage: dict[int, int] = {}
        self._states = -1

    def module_of(self, tensors: Iterable[Any]) -> int:
        """The module of the first tensor that is known; `OUTSIDE` when none is."""
        known = self._modules
        for tensor in tensors:
            if id(tensor) in known:
                return known[id(tensor)]
        return self._search(tensors)

    def _search(self, tensors: Iterable[Any]) -> int:
        found = self._find(tensors)
        if found is None and self._refresh():
            found = self._find(tensors)
        if found is None:
            found = self._find_by_storage(tensors)
        return OUTSIDE if found is None else found

    def derive(self, results: Iterable[Any], sources: Sequence[Any]) -> None:
        """What a step computes from a parameter's tensors belongs to the parameter's module."""
        module = self._find(sources)
        if module is None:
            return
        for result in results:
            if isinstance(result, Tensor) and id(result) not in self._modules:
                self._derived[id(result)] = (weakref.ref(result), module)

    def _find(self, tensors: Iterable[Any]) -> int | None:
        for tensor in tensors:
            module = self._modules.get(id(tensor))
            if module is not None:
                return module
            derived = self._derived.get(id(tensor))
            if derived is not None and derived[0]() is tensor:
                return derived[1]
        return None

    def _refresh(self) -> bool:
        """States are made in the first step, so they are read when a tensor is not known."""
        states = sum(len(state) for state in self.optimizer.state.values())
        if states == self._states:
            return False
        self._states = states
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                state = self.optimizer.state.get(parameter, {})
                module = self._paths.owner(parameter)
                for tensor in (parameter, parameter.grad, *state.values()):
                    if isinstance(tensor, Tensor):
                        self._held.append(tensor)
                        self._modules[id(tensor)] = module
        return True

    def _find_by_storage(self, tensors: Iterable[Any]) -> int | None:
        """For `parameter.data` and other new faces of a known tensor."""
        for tensor in self._held:
            self._by_storage.setdefault(_storage(tensor), self._modules[id(tensor)])
        self._by_storage.pop(_NO_STORAGE, None)
        keys = [_storage(tensor) for tensor in tensors if isinstance(tensor, Tensor)]
        return next((self._by_storage[key] for key in keys if key in self._by_storage), None)


_NO_STORAGE = 0


def _storage(tensor: Tensor) -> int:
    """What a tensor shares with its views; sparse tensors have none."""
    if tensor.layout != torch.strided:
        return _NO_STORAGE
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - data_ptr() is 0 on meta
