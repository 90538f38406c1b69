"""What other packages add by the hooks of `hookspecs`, in a session and on the command line."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flops import hookspecs
from pytest_flops.counting.builder import as_builder
from pytest_flops.counting.registration import register

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_flops.counting.builder import Builder, Builders


def reference_model() -> Builders:
    """The builder that this package registers by its own hook."""
    from pytest_flops.resnet_bk.builder import NAME, RESNET_BK

    return {NAME: RESNET_BK}


class Extensions:
    """The builders, metrics and costs that plugins registered.

    Args:
        hook: A plugin manager's hook relay.

    Attributes:
        mistakes: What is wrong with the metrics that they registered.
    """

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self._metrics: dict[str, str] = {}  # by name, the plugin that has registered it
        self.mistakes: list[str] = []

    @property
    def builders(self) -> Builders:
        """Model builders by name. Asked anew each time: a `conftest.py` may be met later."""
        return hookspecs.joined(self._hook.pytest_flops_register_builders())

    def builder(self, name: str) -> Builder | None:
        """The builder registered under a name; `None` of any other, which only counting imports."""
        found = self.builders.get(name) if ":" not in name else None
        return as_builder(found) if found else None

    def register_metrics(self, plugin: object) -> None:
        """Know the metrics of a plugin that pytest has registered."""
        impls = self._hook.pytest_flops_register_metrics.get_hookimpls()
        of_it = [impl for impl in impls if impl.plugin is plugin]
        self.mistakes += register(of_it, self._metrics)

    def register_costs(self) -> None:
        """Tell the meter the costs of custom operators."""
        costs = hookspecs.joined(self._hook.pytest_flops_register_costs())
        if costs:
            from pytest_flops.counting.costs import register_costs

            register_costs(costs)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let `package.module:callable` find modules in a folder, after all other places."""
    place = str(folder)
    added = place not in sys.path
    if added:
        sys.path.append(place)
    try:
        yield
    finally:
        if added:
            sys.path.remove(place)
