"""A training step on fake tensors: shapes without values, memory or a device; or on real ones."""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from copy import deepcopy
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorConverter, FakeTensorMode
from torch.nn.parallel import DistributedDataParallel

from pytest_flops.counting.meter.data_dependence import naming_the_culprit
from pytest_flops.counting.meter.kernels import nothing_launched_on_fakes
from pytest_flops.counting.meter.known_values import fake_of, keep_known_values
from pytest_flops.counting.meter.like_cuda import like_cuda
from pytest_flops.counting.meter.ranks import made_parallel, refuse_parallel
from pytest_flops.counting.meter.reachable import on_others
from pytest_flops.counting.meter.workarounds.converted_parameters import (
    converting_fake_parameters,
)
from pytest_flops.counting.meter.workarounds.traced_masks import reading_known_masks
from pytest_flops.counting.spelling import refused_keyword

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Loss: TypeAlias = Callable[[Any], Tensor]
Parallelize: TypeAlias = Callable[[nn.Module], nn.Module]

_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name.lower(): found
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and found not in (torch.optim.Optimizer, torch.optim.LBFGS)
}
"""By name those of PyTorch; LBFGS wants to run the model as often as it likes."""


def training_step(
    model: nn.Module,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any],
    optimizer: str | Mapping[str, Any] | OptimizerFactory,
    loss: Loss | None,
    *,
    training: bool,
    each: Sequence[AbstractContextManager[object]],
    real: bool = False,
    like: str | None = None,
    parallelize: Parallelize | None = None,
) -> tuple[str, ...]:
    """Run a forward and, when `training`, a backward and a step; return what was assumed.

    The arguments are those of `count_flops`, and what surrounds `each` of equal steps, one after
    the other: a meter counts the one that it surrounds. From the second on, the optimizer has its
    state.
    Everything is a fake, or a copy with `real` values; the model is left as it was either way.
    Fakes may run the operators of another device, `like` CUDA.
    """
    make_optimizer = _optimizer_factory(optimizer)
    _refuse_unfit(model, real=real, like=like)
    if parallelize is not None:
        refuse_parallel(model)
    # FSDP changes the classes of modules, and what C++ holds is not reached otherwise.
    is_copied = real and (parallelize is not None or _has(model, *_TENSORS_IN_CPP))
    if is_copied:
        model, inputs, kwargs = deepcopy((model, [*inputs], dict(kwargs)))
    assumptions: set[str] = set()
    mode = None if real else _fake_mode(assumptions)
    positional, named = [*inputs], dict(kwargs)
    step = [model, positional, named, loss, make_optimizer]
    if mode is not None:
        on_other_tensors: AbstractContextManager[None] = _all_fake(step, mode, like, assumptions)
    else:
        on_other_tensors = nullcontext() if is_copied else _all_copied(step)
    with random_states_kept(), on_other_tensors:
        if parallelize is not None:
            with mode or nullcontext():
                model = made_parallel(model, parallelize, mode)
        with suppress(NotImplementedError):  # an exported module has one mode only
            model.train(training)
        stepping: torch.optim.Optimizer | None = None
        for around in each:
            with around:
                with mode or nullcontext(), torch.set_grad_enabled(training):
                    output = model(*positional, **named)
                    if training:
                        _backward((loss or _default_loss)(output))
                # Outside the mode, so that the step counters that the optimizer makes are real
                # numbers: its code reads their values.
                parameters = [p for p in model.parameters() if p.requires_grad]
                if training and make_optimizer is not None and parameters:
                    stepping = stepping or make_optimizer(parameters)
                    with naming_the_culprit(f"the optimizer {type(stepping).__name__}"):
                        stepping.step()
            del output
            for parameter in parameters:
                parameter.grad = None
    return tuple(sorted(assumptions))


# What is replaced in PyTorch and in libraries is replaced for the process, so that steps of two
# threads that overlap would put back each other's.
_one_at_a_time = threading.RLock()


@contextmanager
def _all_fake(
    step: list[Any], mode: FakeTensorMode, like: str | None, assumptions: set[str]
) -> Iterator[None]:
    """While active, whatever a step reaches is a fake, and an error says who needs a value."""
    with (
        _one_at_a_time,
        on_others(step, partial(_fake, mode)),
        converting_fake_parameters(),
        nothing_launched_on_fakes(),
        reading_known_masks(assumptions),
        naming_the_culprit(),
        _without_pytorchs_log(),
        like_cuda(mode, on_gpu=_is_on_gpu(step[0])) if like else nullcontext(),
    ):
        yield


@contextmanager
def _all_copied(step: list[Any]) -> Iterator[None]:
    """While active, whatever tensors a step reaches are copies."""
    with _one_at_a_time, on_others(step, partial(_copy, {})):
        yield


def _is_on_gpu(model: nn.Module) -> bool:
    return any(parameter.is_cuda for parameter in model.parameters())


def _refuse_unfit(model: nn.Module, *, real: bool, like: str | None) -> None:
    if real and like:
        raise ValueError(
            f"a step with real values runs the operators of the device that it is on, not those of "
            f"{like!r}: leave out values='real' or like={like!r}"
        )
    if real and any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("a real step needs weights, and the model is on the meta device")
    if not real and _has(model, torch.jit.ScriptModule):
        raise ValueError(
            "a scripted or traced module cannot be given fake parameters; count the module that it "
            "was made from, or run it inside FLOPsMeter()"
        )
    if not real and _has(model, DistributedDataParallel):
        raise ValueError(
            "DistributedDataParallel reduces the gradients of real parameters, in C++: "
            "count it with values='real'"
        )


_TENSORS_IN_CPP = torch.jit.ScriptModule, DistributedDataParallel


def _has(model: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(module, kinds) for module in model.modules())


def _backward(loss: Tensor) -> None:
    if isinstance(loss, Tensor) and not loss.requires_grad:
        raise ValueError(
            "the loss needs no gradient, so there is no backward to count: no parameter that it "
            "depends on requires one; training=False counts the forward alone"
        )
    torch.autograd.backward(loss)


def _optimizer_factory(
    optimizer: str | Mapping[str, Any] | OptimizerFactory,
) -> OptimizerFactory | None:
    if callable(optimizer):
        return optimizer
    keywords = {"name": optimizer} if isinstance(optimizer, str) else {**optimizer}
    name = keywords.pop("name", None)
    if name == "none" and not keywords:
        return None
    if name not in _OPTIMIZERS:
        raise ValueError(
            f"optimizer must be one of {', '.join(map(repr, _OPTIMIZERS))} or 'none', a mapping of "
            "such a 'name' and keywords, or a function from parameters to an optimizer, not "
            f"{optimizer!r}"
        )
    if refused := refused_keyword(_OPTIMIZERS[name], keywords):
        raise ValueError(f"the optimizer {name!r} {refused}")
    return partial(_OPTIMIZERS[name], **keywords)


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


class _Converter(FakeTensorConverter):
    """Makes fakes of the CPU of tensors on `meta`, wherever they are used.

    A model that was built on `meta` is called with inputs of the CPU, and makes tensors of the CPU
    itself. Fakes of two devices would not go into one operator.
    """

    def from_real_tensor(
        self, fake_mode: FakeTensorMode, t: Tensor, *args: Any, **kwargs: Any
    ) -> FakeTensor:
        if t.device.type != "meta":
            return super().from_real_tensor(fake_mode, t, *args, **kwargs)
        with fake_mode:
            fake = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cpu")
        return cast("FakeTensor", fake)

    def invalidate_constant_aliases(self, tensor: Tensor) -> None:
        """Forget values that are written to; a sparse tensor, which has no storage, shares none."""
        if tensor.layout == torch.strided:
            super().invalidate_constant_aliases(tensor)


def _fake_mode(assumptions: set[str]) -> FakeTensorMode:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    mode.fake_tensor_converter = _Converter(copy_data=False, export=False)
    keep_known_values(mode, assumptions)
    return mode


def _fake(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A leaf like the tensor, of a parameter a parameter; only indices and masks have values."""
    fake = fake_of(mode, tensor)
    if isinstance(tensor, nn.Parameter):
        fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return _marked_like(tensor, fake)


def _copy(memo: dict[int, Any], tensor: Tensor) -> Tensor:
    """A leaf like the tensor, with its values; `memo` is what `deepcopy` knows of the others."""
    copied = deepcopy(tensor if tensor.is_leaf else tensor.detach(), memo)
    copied.grad = None
    return _marked_like(tensor, copied)


def _marked_like(tensor: Tensor, other: Tensor) -> Tensor:
    """The other, with the marks that people put on parameters to choose how each is updated."""
    for name, value in vars(tensor).items():
        vars(other).setdefault(name, value)
    return other.requires_grad_(tensor.requires_grad)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put back the states of the random numbers of PyTorch on the CPU, Python, and NumPy."""
    numpy = sys.modules.get("numpy")
    kept = random.getstate()
    kept_by_numpy = numpy and numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(kept)
        if numpy:
            numpy.random.set_state(kept_by_numpy)


@contextmanager
def defaults_kept() -> Iterator[None]:
    """Put back the random states, and the dtype, device and grad mode that code goes on with."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    try:
        with random_states_kept(), torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)


@contextmanager
def _without_pytorchs_log() -> Iterator[None]:
    """While active, PyTorch does not log what fails on fake tensors: it raises it as well."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")

    def silent(_: logging.LogRecord) -> bool:
        return False  # a filter of each step's own, since threads count at the same time

    logger.addFilter(silent)
    try:
        yield
    finally:
        logger.removeFilter(silent)
