"""The pytest hooks that every run needs. Every pytest run of every user imports this module.

What a run without budgets does not need is imported, and its hooks registered, when a budget, a
marker or a fixture first asks for it: see `session.hooks`. pytest loads a plugin's bytecode piece
by piece, and pytest looks at each name of a plugin for hooks and fixtures, so each line and each
name here costs every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_flops import options
from pytest_flops.session.fixtures import (  # noqa: F401 - pytest finds fixtures among our names
    _flops_recorder,
    bk_core,
    fake_ranks,
    flops,
    flops_budget,
    flops_counter,
    resnet_bk,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from typing import Any

    from pytest_flops.counting.builder import Builders
    from pytest_flops.session.collection import BudgetFile
    from pytest_flops.session.hooks import BudgetHooks


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks by which other packages extend this plugin."""
    from pytest_flops import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(trylast=True)
def pytest_flops_register_builders() -> Builders:
    """Offer the reference model, after all others: the first to name a builder wins."""
    from pytest_flops.session.extensions import reference_model

    return reference_model()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", options.MARKER_HELP)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse wrong options, and wrong files of budgets that somebody named, at once."""
    if options.asks_for_budgets(session.config):
        _hooks(session.config).refuse_mistakes()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> BudgetFile | None:
    """Collect a YAML file of budgets as a test file."""
    if not options.is_yaml(file_path):
        return None
    if not _hooks(parent.config).session.catalog.is_budget_file(file_path):
        return None
    from pytest_flops.session.collection import BudgetFile

    file: BudgetFile = BudgetFile.from_parent(parent, path=file_path)
    return file


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Bind marked tests to their budgets; with `--flops-only`, leave the others out."""
    collected = _hooks(config).bind(items) if options.has_budgets(config, items) else []
    yield
    if options.has_budgets(config, items):
        _hooks(config).settle(collected, items)


def pytest_runtest_call(item: pytest.Item) -> None:
    """Refuse a marker that a fixture has added, since nothing bound it to a budget."""
    if item.get_closest_marker(options.MARKER):
        _hooks(item.config).refuse_late_marker(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """When every test has run, or the run was cut short, conclude: judge, update, write."""
    ended = False
    try:
        result = yield
        ended = True
    finally:
        if options.has_met_budgets(session.config):
            _hooks(session.config).conclude(session, ended=ended)
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Know what the workers of pytest-xdist are due to deliver."""
    _hooks(node.config).due.update(ids)


def _hooks(config: pytest.Config) -> BudgetHooks:
    from pytest_flops.session.hooks import hooks_of

    return hooks_of(config)
