"""From a workload to a measurement: find the builder, build, and let the right counter count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_flops.counting.builder import (
    Builder,
    accepted,
    as_builder,
    installed_builders,
    with_installed,
)
from pytest_flops.counting.hugging_face import is_configuration, language_model
from pytest_flops.counting.origin import origin
from pytest_flops.counting.spelling import nearest, refused_keyword

if TYPE_CHECKING:
    from pytest_flops.counting.builder import Builders
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.workload import Workload

Parallelize: TypeAlias = Callable[[Any], Any]

_HOW = ("optimizer", "training", "values", "like", "compile")
"""What of a workload says how its step runs, under the names that `count_flops` has for it."""

_WITH_INPUTS_OF_ITS_OWN = ("ExportedProgram", "ONNXProgram", "AOTICompiledModel")
"""Classes of PyTorch's, which is not imported before it is needed; the last one is refused."""

_RAISED = (Exception, SystemExit)  # a script that reads the command line exits


class WorkloadError(ValueError):
    """A workload that cannot be found, built or counted; the message is for its author."""


def measure_workload(
    workload: Workload,
    builders: Builders | None = None,
    *,
    metrics: Sequence[str] = (),
    lines: bool = False,
) -> Measurement:
    """Count one training step of a workload; `builders` are known besides installed plugins' ones.

    `metrics` are the names of others to count beside the FLOPs. A builder that counts by itself
    counts FLOPs alone: its other metrics are those of the step of the model that it builds. `lines`
    asks for the lines of somebody's code that they come from.

    Raises:
        WorkloadError: The builder is unknown or raised, what it returned cannot be counted, or the
            rules asked for do not fit.
    """
    builder = find_builder(workload.model, builders)
    sizes = {"batch_size": workload.batch_size, "seq_len": workload.seq_len}
    given = {name: size for name, size in sizes.items() if size is not None}
    with ExitStack() as undo:
        parallelize = undo.enter_context(_on_its_rank(workload))
        try:
            by_step = parallelize or workload.step or not workload.training
            counts = None if by_step else builder.measure
            by_itself = counts(workload) if counts else None
            if by_itself and not metrics:
                return by_itself
            undo.enter_context(_defaults_kept())
            built = _built(builder, workload.model, {**workload.config, **given})
        except WorkloadError:
            raise
        except _RAISED as error:
            raise WorkloadError(f"the builder {workload.model!r} raised {_told(error)}") from error
        if workload.step:
            return _measure_step(workload.model, built, metrics, lines=lines)
        measured = measure_built(
            built,
            replace(workload, rules=None) if by_itself else workload,
            builders,
            metrics=metrics,
            lines=lines,
            parallelize=parallelize,
            **sizes,
        )
    return _joined(by_itself, measured) if by_itself else measured


def _defaults_kept() -> AbstractContextManager[None]:
    """What a builder sets of PyTorch, as its default dtype, is not for the next one's model."""
    from pytest_flops.counting.meter.fake_step import defaults_kept

    return defaults_kept()


def _built(builder: Builder, name: str, keywords: Mapping[str, Any]) -> object:
    if refused := refused_keyword(builder.build, keywords):
        raise WorkloadError(f"the builder {name!r} {refused}")
    return builder.build(**keywords)


def _joined(by_itself: Measurement, measured: Measurement) -> Measurement:
    """What a builder counts by itself, with what the step of its model tells beside the FLOPs."""
    missing = [path for path in by_itself.components if path not in measured.components]
    if missing:
        raise WorkloadError(
            f"the builder counts components that its model does not have ({', '.join(missing)}), "
            "so it has no other metrics than FLOPs"
        )
    return replace(
        by_itself,
        metrics=measured.metrics,
        found_at=measured.found_at,
        uncounted={**by_itself.uncounted, **measured.uncounted},
        not_called=tuple(dict.fromkeys((*by_itself.not_called, *measured.not_called))),
        child_processes=by_itself.child_processes + measured.child_processes,
        assumptions=(*by_itself.assumptions, *measured.assumptions),
    )


def measure_built(
    built: object,
    step: Workload,
    builders: Builders | None = None,
    *,
    metrics: Sequence[str] = (),
    lines: bool = False,
    parallelize: Parallelize | None = None,
    **sizes: Any,
) -> Measurement:
    """Count what a builder returned: `(model, inputs)`, a program, or what another one accepts.

    Behind the inputs may stand the `loss` and the `optimizer` of `count_flops`, both functions.

    Args:
        built: What it returned; a program that `torch.export` made has inputs of its own.
        step: How its step runs, and by which rules it counts; not what is built, nor its sizes.
        builders: Builders by name, besides those of the installed plugins.
        metrics: The names of others to count beside the FLOPs.
        lines: Whether to find the lines that they come from.
        parallelize: As in `count_flops`; of `(model, inputs)` alone.
        **sizes: `batch_size` and `seq_len` of an accepted object's step, if they are not its own.

    Raises:
        WorkloadError: `built` is neither, the rules do not fit, or the model cannot be counted.
    """
    how = {name: getattr(step, name) for name in _HOW}
    if type(built).__name__ in _WITH_INPUTS_OF_ITS_OWN:
        built = (built, ())
    if isinstance(built, tuple) and 2 <= len(built) <= 4:
        model, inputs, *own = built
        if step.rules == "published":
            raise WorkloadError(
                "the published rules are those of a builder that counts by itself; a model is "
                "metered by the executed rules"
            )
        asked = {
            **how,
            "metrics": metrics,
            "lines": lines,
            "parallelize": parallelize,
            **dict(zip(("loss", "optimizer"), own, strict=False)),
        }
        return _meter(model, inputs, asked)
    found = None if parallelize else accepted(built, builders)
    if found is None:
        raise WorkloadError(
            "a builder returns the pair (model, inputs), an exported program, or what a registered "
            "builder accepts, not "
            f"{type(built).__name__}{' on a mesh' if parallelize else ''}"
        )
    workload = replace(found.workload, rules=step.rules, **how, **sizes)
    # Both are of the model that the builder that accepts it builds.
    if metrics or not step.training:
        return measure_workload(workload, builders, metrics=metrics, lines=lines)
    return found.measure(workload)


def find_builder(name: str, builders: Builders | None = None) -> Builder:
    """The builder that a workload names: a registered name, or `"package.module:callable"`.

    Raises:
        WorkloadError: There is no such builder; the message lists the known ones or says what the
            import met.
    """
    is_path = ":" in name
    for known in with_installed(builders) if not is_path else [builders or {}]:
        if name in known:
            return as_builder(known[name])
    if not is_path:
        names = ", ".join(sorted({*(builders or {}), *installed_builders()}))
        raise WorkloadError(
            f"no builder is registered as {name!r}; registered: {names}; "
            "or write 'package.module:callable'"
        )
    found = _imported(name)
    return as_builder(partial(language_model, found) if is_configuration(found) else found)


def _imported(name: str) -> Any:
    """The callable, or the builder, that `"package.module:name"` names."""
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = attrgetter(attribute)(import_module(module_name))
    except _RAISED as error:
        hint, root = "", module_name.partition(".")[0]
        if module_name.endswith(".py"):
            hint = "; write 'package.module:callable', as you import it, and not the file"
        elif isinstance(error, ModuleNotFoundError) and error.name == root:
            hint = (
                "; is its folder on the path (ini option 'pythonpath'), or the package installed?"
            )
        elif isinstance(error, SystemExit):
            hint = "; the module exits on import: put what it runs below if __name__ == '__main__'"
        elif isinstance(error, AttributeError) and (near := _near(error)):
            hint = f"; did you mean {near!r}?"
        raise WorkloadError(f"cannot import {name!r}: {error}{hint}") from error
    if not isinstance(found, Builder) and not callable(found):
        raise WorkloadError(f"{name!r} is a {type(found).__name__}, not a callable")
    return found


def _near(error: AttributeError) -> str | None:
    """What there is instead of the name that is missing in a module."""
    return nearest(str(error.name), vars(error.obj)) if isinstance(error.obj, ModuleType) else None


@contextmanager
def _on_its_rank(workload: Workload) -> Iterator[Parallelize | None]:
    """While active, this process is the workload's rank; gives what makes its model parallel."""
    if not workload.mesh:
        yield None
        return
    from pytest_flops.counting.meter.ranks import fake_ranks

    parallelize = _imported(str(workload.parallelize))
    with ExitStack() as undo:
        try:
            mesh = undo.enter_context(fake_ranks(rank=workload.rank, **workload.mesh))
        except (RuntimeError, ValueError) as error:
            raise WorkloadError(str(error)) from error
        yield lambda model: parallelize(model, mesh)


def _measure_step(name: str, step: Any, metrics: Sequence[str], *, lines: bool) -> Measurement:
    """Count a step as it is, with real values; the second one where a metric is of that.

    The compiler's metrics are those of two further steps, and of what the step itself compiles.
    """
    from pytest_flops.counting.meter.meter import FLOPsMeter
    from pytest_flops.counting.registration import metrics_named

    if not callable(step):
        raise WorkloadError(
            f"{name!r} returns a function without arguments, which is the step, not a "
            f"{type(step).__name__}"
        )
    asked = metrics_named(metrics, unlimited=True)
    of_compiler = [metric for metric in asked if metric.of_compiler]
    of_meter = [metric.name for metric in asked if not metric.of_compiler]
    try:
        if any(metric.of_second_step for metric in asked):
            step()
        with FLOPsMeter(metrics=of_meter, lines=lines) as meter:
            step()
        found = meter.measurement()
        if of_compiler:
            from pytest_flops.counting.compiler import CompilerEvents

            with CompilerEvents(of_compiler) as events:
                step()
                step()
            found = events.added_to(found)
    except _RAISED as error:
        raise WorkloadError(f"the step of {name!r} raised {_told(error)}") from error
    if not (found.count.total or found.uncounted):
        raise WorkloadError(f"the step of {name!r} computes nothing (0 FLOP)")
    return found


def _meter(model: Any, inputs: Any, asked: Mapping[str, Any]) -> Measurement:
    from pytest_flops.counting.meter.meter import count_flops

    try:
        if isinstance(inputs, Mapping):
            found = count_flops(model, **asked, **inputs)
        else:
            positional = inputs if isinstance(inputs, tuple | list) else (inputs,)
            found = count_flops(model, *positional, **asked)
    except _RAISED as error:
        raise WorkloadError(f"counting {type(model).__name__} raised {_told(error)}") from error
    if not (found.count.forward or found.uncounted):
        raise WorkloadError(
            "the forward of the step computes nothing (0 FLOP): are the inputs empty?"
        )
    return found


def _told(error: BaseException) -> str:
    """An error of somebody's model, with the line of their code that it came from."""
    told, place = f"{type(error).__name__}: {error}", origin(error)
    return f"{told} ({place})" if place and str(place) not in told else told
