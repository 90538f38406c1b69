"""`ModulePaths`: which module is which, found from the calls alone.

The outermost module of a call is a root; the modules under it have the paths that its
`named_modules()` gives. Nobody has to tell the meter what the model is:

* With one root, paths are relative to it (`layer_0.moe`), and the root itself is the whole.
* A root that turns out to be inside another one is no root: it has its path there.
* A root without parameters and submodules, such as a loss, is named after its class
  (`CrossEntropyLoss`).
* With several roots that hold something, such as a generator and a discriminator, the paths of
  each begin with its class name; a second root of one class is `Linear_2`.
* A shared module has the first of its paths. A module that no root holds counts as a part of the
  module that calls it. `torch.compile`'s wrapper adds nothing to a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor
from torch.nn import Module

from pytest_flops.counting.components import OUTSIDE_PATH, segments

OUTSIDE = 0
"""The number of what runs outside any module."""
WHOLE = ""
"""The path of the only root. It is no component: what it costs is the count itself."""


class ModulePaths:
    """Numbers modules as they are called, and names the numbers afterwards.

    Modules and parameters are found by `id()`. Every numbered module is held, so that its id, and
    those of its parameters, cannot become another's while the meter counts.
    """

    def __init__(self) -> None:
        self.called: set[int] = set()  # numbers; the others' submodules may have been
        self._modules: list[Module | None] = [None]  # by number
        self._numbers: dict[int, int] = {}  # by id of the module
        self._roots: list[Module] = []
        self._owners: dict[int, int] = {}  # numbers, by id of the parameter
        self._strays: dict[int, Module] = {}  # by id; they have their caller's number

    def number(self, module: Module, caller: int) -> int:
        """The number of a module that is being called by the module numbered `caller`."""
        if id(module) not in self._numbers:
            self._add(module, caller)
        number = self._numbers[id(module)]
        self.called.add(number)
        return number

    def _add(self, module: Module, caller: int) -> None:
        caller_module = self._modules[caller]
        if caller_module is None:
            self._roots.append(module)
            self._add_tree(module)
        elif any(module is member for member in caller_module.modules()):
            self._add_tree(module)
        else:
            self._strays[id(module)] = module
            self._numbers[id(module)] = caller

    def _add_tree(self, root: Module) -> None:
        """Number a module and all inside it; what a root inside a root has keeps its number."""
        for module in root.modules():
            number = self._numbers.setdefault(id(module), len(self._modules))
            if number == len(self._modules):
                self._modules.append(module)
            for parameter in module._parameters.values():  # noqa: SLF001 - parameters() is slow
                self._owners.setdefault(id(parameter), number)

    def is_stray(self, module: Module) -> bool:
        """Whether no root holds a module, such as a graph that PyTorch made for itself."""
        return id(module) in self._strays

    def owner(self, parameter: Tensor) -> int:
        """The number of the module that holds a parameter; a shared one, of the first."""
        return self._owners.get(id(parameter), OUTSIDE)

    def parameters(self) -> Iterator[tuple[int, Tensor]]:
        """Every parameter once, with the number of the first module that holds it."""
        told: set[int] = set()
        for number, module in enumerate(self._modules):
            for parameter in module._parameters.values() if module is not None else ():  # noqa: SLF001 - as above
                if parameter is not None and id(parameter) not in told:
                    told.add(id(parameter))
                    yield number, parameter

    def names(self) -> dict[int, str]:
        """The path of every number, in the order of the model; `WHOLE` is the only root.

        A module that its model has let go of meanwhile is outside modules.
        """
        paths: dict[int, str] = {}
        for prefix, root in self._prefixed_roots():
            for name, module in root.named_modules():
                number = self._numbers.get(id(module))
                if number is not None:
                    path = [*prefix, *(each for each in segments(name) if each != "_orig_mod")]
                    paths.setdefault(number, ".".join(filter(None, path)))
        gone = [number for number in range(len(self._modules)) if number not in paths]
        return paths | dict.fromkeys(gone, OUTSIDE_PATH)

    def _prefixed_roots(self) -> Iterator[tuple[list[str], Module]]:
        inner = {id(m) for root in self._roots for m in root.modules() if m is not root}
        roots = [root for root in self._roots if id(root) not in inner]
        bodies = [root for root in roots if _holds_something(root)] or roots
        seen: Counter[str] = Counter()
        for root in roots:
            if len(bodies) == 1 and root is bodies[0]:
                yield [], root
                continue
            name = type(root).__name__
            seen[name] += 1
            yield [name if seen[name] == 1 else f"{name}_{seen[name]}"], root


def _holds_something(module: Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.children(), None) is not None
