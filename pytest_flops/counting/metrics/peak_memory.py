"""`peak_memory`: the largest sum of the bytes of all storages alive, from the lives of storages.

A storage begins with the operator whose result is in it, and ends when PyTorch lets go of it, which
a weak reference tells. The sum is read after every operator, while its arguments and results are
alive. A storage that an operator takes and none has made was there before the block, and counts
from the beginning of the block. So sums are kept relative to what was there before, and that is
added at the end, when all of it is known.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections import defaultdict, deque
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from weakref import WeakSet

import torch
from torch import Tensor, UntypedStorage
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import Module, Parameter
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pytest_flops.counting.autograd import ACCUMULATES_GRADIENT, running_node, sequence_number
from pytest_flops.counting.components import ancestors
from pytest_flops.counting.costs.elements import is_sparse, parts_of
from pytest_flops.counting.measurement import KERNEL
from pytest_flops.counting.metrics import PHASE
from pytest_flops.counting.metrics.memory_curve import curve
from pytest_flops.counting.replacing import Shared, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_flops.counting.metric import Costs
    from pytest_flops.counting.metrics import Call, MeteredPhase, Price
    from pytest_flops.counting.metrics.memory_curve import Life

GRANULE = 512
"""What sizes are rounded up to, as PyTorch's allocator for CUDA does, on every device alike."""

Kind: TypeAlias = Literal[
    "parameters", "gradients", "optimizer state", "inputs", "activations", "temporaries"
]

# What a storage from before the block is, by the phase that first uses it, if nothing says more.
_FROM_BEFORE: dict[str, Kind] = {
    "forward": "inputs",
    "recomputed": "activations",
    "backward": "activations",
    "optimizer": "optimizer state",
}
_BEFORE_THE_BLOCK = 0
_MOST_ENDED = 200_000  # kept for the curve, of some 250 bytes each; a longer block has no curve

_LISTS = (list, tuple)
_HOLD_TENSORS = (Tensor, *_LISTS)
_STRIDED = torch.strided
# A tensor of these classes has one storage; any other is asked what it is made of.
_PLAIN = {Tensor, Parameter, FakeTensor}

# `torch.tensor` and its kin make a storage unseen, and end in this operator.
_LIFT_FRESH = torch.ops.aten.lift_fresh.default


class _Storage(weakref.ref[UntypedStorage]):
    """A storage, with what is known of it.

    The tensors are not referenced: PyTorch cannot swap one that is.
    """

    __slots__ = ("address", "born", "died", "died_in", "kind", "module", "nbytes", "phase", "size")

    address: int  # the `id` of the storage; later it may be another one's
    nbytes: int
    size: int  # the same, rounded up
    born: int  # the number of the call that made it, or `_BEFORE_THE_BLOCK`
    died: int  # the number of the first call that did not find it alive; unset while it lives
    phase: str  # that it was made in, or first used in
    died_in: str  # a phase too; empty while it lives
    module: int  # that made it; of a parameter, the first that uses it; 0 is outside modules
    kind: Kind | None  # as far as it is known while it lives

    def kind_at_end(self) -> Kind:
        """What it was, now that it is known how long it lived."""
        if self.kind is not None:
            return self.kind
        outlived_forward = self.phase in ("forward", "recomputed") and self.died_in != self.phase
        return "activations" if outlived_forward else "temporaries"


class Counter:
    """What is alive after each call, less what was there before the block.

    1. `_alive` holds every known storage that is alive, by address. `_level` is the sum of their
       sizes, less `_before`: the sizes that those from before the block had at their first use.
    2. A storage may end in any thread, and inside a garbage collection. All that happens then is
       that it joins `_ended`. A call takes those out before it looks up anything, and an address
       becomes another storage's only after the one that had it has joined `_ended`.
    3. `_lost` holds what was alive at the highest level and is not any more. The peak is made of
       these and of what in `_alive` is as old. `_past` holds all that has ended, for the curve.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._alive: dict[int, _Storage] = {}
        self._ended: deque[Any] = deque()  # of `_Storage`
        self._lost: list[_Storage] = []
        self._past: list[_Storage] = []
        # Sizes are multiples of 512. So no level that begins at 1 is 0, which a call returns that
        # has nothing to say.
        self._level = 1
        self._before = -1
        self._call = _BEFORE_THE_BLOCK + 1  # the number of the one that is running, or is next
        self._phase: MeteredPhase = "forward"  # of the last call
        # The phases by their first call.
        self._begins: dict[int, MeteredPhase] = {self._call: self._phase}
        # The highest level, the number of its call, and its phase, module and operator.
        self._highest = 0
        self._highest_call = _BEFORE_THE_BLOCK
        self._highest_at: tuple[MeteredPhase, int, Any] | None = None
        # This rank's parts of parameters that are spread over ranks, of the modules called so far.
        # Operators take such a part as a plain tensor.
        self._shards = WeakSet[UntypedStorage]()
        self._hooks: list[Any] = []
        self._collects = False

    def start(self, note: Callable[[int], None]) -> None:  # noqa: ARG002 - calls say all
        """Follow modules, optimizers and storages that are resized, and keep chance out.

        When Python collects cycles depends on all that has run in the process. So it does not
        inside the block: a cycle that holds tensors lives until its end, or a `gc.collect()`.
        """
        self._hooks = [
            register_module_forward_pre_hook(self._note_shards),
            register_optimizer_step_post_hook(self._after_step),
        ]
        _resizes.begin(self)
        self._collects = gc.isenabled()
        gc.disable()

    def stop(self) -> None:
        """Undo that. What ends from now on was alive at the end."""
        if not self._hooks:
            return
        with self._lock:
            self._take_out_ended()
        if self._collects:
            gc.enable()
        _resizes.end(self)
        while self._hooks:
            self._hooks.pop().remove()

    def of_operator(self, func: Any) -> Price:
        """What is alive while a call's arguments and results are; 0 if none is a tensor."""
        return partial(self._of_call, func, _has_new_results(func))

    def _of_call(self, func: Any, makes: bool, call: Call) -> int:  # noqa: C901 - a call costs
        args, kwargs, out, _, phase, module = call
        alive = self._alive
        with self._lock:
            if self._ended:
                self._take_out_ended()
            tensors = 0
            for value in (*args, *kwargs.values()) if kwargs else args:
                # Spares most arguments the call below: there is nothing to learn of them.
                is_plain = type(value) is Tensor
                if (is_plain or type(value) is Parameter) and value.layout is _STRIDED:
                    known = alive.get(id(value.untyped_storage()))
                    if known and (is_plain or (known.kind == "parameters" and known.module)):
                        tensors += 1
                        continue
                if isinstance(value, _HOLD_TENSORS):
                    tensors += self._see(value, call, func is _LIFT_FRESH)
            # A plain tensor that is no new result has been seen among the arguments.
            if makes or type(out) is not Tensor or out.layout is not _STRIDED:
                tensors += self._see(out, call, True)
            # Calls without tensors are marks for the profiler, as optimizers set round their steps.
            if not tensors:
                return 0
            if phase != self._phase:
                self._phase = self._begins[self._call] = phase
            if phase == "backward" and _accumulates_gradient():
                self._mark(out, "gradients")
            if self._level > self._highest or self._highest_at is None:
                self._highest, self._highest_call = self._level, self._call
                self._highest_at = (phase, module, func)
                self._lost.clear()
            self._call += 1
            return self._level

    def finished(self, costs: Costs, paths: Mapping[int, str]) -> Costs:
        """The costs with what was there before the block, and what was alive at the peak."""
        with self._lock:
            before, at, last = self._before, self._highest_at, self._highest_call
            over_the_step = {} if at is None else self._curve()
            alive = [*self._lost, *(each for each in self._alive.values() if each.born <= last)]
        if at is None:
            return costs
        phase, module, func = at
        kinds: dict[str, int] = dict.fromkeys(get_args(Kind), 0)
        modules: defaultdict[str, int] = defaultdict(int)
        for storage in alive:
            kinds[storage.kind_at_end()] += storage.size
            path = paths[storage.module]
            for holder in (*ancestors(path), path):
                modules[holder] += storage.size
        return replace(
            costs,
            whole=_raised(costs.whole, before),
            components={path: _raised(each, before) for path, each in costs.components.items()},
            details={
                "at": {
                    "phase": PHASE[phase],
                    "module": paths[module],
                    "operator": _name_of(func),
                },
                "kinds": kinds,
                "modules": {path: modules[path] for path in sorted(modules) if path},
                **over_the_step,
            },
        )

    def _curve(self) -> dict[str, Any]:
        if len(self._past) == _MOST_ENDED:
            return {}
        lives: dict[str, list[Life]] = {kind: [] for kind in get_args(Kind)}
        for each in self._past:
            lives[each.kind_at_end()].append((each.born, each.died, each.size))
        for each in self._alive.values():
            lives[each.kind_at_end()].append((each.born, self._call, each.size))
        begins = [(call, PHASE[phase]) for call, phase in self._begins.items()]
        return {"curve": curve(lives, begins, self._call)}

    @contextmanager
    def resizing(self, storage: UntypedStorage) -> Iterator[None]:
        """Let a storage go on with the size that it has afterwards."""
        with self._lock:
            known = self._alive.get(id(storage))
            if known is None:
                known = self._begin(storage, self._phase, 0, made=False)
            yield
            self._go_on(known, storage)

    # --- lives; with the lock held ---

    def _see(self, value: Any, call: Call, made: bool) -> int:
        """Meet an argument or a result of a call; returns how many tensors it holds."""
        if type(value) is Tensor and value.layout is _STRIDED:  # as below, for most of them
            storage = value.untyped_storage()
            known = self._alive.get(id(storage))
            if known is None:
                self._begin(storage, call.phase, call.module, made=made)
            elif known.nbytes != storage.nbytes():
                self._go_on(known, storage)
            return 1
        if isinstance(value, Tensor):
            for storage in _storages(value):
                known = self._alive.get(id(storage))
                if known is None:
                    known = self._begin(storage, call.phase, call.module, made=made)
                elif known.nbytes != _bytes_of(storage):
                    known = self._go_on(known, storage)
                if type(value) is not Tensor and isinstance(value, Parameter):
                    known.kind = "parameters"
                    known.module = known.module or call.module
            return 1
        if isinstance(value, _LISTS):
            return sum([self._see(each, call, made) for each in value])
        return 0

    def _begin(self, storage: UntypedStorage, phase: str, module: int, *, made: bool) -> _Storage:
        if made:
            known = self._add(storage, phase, module, None)
            self._level += known.size
        else:
            known = self._add(storage, phase, 0, _FROM_BEFORE[phase])
            known.born = _BEFORE_THE_BLOCK
            self._before += known.size
            if storage in self._shards:
                known.kind, known.module = "parameters", module
        return known

    def _add(self, storage: UntypedStorage, phase: str, module: int, kind: Kind | None) -> _Storage:
        known = _Storage(storage, self._ended.append)
        known.address, known.nbytes = id(storage), _bytes_of(storage)
        known.size = -(-known.nbytes // GRANULE) * GRANULE
        known.born, known.died_in = self._call, ""
        known.phase, known.module, known.kind = phase, module, kind
        self._alive[known.address] = known
        return known

    def _go_on(self, known: _Storage, storage: UntypedStorage) -> _Storage:
        """End a storage with the size that it had, and begin it with the one that it has."""
        self._end(known)
        resized = self._add(storage, known.phase, known.module, known.kind)
        self._level += resized.size
        return resized

    def _end(self, known: _Storage) -> None:
        del self._alive[known.address]
        self._level -= known.size
        known.died, known.died_in = self._call, self._phase
        if len(self._past) < _MOST_ENDED:
            self._past.append(known)
        if known.born <= self._highest_call:
            self._lost.append(known)

    def _take_out_ended(self) -> None:
        while self._ended:
            known: _Storage = self._ended.popleft()
            if self._alive.get(known.address) is known:  # else it has been resized
                self._end(known)

    # --- kinds ---

    def _mark(self, value: Any, kind: Kind, module: int = 0) -> int:
        """Say of what is known what it is; returns the module that it belongs to."""
        for storage in _storages(value) if isinstance(value, Tensor) else ():
            known = self._alive.get(id(storage))
            if known is not None:
                known.kind = kind
                module = known.module = known.module or module
        return module

    def _note_shards(self, module: Module, _inputs: Any) -> None:
        parameters: dict[str, Any] = module._parameters  # noqa: SLF001 - public ones go deeper
        for parameter in parameters.values():
            if type(parameter) is not Parameter and is_traceable_wrapper_subclass(parameter):
                self._shards.update(_storages(parameter))

    def _after_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        """Learn what an optimizer's step has worked on."""
        with self._lock:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    module = self._mark(parameter, "parameters")
                    self._mark(parameter.grad, "gradients", module)
                    for state in optimizer.state.get(parameter, {}).values():
                        self._mark(state, "optimizer state", module)


def _name_of(func: Any) -> str:
    """The name of an operator, or of a Triton kernel by its function, as results have it."""
    if isinstance(func, FunctionType):
        return f"{KERNEL}{func.__name__}"
    return str(getattr(func, "overloadpacket", func))


def _has_new_results(func: Any) -> bool:
    """Whether an operator returns more than views of its arguments and what it writes into.

    What it resizes is as good as new. Operators of higher order have no schema.
    """
    schema = getattr(func, "_schema", None)
    return (
        schema is None
        or any(result.alias_info is None for result in schema.returns)
        or any(argument.is_out for argument in schema.arguments)
        or schema.name in _RESIZE
    )


_RESIZE = ("aten::resize_", "aten::resize_as_", "aten::set_")


def _raised(values: Mapping[str, int], by: int) -> dict[str, int]:
    return {phase: value + by for phase, value in values.items()}


def _accumulates_gradient() -> bool:
    """Whether the operator is autograd's last one of a leaf, which its `grad` comes out of."""
    node = running_node()
    return node is not None and sequence_number(node) == ACCUMULATES_GRADIENT


def _bytes_of(storage: UntypedStorage) -> int:
    """The size; while a model is exported with sizes that vary, that of the example."""
    size: Any = storage.nbytes()
    # To make an integer of it would make the exported size a constant.
    return size if type(size) is int else size.node.hint or 0


def _storages(tensor: Any) -> tuple[UntypedStorage, ...]:
    """The storages that hold the values of a tensor; a tensor of oneDNN's has none."""
    if type(tensor) not in _PLAIN and is_traceable_wrapper_subclass(tensor):
        parts = [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    elif tensor.layout is torch.strided:
        return (tensor.untyped_storage(),)
    else:
        parts = parts_of(tensor) if is_sparse(tensor) else []
    # What a subclass names may be no tensor, as the mesh of a DTensor is not.
    return tuple(
        storage for part in parts if isinstance(part, Tensor) for storage in _storages(part)
    )


def _resize(resize: Callable[..., Any], storage: UntypedStorage, size: int) -> Any:
    with ExitStack() as stack:
        for counter in tuple(_resizes.users):
            stack.enter_context(counter.resizing(storage))
        return resize(storage, size)


# FSDP frees and allocates what it has gathered by resizing storages, which no operator sees.
_resizes = Shared(lambda: replaced(UntypedStorage, "resize_", _resize))
