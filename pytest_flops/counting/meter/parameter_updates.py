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
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from pytest_flops.counting.costs.elements import storage_of
from pytest_flops.counting.meter.module_paths import OUTSIDE, ModulePaths


class ParameterUpdates:
    """One step of one optimizer; a module is given by its number in `ModulePaths`."""

    def __init__(self, optimizer: Optimizer, paths: ModulePaths) -> None:
        self._optimizer = optimizer
        self._paths = paths
        self._held: dict[int, Tensor] = {}  # parameters and states, by id
        self._modules: dict[int, int] = {}  # theirs, by id
        self._derived: dict[int, tuple[weakref.ref[Tensor], int]] = {}  # results, by id
        self._by_storage: dict[int, int] = {}  # theirs, by the id of the storage
        self._states_read = -1  # how many there were
        self.read_again()

    def read_again(self) -> None:
        """Look up the parameters; again after the step's closure, which may have called modules."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                self._hold(parameter, self._paths.owner(parameter))
        self._by_storage.clear()
        self._states_read = -1
        self._read_states()

    def follow(self, args: Sequence[Any], out: Any) -> int:
        """The module of an operator of the step; its result belongs to that module from now on."""
        # Nearly every operator of a step begins with a parameter or a state.
        first = args[0] if args else None
        module = self._modules.get(id(first))
        if module is None:
            module = self._module_of(args)
        if out is not first:
            self._derive(out, module)
        return module

    def follow_each(self, args: Sequence[Any], out: Any, positions: int) -> Iterator[int]:
        """The module of each position of an operator over lists of tensors, as in `follow`."""
        lists = [arg for arg in args if isinstance(arg, list | tuple)]
        results = out or [None] * positions
        for position in range(positions):
            module = self._module_of([each[position] for each in lists if position < len(each)])
            self._derive(results[position], module)
            yield module

    def _module_of(self, tensors: Sequence[Any]) -> int:
        """The module of the first tensor that is known; `OUTSIDE` when none is."""
        for tensor in tensors:
            if id(tensor) in self._modules:
                return self._modules[id(tensor)]
        for tensor in tensors:
            derived = self._derived.get(id(tensor))
            if derived is not None and derived[0]() is tensor:
                return derived[1]
        # An optimizer makes its states in the middle of its first step.
        if self._read_states():
            return self._module_of(tensors)
        if not self._by_storage:
            self._read_storages()
        keys = [id(storage_of(tensor)) for tensor in tensors if isinstance(tensor, Tensor)]
        return next((self._by_storage[key] for key in keys if key in self._by_storage), OUTSIDE)

    def _derive(self, results: Any, module: int) -> None:
        """Let the results of an operator belong to a module."""
        if module == OUTSIDE:
            return
        if isinstance(results, Tensor):
            if id(results) not in self._modules:
                self._derived[id(results)] = (weakref.ref(results), module)
        elif isinstance(results, tuple | list):
            for result in results:
                self._derive(result, module)

    def _hold(self, tensor: Tensor, module: int) -> None:
        # Of a DTensor the operators get what this rank holds.
        for each in (tensor, getattr(tensor, "_local_tensor", None)):
            if each is not None:
                self._held[id(each)] = each
                self._modules[id(each)] = module

    def _read_states(self) -> bool:
        """Whether there are states that had not been read."""
        states = sum(map(len, self._optimizer.state.values()))
        if states == self._states_read:
            return False
        self._states_read = states
        for parameter, state in self._optimizer.state.items():
            module = self._modules.get(id(parameter), OUTSIDE)
            for value in state.values():
                if isinstance(value, Tensor):
                    self._hold(value, module)
        return True

    def _read_storages(self) -> None:
        """The storages of what is held, and of gradients."""
        owned = [(tensor, self._modules[key]) for key, tensor in self._held.items()]
        owned += [(t.grad, module) for t, module in owned if t.is_leaf and t.grad is not None]
        for tensor, module in owned:
            self._by_storage.setdefault(id(storage_of(tensor)), module)
        self._by_storage.pop(id(None), None)
