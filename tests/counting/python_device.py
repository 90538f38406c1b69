"""A device whose kernels are Python functions; autograd gives it a thread, as it does a GPU.

A device is registered for good, so this runs in a process of its own, which takes the name of a
step. It prints what the step costs on the device and on the CPU, and how many threads ran the
device's operators, inside the meter and after it. The step on the device is the first of the
process, when both threads have recorded few autograd nodes and would number them alike.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils.checkpoint import checkpoint

from pytest_flops.counting.meter.meter import FLOPsMeter

aten = torch.ops.aten
OPERATORS = [
    aten.add.Tensor,
    aten.clone.default,
    aten.copy_.default,
    aten.detach.default,
    aten.expand.default,
    aten.mm.default,
    aten.mul.Tensor,
    aten.ones_like.default,
    aten.sum.default,
    aten.t.default,
]
threads: set[int] = set()


class DeviceTensor(Tensor):
    """Holds its values in a tensor of the CPU."""

    def __new__(cls, values: Tensor) -> DeviceTensor:
        tensor = torch._C._acc.create_empty_tensor(list(values.shape), values.dtype)
        tensor.__class__ = cls
        return tensor

    def __init__(self, values: Tensor) -> None:
        self.values_on_cpu = values


class Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16]


def register_device() -> torch.library.Library:
    backend_registration._setup_privateuseone_for_python_backend("python", Module())
    library = torch.library.Library("aten", "IMPL")
    for operator in OPERATORS:
        library.impl(operator, kernel(operator), "PrivateUse1")
    library.impl(aten.empty_strided.default, empty, "PrivateUse1")
    library.impl(aten.new_empty_strided.default, empty_like, "PrivateUse1")
    return library


def empty(size, stride, **_options) -> DeviceTensor:
    return DeviceTensor(torch.empty_strided(size, stride))


def empty_like(_tensor, size, stride, **_options) -> DeviceTensor:
    return empty(size, stride)


def kernel(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(*args, **kwargs):
        threads.add(threading.get_ident())
        kwargs.pop("device", None)
        values = [x.values_on_cpu if isinstance(x, DeviceTensor) else x for x in args]
        return DeviceTensor(operator(*values, **kwargs))

    return run


class Product(nn.Module):
    def __init__(self, rows: int, columns: int, place: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(place(torch.ones(rows, columns)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight)


class Model(nn.Module):
    """Two plain layers, two that may be checkpointed, and a plain one."""

    def __init__(self, place: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = Product(4, 5, place), Product(5, 6, place)
        self.inner = nn.Sequential(Product(6, 7, place), Product(7, 3, place))
        self.last = Product(3, 2, place)
        self.checkpoint = lambda layers, x: layers(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.checkpoint(self.inner, self.second(self.first(x))))


def plain(model: Model, x: Tensor, one: Tensor) -> None:
    model(x).sum().backward(one)


def checkpointed(model: Model, x: Tensor, one: Tensor) -> None:
    model.checkpoint = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    plain(model, x, one)


def reentrant(model: Model, x: Tensor, one: Tensor) -> None:
    model.checkpoint = partial(checkpoint, use_reentrant=True, preserve_rng_state=False)
    plain(model, x, one)


def twice(model: Model, x: Tensor, one: Tensor) -> None:
    weight = model.first.weight
    (gradient,) = torch.autograd.grad((model(x) * model(x)).sum(), weight, one, create_graph=True)
    (gradient * gradient).sum().backward(one)


def costs(step: Callable[..., None], place: Callable[[Tensor], Tensor]) -> dict[str, object]:
    model = Model(place)
    x, one = place(torch.ones(3, 4)), place(torch.ones(()))
    threads.clear()
    with FLOPsMeter() as meter:
        step(model, x.requires_grad_(), one)
    inside = len(threads)
    threads.clear()
    plain(Model(place), x.detach().requires_grad_(), one)
    parts = {path: [cost.forward, cost.backward] for path, cost in meter.components.items()}
    return {
        "components": parts,
        "recomputed": meter.recomputed,
        "threads": inside,
        "threads_after": len(threads),
        "uncounted": dict(meter.uncounted),
        "child_processes": meter.child_processes,
    }


if __name__ == "__main__":
    library = register_device()
    step = {f.__name__: f for f in (plain, checkpointed, reentrant, twice)}[sys.argv[1]]
    found = {"device": costs(step, DeviceTensor), "cpu": costs(step, lambda x: x)}
    json.dump(found, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # what PyTorch takes down at its end may abort: the device's thread still waits
