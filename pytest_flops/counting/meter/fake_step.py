"""A training step on fake tensors: shapes without values, memory or a device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from pytest_flops.counting.meter.data_dependence import naming_the_operator

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Loss: TypeAlias = Callable[[Any], Tensor]

OPTIMIZERS: dict[str, OptimizerFactory | None] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "none": None,
}


def fake_training_step(
    model: nn.Module,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any],
    optimizer: str | OptimizerFactory,
    loss: Loss | None,
    *,
    training: bool,
    meter: AbstractContextManager[object],
    second: bool = False,
) -> None:
    """Run a forward and, when `training`, a backward and a step, on fakes of everything.

    The arguments are those of `count_flops`, and the `meter` that counts the step. If that is to be
    the `second` one, whose optimizer has its state, an equal step comes before it, uncounted. The
    model is left as it was.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError(
            "a scripted or traced module cannot be given fake parameters; count the module that it "
            "was made from, or run it inside FLOPsMeter()"
        )
    make_optimizer = _optimizer_factory(optimizer)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    inputs, kwargs = tree_map_only(
        Tensor, lambda tensor: _fake(mode, tensor), (tuple(inputs), dict(kwargs))
    )
    with (
        _fake_model(model, mode, training=training),
        naming_the_operator(),
        _without_pytorchs_log(),
    ):
        stepper: torch.optim.Optimizer | None = None
        for around in (nullcontext(), meter) if second else (meter,):
            with around:
                with mode, torch.set_grad_enabled(training):
                    output = model(*inputs, **kwargs)
                    if training:
                        _backward((loss or _default_loss)(output))
                # Outside the mode, so that the step counters that the optimizer makes are real
                # numbers: its code reads their values.
                parameters = [p for p in model.parameters() if p.requires_grad]
                if training and make_optimizer is not None and parameters:
                    stepper = stepper or make_optimizer(parameters)
                    stepper.step()
            del output
            model.zero_grad()


def _backward(loss: Tensor) -> None:
    if isinstance(loss, Tensor) and not loss.requires_grad:
        raise ValueError(
            "the loss needs no gradient, so there is no backward to count: no parameter that it "
            "depends on requires one; training=False counts the forward alone"
        )
    torch.autograd.backward(loss)


def _optimizer_factory(optimizer: str | OptimizerFactory) -> OptimizerFactory | None:
    if callable(optimizer):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer must be one of {', '.join(map(repr, OPTIMIZERS))} or a function from "
            f"parameters to an optimizer, not {optimizer!r}"
        )
    return OPTIMIZERS[optimizer]


def _default_loss(output: Any) -> Tensor:
    """The output's own `loss`, or the sum of its first floating-point tensor."""
    named = _named(output)
    if isinstance(named.get("loss"), Tensor):
        return cast("Tensor", named["loss"])
    for tensor in (named.get("logits"), *_tensors(output)):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            return tensor.sum()
    raise ValueError(
        "the model's output holds no floating-point tensor that needs a gradient; give "
        "count_flops(..., loss=) a function from the output to a scalar, or training=False"
    )


def _named(output: Any) -> Mapping[str, Any]:
    return output if isinstance(output, Mapping) else getattr(output, "__dict__", {})


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of nested containers, and of objects that hold them as attributes."""
    if isinstance(output, Tensor):
        yield output
        return
    for member in output if isinstance(output, list | tuple) else _named(output).values():
        yield from _tensors(member)


def _fake(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A fake of a tensor, of the same device; of one on `meta`, on the CPU."""
    # A model that was built on `meta` is called with inputs of the CPU, and tensors that it makes
    # itself are on the CPU too. Fakes of two devices would not go into one operator.
    if tensor.device.type != "meta":
        return mode.from_tensor(tensor, static_shapes=True)
    with mode:
        fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    return fake.requires_grad_(tensor.requires_grad)


def _fake_member(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A fake of a parameter or a buffer; of a parameter, a parameter."""
    fake = _fake(mode, tensor.detach())
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return fake


@contextmanager
def _fake_model(model: nn.Module, mode: FakeTensorMode, *, training: bool) -> Iterator[None]:
    """The model with fakes in place of its parameters and buffers; afterwards it is as it was.

    So are the attributes of its modules, and the lists and dicts there: a model may keep what it
    likes, as in a cache, and fakes must not stay in it.
    """
    attributes = [vars(module) for module in model.modules()]
    containers = [
        value for table in attributes for value in table.values() if isinstance(value, dict | list)
    ]
    kept = [(container, copy(container)) for container in (*attributes, *containers)]
    fakes: dict[Tensor, Tensor] = {}
    try:
        for table in attributes:
            for members in (table["_parameters"], table["_buffers"]):
                for name, tensor in members.items():
                    if tensor is not None:
                        members[name] = fakes.setdefault(tensor, _fake_member(mode, tensor))
        model.train(training)
        yield
    finally:
        for container, original in kept:
            container.clear()
            restore = container.update if isinstance(container, dict) else container.extend
            restore(original)


@contextmanager
def _without_pytorchs_log() -> Iterator[None]:
    """While active, PyTorch does not log what fails on fake tensors: it raises it as well."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
