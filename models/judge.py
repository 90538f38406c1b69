"""Judges one model: counted on fake tensors, counted as it runs, and left as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from products import FORMULAS, Products
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter.data_dependence import DataDependentError


@dataclass(frozen=True)
class Step:
    """What a case builds: a model, and a step of it.

    Attributes:
        model: The model.
        inputs: Its inputs, by position.
        named: Its inputs, by name.
        training: Whether forward, backward and AdamW run, or the forward alone.
        run: What runs for real in place of this step, as a trainer does.
        times: How many forwards and backwards of this step `run` makes; 0 if values tell.
    """

    model: nn.Module
    inputs: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    training: bool = True
    run: Callable[[], Any] | None = None
    times: int = 1


@dataclass(frozen=True)
class Case:
    """A model of a library."""

    library: str
    name: str
    build: Callable[[], Step]


@dataclass(frozen=True)
class Finding:
    """The verdict is "agrees", "refused" (values are asked for), "known" or "fails"."""

    verdict: str
    message: str = ""
    products: int = 0
    fake: int = 0
    real: int = 0


def judge(case: Case) -> Finding:
    torch.manual_seed(0)
    step = case.build()
    refusal, fake = "", None
    before = dict(_state(step.model))
    seed()
    states = _random_states()
    try:
        if step.times:
            fake = count_flops(
                step.model, *step.inputs, loss=loss_of, training=step.training, **step.named
            )
    except DataDependentError as error:
        refusal = str(error)
    after = dict(_state(step.model))
    problems = [
        f"count_flops changed {what}"
        for what in before.keys() | after.keys()
        if before.get(what) != after.get(what)
    ]
    if states != _random_states():
        problems.append("count_flops changed a random state")
    real, products = _run(step)
    problems += _differences(real, products, fake, step.times if step.run else None)
    verdict = "fails" if problems else "refused" if refusal else "agrees"
    return Finding(
        verdict,
        "; ".join(sorted(problems)[:5]) or refusal,
        sum(products.values()),
        fake.count.total if fake else 0,
        real.count.total,
    )


def loss_of(output: Any) -> Tensor:
    """The output's own loss, or else the sum of its tensors that have a gradient."""
    loss = getattr(output, "loss", None)
    if isinstance(loss, Tensor):
        return loss
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    return sum(leaf.sum() for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad)


def seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _run(step: Step) -> tuple[Measurement, Mapping[str, int]]:
    seed()
    optimizer = None
    if step.run is None:
        step.model.train(step.training)
        if step.training:
            optimizer = torch.optim.AdamW(p for p in step.model.parameters() if p.requires_grad)
    with FLOPsMeter() as meter, Products() as products:
        if step.run is not None:
            step.run()
        elif optimizer is None:
            with torch.no_grad():
                step.model(*step.inputs, **step.named)
        else:
            loss_of(step.model(*step.inputs, **step.named)).backward()
            optimizer.step()
    return meter.measurement(), products.flops


def _differences(
    real: Measurement, products: Mapping[str, int], fake: Measurement | None, times: int | None
) -> Iterator[str]:
    """What is wrong; of a trainer's `times` steps, the products alone are compared."""
    if real.uncounted:
        yield f"uncounted: {dict(real.uncounted)}"
    yield from _unlike("products", _products_of(real), products)
    if not any(products.values()):
        yield "no products: this case shows nothing"
    if fake is None:
        return
    if fake.uncounted:
        yield f"uncounted on fakes: {dict(fake.uncounted)}"
    if times is not None:
        fakes = {name: times * flops for name, flops in _products_of(fake).items()}
        yield from _unlike("products on fakes", fakes, products)
    elif fake.count != real.count or fake.operations != real.operations:
        yield from _unlike("fake is not real", _totals(fake), _totals(real))


def _unlike(what: str, ours: Mapping[str, int], others: Mapping[str, int]) -> Iterator[str]:
    for name in sorted(ours.keys() | others.keys()):
        if ours.get(name, 0) != others.get(name, 0):
            yield f"{what}: {name} {ours.get(name, 0):,} against {others.get(name, 0):,}"


def _totals(measurement: Measurement) -> dict[str, int]:
    return {name: count.total for name, count in measurement.operations.items()}


def _products_of(measurement: Measurement) -> dict[str, int]:
    return {name: flops for name, flops in _totals(measurement).items() if name in FORMULAS}


def _state(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Everything of a model that `count_flops` must leave as it was, in a form to compare."""
    yield "the configuration", repr(getattr(model, "config", None))
    for path, module in model.named_modules():
        yield f"the mode of {path}", module.training
        yield f"the attributes of {path}", sorted(vars(module))
        for name, value in vars(module).items():
            for leaf in tree_leaves(value):
                if isinstance(leaf, FakeTensor):
                    yield f"{path}.{name}, which holds a fake", "fake"
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        grad = getattr(tensor, "grad", None)
        yield name, (id(tensor), type(tensor), tensor.requires_grad, _bytes(tensor))
        yield f"the gradient of {name}", None if grad is None else _bytes(grad)


def _bytes(tensor: Tensor) -> int:
    if isinstance(tensor, FakeTensor) or tensor.is_meta or type(tensor).__name__ == "Uninitialized":
        return 0
    return hash(tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())


def _random_states() -> tuple[Any, ...]:
    return (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        str(np.random.get_state()),
    )
