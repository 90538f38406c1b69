"""Sweeps and formulas of whole workloads and of builders: who counts is settled here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_flops.counting.measure import find_builder, measure_built, measure_workload
from pytest_flops.counting.workload import Workload
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.explain import explain
from pytest_flops.scaling.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flops.counting.builder import Builders
    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.scaling.explanation import Explanation
    from pytest_flops.scaling.sweep import Sweep

OnCount: TypeAlias = Callable[[int], None]


def sweep_workload(
    workload: Workload,
    dimension: str,
    sizes: Iterable[int],
    *,
    metrics: Sequence[str] = (),
    builders: Builders | None = None,
    on_count: OnCount | None = None,
) -> Sweep:
    """Sweep a workload over one dimension.

    Args:
        workload: The workload; all else stays as it is.
        dimension: `batch_size`, `seq_len`, a dimension of the mesh, or a key of the configuration.
        sizes: At least three different positive integers.
        metrics: The names of others to count beside the FLOPs.
        builders: Builders by name, besides those of the installed plugins.
        on_count: Called with each size before it is counted.

    Raises:
        ScalingError: As `sweep` does.
        WorkloadError: There is no such builder.
    """
    at = _changing(workload, builders)  # that the builder is missing is no size's fault

    def count_at(size: int) -> Measurement:
        if on_count:
            on_count(size)
        return measure_workload(at(workload, dimension, size), builders, metrics=metrics)

    return sweep(count_at, dimension, sizes, of_ranks=dimension in workload.mesh)


def sweep_builder(
    builder: Callable[..., Any],
    dimension: str,
    sizes: Iterable[int],
    *,
    optimizer: str = "adamw",
    metrics: Sequence[str] = (),
    builders: Builders | None = None,
    on_count: OnCount | None = None,
) -> Sweep:
    """Sweep what a builder builds over one of its keywords.

    Args:
        builder: `builder(seq_len=n)`, say, returns `(model, inputs)` or an object that a registered
            builder accepts.
        dimension: The keyword. Of an accepted object, `batch_size` may be swept as well although
            it is no part of it.
        sizes: At least three different positive integers.
        optimizer: `"sgd"`, `"adam"`, `"adamw"` or `"none"`.
        metrics: The names of others to count beside the FLOPs.
        builders: Builders by name, besides those of the installed plugins.
        on_count: Called with each size before it is counted.

    Raises:
        ScalingError: The builder is no function, or as `sweep` does.
    """
    if not callable(builder):
        raise ScalingError(f"the builder must be a function of {dimension}, not {builder!r}")

    def count_at(size: int) -> Measurement:
        if on_count:
            on_count(size)
        swept = {dimension: size}
        sizes: dict[str, Any] = swept if dimension == "batch_size" else {}
        built = builder(**swept)
        step = Workload(model="", optimizer=optimizer)
        return measure_built(built, step, builders, metrics=metrics, **sizes)

    return sweep(count_at, dimension, sizes)


def explain_workload(
    workload: Workload,
    dimensions: Iterable[str] = ("batch_size", "seq_len"),
    builders: Builders | None = None,
) -> Explanation:
    """The exact cost formulas of a workload in several dimensions.

    Args:
        workload: The workload; it must give every dimension a size, where the search starts.
        dimensions: `batch_size`, `seq_len`, dimensions of the mesh, or keys of the configuration.
        builders: Builders by name, besides those of the installed plugins.

    Raises:
        ScalingError: A dimension has no size in the workload, or as `explain` does.
        WorkloadError: There is no such builder.
    """
    at = _changing(workload, builders)

    def count_at(**sizes: int) -> Measurement:
        changed = workload
        for dimension, size in sizes.items():
            changed = at(changed, dimension, size)
        return measure_workload(changed, builders)

    sizes = {name: _size_of(workload, name) for name in dimensions}
    return explain(count_at, sizes, ranks=workload.mesh)


def _changing(
    workload: Workload, builders: Builders | None
) -> Callable[[Workload, str, int], Workload]:
    """What gives a workload another size; its mesh is nothing that a builder knows of."""
    builder = find_builder(workload.model, builders)
    return lambda changed, dimension, size: (
        changed.at(dimension, size)
        if dimension in workload.mesh
        else builder.at(changed, dimension, size)
    )


def _size_of(workload: Workload, dimension: str) -> int:
    step = {**workload.mesh, "batch_size": workload.batch_size, "seq_len": workload.seq_len}
    size = step.get(dimension, workload.config.get(dimension))
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ScalingError(f"the workload gives {dimension} no size to start from, but {size!r}")
    return size
