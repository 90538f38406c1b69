"""`syncs`: calls by which the host waits for the device.

There need be no device. A tensor on the CPU stands for one there, unless it is known to live on the
host: a literal (`torch.tensor(3)`, `torch.from_numpy(...)`), what is computed from literals alone,
and, once an operator has run on an accelerator, everything on the CPU. What is a sync is told by
the operator, as far as there is one. On the CPU some calls that copy values to the host reach no
operator, so the methods of `torch.Tensor` that do so are wrapped while a meter counts syncs.

A `TorchFunctionMode` would see these calls too, but not those of hooks inside a backward, and while
one is active PyTorch runs other operators (`nn.TransformerEncoderLayer` leaves its fast path), so
that asking for syncs would change what the other metrics count.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor, UntypedStorage
from torch._ops import OpOverload
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flops.counting.costs.elements import storage_of, tensors_in
from pytest_flops.counting.metrics.waiting_operators import stands_for_device, waits_of
from pytest_flops.counting.replacing import Shared, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_flops.counting.metrics import Call, Price

__tracebackhide__ = True  # an error of a wrapped call ends in the line that made it

_aten = torch.ops.aten
_MAKES_ON_HOST: dict[Any, Callable[[Any], Any]] = {
    _aten.lift_fresh: lambda out: out,  # a literal, or memory of NumPy
    _aten._pack_padded_sequence: lambda out: out[1:],  # noqa: SLF001 - the sizes of the batches
}


class Counter:
    """The calls by which the host waits."""

    def __init__(self) -> None:
        # Storages, and not tensors: views share them, and PyTorch refuses to swap a parameter to
        # which there is a weak reference.
        self._of_host = WeakSet[UntypedStorage]()
        self._computed = WeakSet[UntypedStorage]()  # made by operators, not of literals alone
        self._has_device = False  # whether an operator has run on an accelerator

    def start(self, note: Callable[[int], None]) -> None:
        """Wrap the Python calls that reach no operator."""
        self._note = note
        _wrapped_calls.begin(self)

    def stop(self) -> None:
        """Unwrap them, if no other meter counts syncs."""
        _wrapped_calls.end(self)

    def of_operator(self, func: Any) -> Price | None:
        """1 of a call that makes the host wait, else 0; and notes where its results live."""
        operator = getattr(func, "overloadpacket", None)
        if operator in _MAKES_ON_HOST:
            return lambda call: self._hold(_MAKES_ON_HOST[operator](call.out))
        waits = waits_of(func, self._is_of_device) if isinstance(func, OpOverload) else None
        if waits is None and getattr(func, "is_view", False):
            return None  # its result lives where its argument does
        makes = _makes_of_tensors(func)

        def price(call: Call) -> int:
            if call.phase == "optimizer":
                return 0  # what an optimizer writes into stays where it is
            args, kwargs, out = call.args, call.kwargs, call.out
            found = waits is not None and not _here.inside and waits(args, kwargs, out)
            if type(out) is not Tensor or not out.is_cpu:
                self._look_for_device(out)
            if self._of_host and self._takes_nothing_else(call):
                if makes:
                    self._of_host.update(_storages(out))
            elif makes:
                self._computed.update(_storages(out))
            elif self._of_host:
                # Perhaps a value of the device, in a literal.
                self._of_host.difference_update(_storages(out))
            return 1 if found else 0

        return price

    def see(
        self, method: str, tensor: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Count a call of a wrapped method, if it makes the host wait."""
        if not self.is_of_host(tensor) and _copies_to_host(self, method, tensor, args, kwargs):
            self._note(1)
        if method == "to" and _device_asked_for(args, kwargs) is not None:
            self._of_host.difference_update(_storages(tensor))

    def is_of_host(self, tensor: Tensor) -> bool:
        """Whether a tensor lives on the host, with a device or without."""
        return tensor.is_cpu and (self._has_device or storage_of(tensor) in self._of_host)

    def _is_of_device(self, value: Any) -> bool:
        return isinstance(value, Tensor) and not self.is_of_host(value)

    def is_computed(self, tensor: Tensor) -> bool:
        """Whether an operator made a tensor, and not of literals alone."""
        return storage_of(tensor) in self._computed

    def _hold(self, out: Any) -> int:
        self._look_for_device(out)
        self._of_host.update(_storages(out))
        return 0

    def _look_for_device(self, out: Any) -> None:
        if not all(map(stands_for_device, tensors_in(out))):
            self._has_device = True

    def _takes_nothing_else(self, call: Call) -> bool:
        """Whether a call is given tensors of the host, and no others."""
        tensors = [*tensors_in(*call.args, *call.kwargs.values())]
        return bool(tensors) and all(map(self.is_of_host, tensors))


def _storages(value: Any) -> Iterator[UntypedStorage]:
    """The storages of a tensor, or of those in a list, that may stand for one on a device."""
    for tensor in tensors_in(value):
        storage = storage_of(tensor) if stands_for_device(tensor) else None
        if storage is not None:
            yield storage


def _makes_of_tensors(func: Any) -> bool:
    """Whether an operator makes its results, of tensors; not views, nor what it writes into."""
    schema = getattr(func, "_schema", None)
    if schema is None:  # of higher order
        return True
    takes = any("Tensor" in str(argument.type) for argument in schema.arguments)
    return takes and all(result.alias_info is None for result in schema.returns)


# --- Python calls ---

# Each is one sync, whatever it calls.
_READS = (
    *("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "__complex__"),
    "__repr__",
)
_COPIES = ("cpu", "to")


class _Here(threading.local):
    """Whether the calling thread is inside a call that has been looked at as a whole."""

    inside = False


_here = _Here()


@contextmanager
def _wrapped() -> Iterator[None]:
    with ExitStack() as undo:
        for method in (*_READS, *_COPIES):
            undo.enter_context(replaced(Tensor, method, _watched(method)))
        undo.enter_context(replaced(torch.nn.functional, "one_hot", _one_hot))
        yield


_wrapped_calls = Shared(_wrapped)


def _watched(method: str) -> Callable[..., Any]:
    """Lets the meters of the calling thread see a method's calls, and nothing inside them."""

    def call(original: Callable[..., Any], tensor: Any, /, *args: Any, **kwargs: Any) -> Any:
        if _here.inside:
            return original(tensor, *args, **kwargs)
        for counter in _counting_here():
            counter.see(method, tensor, args, kwargs)
        if method in _COPIES and not stands_for_device(tensor):  # the operator will tell
            return original(tensor, *args, **kwargs)
        return _as_a_whole(original, tensor, *args, **kwargs)

    return call


def _one_hot(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A device reads the largest value for want of `num_classes`; the CPU checks all of them."""
    classes = kwargs.get("num_classes", args[1] if len(args) > 1 else -1)
    if not _here.inside and classes == -1:
        for counter in _counting_here():
            counter.see("item", next(tensors_in(*args, *kwargs.values())), (), {})
    return _as_a_whole(original, *args, **kwargs)


def _as_a_whole(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    before, _here.inside = _here.inside, True
    try:
        return function(*args, **kwargs)
    finally:
        _here.inside = before


def _counting_here() -> Iterator[Counter]:
    """Those that count the calling thread, which has the dispatch modes of their meters.

    There are none inside an operator that has a cost, nor while the meter looks up that cost.
    """
    for mode in _get_current_dispatch_mode_stack():
        attribution = vars(mode).get("attribution")
        for counter in getattr(attribution, "counters", {}).values():
            if isinstance(counter, Counter):
                yield counter


def _copies_to_host(
    counter: Counter, method: str, tensor: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Whether a method makes the host wait for values, and no operator will tell so."""
    if method in _READS:
        return True
    if not stands_for_device(tensor):
        return False
    if method == "cpu":
        return True
    # `x.to(y.device)` and `batch.to(device)` move to where the model is, and on a machine without
    # a device that is the CPU. Who wants values on the host writes "cpu", and wants computed ones.
    device = _device_asked_for(args, kwargs)
    waits = not kwargs.get("non_blocking", args[2:3] == (True,))
    return device == "cpu" and waits and counter.is_computed(tensor)


def _device_asked_for(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | torch.device | None:
    """The device of a call of `Tensor.to`, as it was written; without one it is kept."""
    asked: Any = args[0] if args else kwargs.get("device")
    if isinstance(asked, Tensor):
        return asked.device
    return asked if isinstance(asked, str | torch.device) else None
