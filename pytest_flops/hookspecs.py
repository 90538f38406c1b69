"""The hooks by which other packages extend pytest-flops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest import Config

hookspec = pluggy.HookspecMarker("pytest")


@hookspec
def pytest_flops_register_builders() -> Mapping[str, Callable[..., Any]] | None:
    """Offer model builders for a budget's `workload.model`.

    Returns:
        Builders by name. Each is called with the workload's `config`, `batch_size` and `seq_len`
        as keywords and returns `(model, inputs)`.
    """


@hookspec
def pytest_flops_register_costs() -> Mapping[str, Callable[..., int]] | None:
    """Offer the costs of custom operators to the meter.

    Returns:
        By operator name, `"my_library::my_operator"`, a function of the operator's positional
        arguments, its keyword arguments and its result, which returns FLOPs.
    """


@hookspec
def pytest_flops_report(config: Config) -> Mapping[str, str] | None:
    """Add context to the report.

    Returns:
        Text by label, shown with the environment: a cluster, a dataset, a ticket.
    """
