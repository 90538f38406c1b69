"""From a workload to a measurement: find the builder, build, and let the right counter count."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_flops.counting.workload import RESNET_BK, Workload
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.config import ResNetBKConfig

if TYPE_CHECKING:
    from pytest_flops.counting.measurement import Measurement, Rules

Builder: TypeAlias = Callable[..., Any]
"""Takes a workload's `config`, `batch_size` and `seq_len` as keywords. Returns a `ResNetBKConfig`,
counted analytically, or `(model, inputs)`, metered; inputs are a tensor, a tuple of positional or
a mapping of keyword arguments."""


class WorkloadError(ValueError):
    """A workload that cannot be found, built or counted; the message is for its author."""


def measure_workload(
    workload: Workload, builders: Mapping[str, Builder] | None = None
) -> Measurement:
    """Count one training step of a workload.

    Args:
        workload: What to count.
        builders: Registered builders by name, besides `resnet_bk`.

    Raises:
        WorkloadError: The builder is unknown or raised, what it returned cannot be counted, or the
            rules asked for do not fit.
    """
    builder = find_builder(workload.model, builders or {})
    sizes = {"batch_size": workload.batch_size, "seq_len": workload.seq_len}
    given = {name: size for name, size in sizes.items() if size is not None}
    try:
        built = builder(**workload.config, **given)
    except Exception as error:
        raise WorkloadError(f"the builder {workload.model!r} raised {_told(error)}") from error
    if isinstance(built, ResNetBKConfig) and len(given) < len(sizes):
        raise WorkloadError(f"a workload of {workload.model!r} needs batch_size and seq_len")
    return measure_built(built, optimizer=workload.optimizer, rules=workload.rules, **given)


def measure_built(
    built: object,
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    optimizer: str = "adamw",
    rules: Rules | None = None,
) -> Measurement:
    """Count what a builder returned.

    Args:
        built: A `ResNetBKConfig`, or `(model, inputs)`.
        batch_size: Sequences per step; only a configuration needs it.
        seq_len: Tokens per sequence, a configuration's `n_seq` unless given.
        optimizer: `"sgd"`, `"adam"`, `"adamw"` or `"none"`.
        rules: `"published"` for a configuration and `"executed"` for a model unless given.

    Raises:
        WorkloadError: `built` is neither, the rules do not fit, or the model cannot be counted.
    """
    if isinstance(built, ResNetBKConfig):
        try:
            counter = FLOPsCounter.from_config(
                built, batch_size, seq_len or built.n_seq, rules or "published"
            )
        except ValueError as error:
            raise WorkloadError(str(error)) from error
        return counter.measurement(optimizer)
    if not isinstance(built, tuple) or len(built) != 2:
        raise WorkloadError(
            "a builder returns a ResNetBKConfig or the pair (model, inputs), "
            f"not {type(built).__name__}"
        )
    if rules == "published":
        raise WorkloadError(
            "the published rules are ResNet-BK's; a model is metered by the executed rules"
        )
    return _meter(*built, optimizer)


def find_builder(name: str, registered: Mapping[str, Builder]) -> Builder:
    """The builder a workload names.

    Args:
        name: A registered name, or `"package.module:callable"`.
        registered: Builders by name, besides `resnet_bk`.

    Raises:
        WorkloadError: There is no such builder; the message lists the known ones or says what the
            import met.
    """
    known: dict[str, Builder] = {RESNET_BK: build_resnet_bk, **registered}
    if name in known:
        return known[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise WorkloadError(
            f"no builder is registered as {name!r}; registered: {', '.join(sorted(known))}; "
            "or write 'package.module:callable'"
        )
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        hint = _import_hint(error, module_name)
        raise WorkloadError(f"cannot import {name!r}: {error}{hint}") from error
    if not callable(found):
        raise WorkloadError(f"{name!r} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]


def build_resnet_bk(
    *,
    batch_size: int | None = None,  # noqa: ARG001 - every builder is offered the step's sizes
    seq_len: int | None = None,  # noqa: ARG001
    **config: Any,
) -> ResNetBKConfig:
    """The builder registered as `resnet_bk`: the fields of a `ResNetBKConfig`."""
    return ResNetBKConfig.from_dict(config)


def _meter(model: Any, inputs: Any, optimizer: str) -> Measurement:
    from pytest_flops.counting.meter.meter import count_flops

    try:
        if isinstance(inputs, Mapping):
            return count_flops(model, optimizer=optimizer, **inputs)
        positional = inputs if isinstance(inputs, tuple | list) else (inputs,)
        return count_flops(model, *positional, optimizer=optimizer)
    except Exception as error:
        raise WorkloadError(f"counting {type(model).__name__} raised {_told(error)}") from error


def _told(error: Exception) -> str:
    """An error of somebody's model, with the line of their code that it came from."""
    ours_and_torchs = (str(Path(__file__).parents[1]), f"{os.sep}torch{os.sep}")
    lines = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(place in frame.filename for place in ours_and_torchs)
    ]
    place = f" ({lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{place}"


def _import_hint(error: Exception, module_name: str) -> str:
    root = module_name.partition(".")[0]
    missing = isinstance(error, ModuleNotFoundError) and error.name == root
    if missing and root not in sys.modules:
        return "; is its folder on the path (ini option 'pythonpath'), or the package installed?"
    return ""
