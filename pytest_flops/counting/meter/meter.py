"""`FLOPsMeter` counts what PyTorch executes; `count_flops` a training step, without running it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch

from pytest_flops.counting.arguments import checked
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter.attribution import Attribution
from pytest_flops.counting.meter.dispatch import counting_here
from pytest_flops.counting.meter.exported import as_module, as_one_graph, report_packages
from pytest_flops.counting.meter.fake_step import training_step
from pytest_flops.counting.meter.kernels import report_launches
from pytest_flops.counting.meter.threads import hand_over_to_threads
from pytest_flops.counting.meter.totals import measurement_of
from pytest_flops.counting.meter.workarounds.compiled_code import run_eagerly
from pytest_flops.counting.meter.workarounds.flex_attention import train_on_fakes
from pytest_flops.counting.meter.workarounds.higher_order import under_autograd
from pytest_flops.counting.meter.workarounds.spectra import without_vectors
from pytest_flops.counting.registration import metrics_named
from pytest_flops.counting.replacing import Shared


@contextmanager
def _process_wide_changes() -> Iterator[None]:
    with ExitStack() as undo:
        for change in (
            hand_over_to_threads,
            report_launches,
            report_packages,
            run_eagerly,
            train_on_fakes,
            under_autograd,
            without_vectors,
        ):
            undo.enter_context(change())
        yield


_changes = Shared(_process_wide_changes)


class _ThisThread(threading.local):
    """The meters that the calling thread has entered, the outermost first."""

    def __init__(self) -> None:
        self.meters: list[FLOPsMeter] = []


_this_thread = _ThisThread()


class FLOPsMeter:
    """Counts the floating-point operations of whatever PyTorch code runs inside it.

    Every operator is counted, by phase, by module and by name, in any model and on any device; the
    rules are those of `pytest_flops.counting.costs`. Compiled modules run eagerly while counted.

    ```python
    with FLOPsMeter() as meter:
        model(x).sum().backward()
        optimizer.step()
    print(meter)
    ```

    The results can be read inside the block too, and are then those so far. Meters nest: an
    operator inside two of them is counted by both.

    Args:
        metrics: The names of other metrics to count beside the FLOPs, e.g. `["bytes"]`.
        lines: Whether to find the line of your own code for what these metrics add up, which makes
            counting slower; `measurement().lines` has them.

    Raises:
        ValueError: There is no metric of a name, it is one of the compiler's, which nothing
            reaches while a meter counts, or an argument is of a wrong type.
        RuntimeError: The meter is entered twice, read before it is entered, left in another thread
            than it was entered in, or left while one counts that was entered after it.
    """

    @checked
    def __init__(self, *, metrics: Iterable[str] = (), lines: bool = False) -> None:
        asked = metrics_named(metrics, unlimited=True)
        if of_compiler := [metric.name for metric in asked if metric.of_compiler]:
            raise ValueError(
                f"a FLOPsMeter does not count {', '.join(of_compiler)}: what is compiled runs "
                "eagerly inside it. A marked test, a budget's workload and count_flops(..., "
                "compile=True) run a second time for that"
            )
        self._attribution = Attribution(asked, lines=lines)
        self._active: ExitStack | None = None
        self._result: Measurement | None = None

    def __enter__(self) -> FLOPsMeter:
        if self._active is not None:
            raise RuntimeError("this FLOPsMeter is counting already; a meter is entered once")
        if self._result is not None:
            raise RuntimeError("this FLOPsMeter has counted already; make a new one")
        with ExitStack() as stack:
            stack.callback(self._attribution.stop)
            self._attribution.start()
            stack.callback(_changes.end, self)
            _changes.begin(self)
            stack.enter_context(counting_here(self._attribution))
            self._active = stack.pop_all()
        _this_thread.meters.append(self)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._result is not None:
            self._refuse("it ended with the meter around it, which was left first", error)
            return
        if self._active is None:
            raise RuntimeError("this FLOPsMeter is left without having been entered")
        meters = _this_thread.meters
        if self not in meters:
            raise RuntimeError("a FLOPsMeter is left in the thread that has entered it")
        inner = meters[meters.index(self) + 1 :]
        # Dispatch modes are a stack, so those above this one end with it. To leave them there would
        # make each pop the mode of another.
        for meter in (*reversed(inner), self):
            meter._end()  # noqa: SLF001 - of the same class
        if inner:
            self._refuse("one that was entered after it still counts", error)

    def _refuse(self, why: str, error: object) -> None:
        """Say that meters overlap, unless an error of the block is on its way, which says more."""
        if error is None:
            raise RuntimeError(
                f"this FLOPsMeter cannot be left: {why}. In one thread, meters are left in the "
                "reverse order of entering; asyncio's tasks share a thread, so let one task count "
                "after the other, or one meter around them all"
            )

    def _end(self) -> None:
        assert self._active is not None
        try:
            self._active.close()
        finally:
            self._active = None
            _this_thread.meters.remove(self)
            self._result = measurement_of(self._attribution)
            self._attribution = Attribution()  # lets go of the modules

    def measurement(self) -> Measurement:
        """Everything that it found, as plain data; inside the block, so far."""
        if self._result is not None:
            return self._result
        if self._active is None:
            raise RuntimeError("this FLOPsMeter has not counted anything: use it in a with block")
        return measurement_of(self._attribution)

    @property
    def active(self) -> bool:
        """Whether it is counting now."""
        return self._active is not None

    @property
    def count(self) -> FLOPsCount:
        """Everything that ran."""
        return self.measurement().count

    @property
    def components(self) -> Mapping[str, FLOPsCount]:
        """Cost by module path, a tree: what a module costs contains what its children cost."""
        return self.measurement().components

    @property
    def operations(self) -> Mapping[str, FLOPsCount]:
        """Cost by operator, e.g. `aten.addmm`; its bias is `aten.addmm:bias`."""
        return self.measurement().operations

    @property
    def uncounted(self) -> Mapping[str, int]:
        """Calls of operators without a cost, and of modules and steps in threads nobody counts.

        Anything in it makes `count` a lower bound.
        """
        return self.measurement().uncounted

    @property
    def child_processes(self) -> int:
        """How many processes `multiprocessing` started; what they compute is counted by nobody."""
        return self.measurement().child_processes

    @property
    def recomputed(self) -> int:
        """The part of `count.backward` that repeats forward work (activation checkpointing)."""
        return self.measurement().recomputed

    def table(self) -> str:
        """Cost by component and phase, as text."""
        return self.measurement().table()

    def __str__(self) -> str:
        return self.table()


@checked
def count_flops(
    model: torch.nn.Module | torch.export.ExportedProgram,
    *inputs: Any,
    optimizer: str
    | Mapping[str, Any]
    | Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer] = "adamw",
    loss: Callable[[Any], torch.Tensor] | None = None,
    training: bool = True,
    metrics: Iterable[str] = (),
    lines: bool = False,
    values: Literal["fake", "real"] = "fake",
    like: Literal["cuda"] | None = None,
    parallelize: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
    compile: bool | Mapping[str, Any] = False,  # noqa: A002 - as torch calls it
    **kwargs: Any,
) -> Measurement:
    """Count a training step of a model without running it: no weights are read or allocated.

    Everything is computed on fake tensors, which have shapes but no values, so a model of any size
    is counted on any machine. Build a model that does not fit into memory under
    `with torch.device("meta"):`; the model is left as it was.

    Args:
        model: The model, on any device, `meta` included; or a program that `torch.export` made.
        *inputs: Its positional inputs: tensors on any device, or anything else. A program without
            any is counted with the inputs that it was exported with.
        optimizer: The name of one of `torch.optim` in small letters, or `"none"`; a mapping of such
            a `name` and of its keywords; or a function from the parameters to an optimizer.
        loss: From the model's output to a scalar. By default the output's `loss` if it has one,
            else the sum of its first floating-point tensor (`logits` first).
        training: Whether the model is in training mode; `False` counts the forward alone. A module
            that `torch.export` has made stays in the mode that it has.
        metrics: The names of other metrics to count beside the FLOPs. With `peak_memory` among
            them, the step counted is the second one, when the optimizer has its state.
        lines: Whether to find the line of your own code for what these metrics add up.
        values: `"real"` runs the step on copies of the model's tensors and of the inputs, for code
            that asks for values; the model must fit into memory then.
        like: `"cuda"` has the step run the operators that CUDA runs where those of the CPU differ:
            attention, RMS norm, dropout, autocast, optimizers. It takes no GPU, and fake values.
        parallelize: Makes a parallel model of a copy of the model, for one rank's step: see
            `fake_ranks`.
        compile: Whether the compiler's metrics (`graph_breaks`, `recompiles`, `graphs`, `kernels`,
            `fused_bytes`) are those of the compiled model, or keywords of `torch.compile`; a model
            may be compiled already. They are of two further steps, without an optimizer; all others
            stay uncompiled.
        **kwargs: The model's keyword inputs.

    Returns:
        The count by phase, component and operator.

    Raises:
        DataDependentError: The model's code, a library or the optimizer depends on the values of a
            tensor, which a fake tensor does not have; the message names it and the operator.
        ValueError: An argument is of a wrong type, the name of the optimizer or of a metric is
            unknown, the output holds nothing to sum, values are real in a step like CUDA's, a model
            to parallelize is parallel, the compiler's metrics are asked for of one, or the model is
            none, or compiled code.
    """
    asked_for = metrics_named(metrics, unlimited=True)
    of_meter = [metric for metric in asked_for if not metric.of_compiler]
    of_compiler = [metric for metric in asked_for if metric.of_compiler]
    meter = FLOPsMeter(metrics=[metric.name for metric in of_meter], lines=lines)
    second = any(metric.of_second_step for metric in of_meter)
    if parallelize is not None and of_compiler:
        raise ValueError("the compiler's metrics are not counted of a model on a mesh")
    module, (positional, named) = as_module(model, (inputs, kwargs))
    assumptions = training_step(
        module,
        positional,
        named,
        optimizer,
        loss,
        training=training,
        each=(nullcontext(), meter) if second else (meter,),
        real=values == "real",
        like=like,
        parallelize=parallelize,
    )
    found = meter.measurement()
    measurement = replace(found, assumptions=(*found.assumptions, *assumptions))
    if not of_compiler:
        return measurement
    from pytest_flops.counting.compiler import CompilerEvents, compiled

    with CompilerEvents(of_compiler) as events:
        training_step(
            compiled(as_one_graph(model) or module, compile, of_compiler),
            positional,
            named,
            "none",
            loss,
            training=training,
            each=(nullcontext(), nullcontext()),
            real=values == "real",
        )
    return events.added_to(measurement)
