"""What a step can reach: on other tensors while it runs, and as it was afterwards.

A step on fake tensors runs the user's code, which keeps what it likes where it likes: in attributes
of its modules, a global, a class attribute, a mutable default, an `lru_cache`. A fake tensor that
stays there breaks whoever meets it next. So what can be reached is noted before the step and put
back after it. A step on real values runs on copies of its tensors in the same way:

1. **Data** is what the model and its inputs hold: modules, other objects, mappings, lists. Tensors
   in it are replaced, and afterwards all of it is as it was.
2. **Closures** are what the functions in the data hold: hooks, a loss, a compiled `forward`.
   Tensors in them are replaced too. Afterwards only what holds fakes, or what was put in their
   place, is put back: what a hook has noted is the user's.
3. **Code** is what the classes of the data and all loaded modules hold: globals, class attributes,
   defaults. Tensors stay, and PyTorch makes fakes of them where they are used. What holds fakes
   afterwards is put back, and gradients. Other changes stay, such as a submodule that was imported.
   PyTorch, the standard library and modules that name nothing of PyTorch are left out.
4. An `lru_cache` that holds fakes afterwards is emptied. One that has returned tensors is emptied
   before the step too, since the count would depend on what ran before.

A container is written to only if it holds a tensor or was changed.

Three other ways were tried. A forked process keeps everything from the parent; but it cannot run a
backward once the parent has run one on a GPU, Windows has none, and it waits for ever for a lock
that another thread held. A deep copy fails for what cannot be copied, shares globals and closures,
and lacks what `model.compile()` has left in a module. A search for fakes afterwards finds where
they are, but not what was there before.

What only slots, generators or C++ objects hold is not reached.
"""

from __future__ import annotations

import gc
import sys
from collections import UserDict
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import _lru_cache_wrapper, partial
from itertools import chain
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.nn import Module
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.meter.containers import CONTAINERS, Content, content, differ, write

Replace: TypeAlias = Callable[[Tensor], Tensor]

_CODE = (type, ModuleType, _lru_cache_wrapper, property, staticmethod, classmethod)
_LEAD_ON = (*CONTAINERS, *_CODE, tuple, frozenset, FunctionType, MethodType, partial, Tensor)
_LEAD_ON_OF_LIBRARIES = (Module, SimpleNamespace, UserDict, WeakKeyDictionary, WeakValueDictionary)
_HOLD_NOTHING = {str, bytes, int, float, bool, type(None), CodeType, FrameType, GeneratorType}
_LIBRARIES = {*sys.stdlib_module_names, "torch", "triton", "numpy", "pytest", "_pytest", "pluggy"}
_LIBRARIES.add(__name__.partition(".")[0])
_ABSENT = object()


@contextmanager
def on_others(data: Iterable[object], other: Replace) -> Iterator[None]:
    """While active, the tensors that `data` holds are others; `other` makes one of a tensor."""
    reachable = _Reachable(data)
    try:
        reachable.replace_tensors(other)
        yield
    finally:
        reachable.put_back()


@dataclass(slots=True)
class _Noted:
    """A container and what it held."""

    container: Any
    before: Content
    is_data: bool


class _Reachable:
    def __init__(self, data: Iterable[object]) -> None:
        self._known: dict[int, object] = {}  # by id; held, so that no id becomes another's
        self._noted: list[_Noted] = []
        self._caches: list[_lru_cache_wrapper[Any]] = []
        self._gradients: list[tuple[Tensor, Tensor | None]] = []
        self._others: dict[int, Tensor] = {}  # by the id of the tensor in whose place they are
        self._put: set[int] = set()  # their own ids
        functions = self._note(data, lambda found: _is_function(found) or _is_code(found))
        for noted in self._noted:
            noted.is_data = True
        code = self._note(functions, _is_code)
        self._on_others = tuple(self._noted)
        self._note([*code, *sys.modules.values()], lambda _: False)
        for cache in self._caches:
            if any(isinstance(leaf, Tensor) for leaf in tree_leaves(_cached(cache))):
                cache.cache_clear()

    def _note(self, roots: Iterable[object], is_later: Callable[[object], bool]) -> list[object]:
        """Note what the roots lead to, up to what `is_later`; return that."""
        later = []
        for found in _reached(roots, self._known, is_later):
            if is_later(found):
                later.append(found)
                continue
            self._known[id(found)] = found
            if isinstance(found, Tensor):
                if found.is_leaf and found.requires_grad:
                    self._gradients.append((found, found.grad))
            elif type(found) is _lru_cache_wrapper:
                self._caches.append(found)
            elif issubclass(type(found), CONTAINERS):
                self._noted.append(_Noted(found, content(found), is_data=False))
        return later

    def replace_tensors(self, other: Replace) -> None:
        """Put another in the place of each tensor of data and closures, the same for the same."""
        replaced = partial(_replaced, other=other, others=self._others)
        for noted in self._on_others:
            before = noted.before
            if isinstance(before, dict):
                wanted: Content = {key: replaced(each) for key, each in before.items()}
            else:
                wanted = [*map(replaced, before)]
            write(noted.container, wanted)

    def put_back(self) -> None:
        """Let everything hold what it held, except for changes of code that are real."""
        self._put = {*map(id, self._others.values())}
        for noted in self._noted:
            write(noted.container, noted.before if noted.is_data else self._mended(noted))
        for tensor, gradient in self._gradients:
            if tensor.grad is not gradient:
                tensor.grad = gradient
        for cache in self._caches:
            if self._hold_others(_cached(cache)):
                cache.cache_clear()

    def _mended(self, noted: _Noted) -> Content:
        """What it holds now, with what it held before in the place of what was put there."""
        before, now = noted.before, content(noted.container)
        if not isinstance(before, dict) or not isinstance(now, dict):
            return before if differ(now, before) and self._hold_others(now) else now
        changed = [key for key, value in now.items() if value is not before.get(key, _ABSENT)]
        for key in changed:
            if self._hold_others([now[key]]):
                if key in before:
                    now[key] = before[key]
                else:
                    del now[key]
        return now

    def _hold_others(self, values: Iterable[object]) -> bool:
        """Whether fakes or copies are in there, apart from what is put back by itself."""
        reached = (each for each in _reached(values, self._known) if isinstance(each, Tensor))
        return any(is_fake(each) or id(each) in self._put for each in reached)


def _reached(
    roots: Iterable[object],
    known: Container[int],
    is_end: Callable[[object], bool] = lambda _: False,
) -> Iterator[Any]:
    """What the roots lead to, themselves included, each once; but for what is known, by id."""
    seen: dict[int, object] = {}
    pending = [*roots]
    while pending:
        found = pending.pop()
        if id(found) not in seen and id(found) not in known and _may_hold_tensors(found):
            seen[id(found)] = found
            yield found
            if not is_end(found):
                pending.extend(_leads_to(found))


def _may_hold_tensors(found: Any) -> bool:
    # Asks the type, never the object: a lazy proxy resolves itself when it is asked for its class.
    kind = type(found)
    if kind in _HOLD_NOTHING:
        return False
    if issubclass(kind, type):
        return not _is_of_library(found.__module__)
    if issubclass(kind, ModuleType):
        return not _is_of_library(found.__name__)
    if _is_namespace(found):
        return not _is_of_library(found["__name__"]) and any(map(_is_pytorchs, found.values()))
    leads_on = issubclass(kind, (*_LEAD_ON, *_LEAD_ON_OF_LIBRARIES)) or _is_of_fsdp(kind)
    return leads_on or not _is_of_library(kind.__module__)


def _leads_to(found: Any) -> Iterable[object]:
    kind = type(found)
    if issubclass(kind, Tensor):
        return ()
    if issubclass(kind, type):
        return [*vars(found).values(), *found.__mro__]
    if kind is FunctionType:
        defaults = (found.__defaults__, found.__kwdefaults__)
        return [found.__globals__, found.__closure__, *defaults, vars(found)]
    if kind is _lru_cache_wrapper:
        return _cached(found)
    return [*gc.get_referents(found), *_attributes(found)]


def _attributes(found: object) -> list[object]:
    """The `dict` of an object's attributes, and its class, if it has one."""
    try:
        return [object.__getattribute__(found, "__dict__"), type(found)]
    except AttributeError:
        return []


def _cached(cache: _lru_cache_wrapper[Any]) -> list[object]:
    """What a cache leads to, without the `dict` of its own in which some of it is."""
    held = gc.get_referents(cache)
    inner = [each.values() for each in held if type(each) is dict]
    return [*(each for each in held if type(each) is not dict), *chain.from_iterable(inner)]


def _is_function(found: object) -> bool:
    return type(found) is FunctionType


def _is_code(found: object) -> bool:
    return issubclass(type(found), _CODE) or _is_namespace(found)


def _is_namespace(found: Any) -> bool:
    """Whether it holds the globals of a module."""
    return type(found) is dict and "__spec__" in found and "__name__" in found


def _is_of_library(module: object) -> bool:
    return not isinstance(module, str) or module.partition(".")[0] in _LIBRARIES


def _is_of_fsdp(kind: type) -> bool:
    """Whether it holds what FSDP2 knows of a module: shards, and what is gathered of others."""
    return str(kind.__module__).startswith("torch.distributed.fsdp.")


def _is_pytorchs(value: Any) -> bool:
    kind = type(value)
    if issubclass(kind, ModuleType):
        return str(value.__name__).partition(".")[0] == "torch"
    of_module = issubclass(kind, type) or kind in (FunctionType, BuiltinFunctionType)
    return of_module and str(value.__module__).partition(".")[0] == "torch"


def _replaced(value: Any, other: Replace, others: dict[int, Tensor]) -> Any:
    """The other of a tensor; a tuple with those of its members; anything else as it is."""
    if isinstance(value, Tensor):
        if id(value) not in others:
            others[id(value)] = other(value)
        return others[id(value)]
    if not issubclass(type(value), tuple):
        return value
    members = [_replaced(member, other, others) for member in value]
    if not differ(members, value):
        return value
    return value._make(members) if hasattr(value, "_make") else type(value)(members)
