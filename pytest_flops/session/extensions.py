"""What other packages add by the hooks of `hookspecs`, in a session and on the command line."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pluggy

from pytest_flops import hookspecs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class Extensions:
    """The builders and costs that plugins registered.

    Args:
        hook: A plugin manager's hook relay.
    """

    def __init__(self, hook: Any) -> None:
        self._hook = hook

    @classmethod
    def installed(cls) -> Extensions:
        """Those of the installed pytest plugins, where no pytest session runs."""
        manager = _ManagerOfOurHooks("pytest")
        manager.add_hookspecs(hookspecs)
        manager.load_setuptools_entrypoints("pytest11")
        return cls(manager.hook)

    @cached_property
    def builders(self) -> dict[str, Callable[..., Any]]:
        """Model builders by name."""
        return joined(self._hook.pytest_flops_register_builders())

    def register_costs(self) -> None:
        """Tell the meter the costs of custom operators."""
        costs = joined(self._hook.pytest_flops_register_costs())
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
