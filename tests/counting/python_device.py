"""A device whose kernels are Python functions; autograd gives it a thread, as it does a GPU.

A device is registered for good, so this runs in a process of its own. It prints what each step
costs on the device and on the CPU, and how many threads ran the device's operators.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils.checkpoint import checkpoint

from pytest_flops.counting.meter import FLOPsMeter

aten = torch.ops.aten
OPERATORS = [
    aten.add.Tensor,
    aten.clone.default,
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
    return library


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


def plain(model: nn.Module, x: Tensor, one: Tensor) -> None:
    model(x).sum().backward(one)


def checkpointed(model: nn.Module, x: Tensor, one: Tensor) -> None:
    y = checkpoint(model, x, use_reentrant=False, preserve_rng_state=False)
    y.sum().backward(one)


def twice(model: nn.Module, x: Tensor, one: Tensor) -> None:
    weight = model[0].weight
    (gradient,) = torch.autograd.grad((model(x) * model(x)).sum(), weight, one, create_graph=True)
    (gradient * gradient).sum().backward(one)


def costs(step: Callable[..., None], place: Callable[[Tensor], Tensor]) -> dict[str, object]:
    model = nn.Sequential(Product(4, 5, place), Product(5, 2, place))
    x, one = place(torch.ones(3, 4)), place(torch.ones(()))
    threads.clear()
    with FLOPsMeter() as meter:
        step(model, x.requires_grad_(), one)
    parts = {path: [cost.forward, cost.backward] for path, cost in meter.components.items()}
    return {
        "components": parts,
        "recomputed": meter.recomputed,
        "threads": len(threads),
        "uncounted": dict(meter.uncounted),
        "unseen": meter.unseen,
    }


if __name__ == "__main__":
    library = register_device()
    found = {
        step.__name__: {"device": costs(step, DeviceTensor), "cpu": costs(step, lambda x: x)}
        for step in (plain, checkpointed, twice)
    }
    json.dump(found, sys.stdout)
