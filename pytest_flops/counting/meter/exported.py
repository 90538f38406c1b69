"""Programs that `torch.export` made, and what ONNX and AOTInductor make of them.

A program knows to which module each of its operators belonged, so it is counted as a module whose
submodules are called as those of its model were. What `torch.onnx.export` returns holds the program
that it was made from. A file of ONNX, or a package of compiled code, holds none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.export import ExportedProgram, unflatten

from pytest_flops.counting.measurement import PACKAGE, how_to_count
from pytest_flops.counting.meter.dispatch import counting_modes
from pytest_flops.counting.replacing import replaced

Inputs: TypeAlias = tuple[Sequence[Any], Mapping[str, Any]]

_RUNNERS = [each for each in vars(torch._C._aoti).values() if isinstance(each, type)]  # noqa: SLF001


def as_module(model: Any, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    """What can be counted of a model, and with which inputs.

    A program that is given none has those that it was exported with.

    Raises:
        ValueError: The model is none, a package of AOTInductor, or a program without inputs.
    """
    if isinstance(model, nn.Module):
        return model, inputs
    if isinstance(getattr(model, "loader", None), tuple(_RUNNERS)):
        raise ValueError(how_to_count(PACKAGE))
    program = getattr(model, "exported_program", model)  # of what `torch.onnx.export` returns
    if not isinstance(program, ExportedProgram):
        raise ValueError(
            "a model is a torch.nn.Module, an exported program, or what torch.onnx.export returns, "
            f"not {_shown(model)}: a file has no graph of PyTorch's, so count what it was written "
            "from; other code is counted inside FLOPsMeter()"
        )
    if not any(inputs):
        if program.example_inputs is None:
            raise ValueError("this exported program has lost its example inputs; give some")
        inputs = program.example_inputs
    notes = program.graph_module.meta
    before = dict(notes)
    try:
        with warnings.catch_warnings():  # of PyTorch's own deprecated code, for a run with -W error
            warnings.simplefilter("ignore")
            return unflatten(program), inputs
    finally:  # it holds on to what was made of it
        notes.clear()
        notes.update(before)


def as_one_graph(model: Any) -> nn.Module | None:
    """A program as the compiler takes it whole, without its modules; `None` of what is none."""
    program = getattr(model, "exported_program", model)
    return program.module() if isinstance(program, ExportedProgram) else None


def _shown(model: Any) -> str:
    return repr(str(model)) if isinstance(model, str | Path) else type(model).__name__


@contextmanager
def report_packages() -> Iterator[None]:
    """While active, each run of a package in a counted thread is reported as uncounted."""
    with ExitStack() as undo:
        for runner in _RUNNERS:
            for name in ("run", "boxed_run"):
                if name in vars(runner):
                    undo.enter_context(replaced(runner, name, _report))
        yield


def _report(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    for mode in counting_modes():
        mode.attribution.local.state.uncounted[PACKAGE] += 1
    return run(*args, **kwargs)
