"""The hooks by which other packages extend pytest-flops."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest import Config

hookspec = pluggy.HookspecMarker("pytest")


@hookspec
def pytest_flops_register_builders() -> Mapping[str, Any] | None:
    """Offer model builders for a budget's `workload.model`.

    Returns:
        Builders by name: functions that are called with the workload's `config`, `batch_size` and
        `seq_len` as keywords and return `(model, inputs)`, or a `counting.builder.Builder` each,
        which may know more. Called when budget files are read: import torch in the functions.
    """


@hookspec
def pytest_flops_register_costs() -> Mapping[Any, Any] | None:
    """Offer the costs of custom operators and Triton kernels to the meter.

    Returns:
        By operator name, `"my_library::my_operator"`, a function of the operator's positional
        arguments, its keyword arguments and its result, which returns FLOPs; or several by metric.
        By kernel, a function of its arguments, by their names. As `counting.costs.register_cost`.
    """


@hookspec
def pytest_flops_register_metrics() -> Sequence[Any] | None:
    """Offer metrics: limited, recorded, compared and shown like the built-in ones.

    Returns:
        A list of `pytest_flops.Metric`, each with a `counter`. Called when the first budget is met:
        import torch in the counter.
    """


@hookspec
def pytest_flops_report(config: Config) -> Mapping[str, str] | None:
    """Add context to the report.

    Returns:
        Text by label, shown with the environment: a cluster, a dataset, a ticket.
    """


@cache
def installed() -> pluggy.HookRelay:
    """These hooks of the installed pytest plugins, where no pytest session runs."""
    manager = _ManagerOfOurHooks("pytest")
    manager.add_hookspecs(sys.modules[__name__])
    manager.load_setuptools_entrypoints("pytest11")
    return manager.hook


def joined(answers: list[Mapping[str, Any] | None]) -> dict[str, Any]:
    """The answers of all plugins to one hook as one mapping; the first to name a key wins."""
    return {name: found for answer in reversed(answers) for name, found in (answer or {}).items()}


class _ManagerOfOurHooks(pluggy.PluginManager):
    """Knows hooks by their names, as pytest does, and none but ours."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> pluggy.HookimplOpts | None:
        if not name.startswith("pytest_flops_") or not callable(getattr(plugin, name, None)):
            return None
        return super().parse_hookimpl_opts(plugin, name) or pluggy.HookimplOpts(
            wrapper=False,
            hookwrapper=False,
            optionalhook=False,
            tryfirst=False,
            trylast=False,
            specname=None,
        )
