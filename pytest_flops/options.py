"""The options: each on the command line and, under the same name, in the ini file.

Every pytest run imports this module.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest import Config, Item, Parser

MARKER = "flops_budget"
MARKER_HELP = (
    f"{MARKER}(name=None, *, forward, backward, optimizer, total, components, tolerance, scaling, "
    "and other metrics by name): "
    "hold what the test computes against a named budget, against limits given here, or both."
)
PLUGIN_NAME = "flops-session"
"""The name under which `session.hooks` is registered, in runs that have budgets."""
DEFAULT_BUDGETS = "budgets"
DEFAULT_REPORT = "reports"


_VALUES = (
    ("flops_report", "DIR", DEFAULT_REPORT, "folder for flops.json, .html and .md; empty for none"),
    ("flops_compare", "FILE", "", "compare with the base's flops.json; fail on what got dearer"),
    ("flops_history", "DIR", "", "folder of past reports, drawn into the page; whole runs join it"),
    ("flops_metrics", "NAMES", "", "count these metrics too, e.g. bytes,peak_memory; or all"),
    ("flops_tolerance", "PCT", "", "how far above its base any count may go, e.g. 0.5%"),
)
_WRITERS = (
    ("flops_update", "write this run's counts into the lock files; refused in CI"),
    ("flops_ratchet", "lower the recorded counts that fell, raise none; refused in CI"),
)
_SWITCHES = (
    ("flops", "meter every test and print the dearest; holds no more than without it"),
    ("flops_require_recorded", "a budget without recorded counts is an error"),
    ("flops_only", "run only the tests that hold a budget"),
    ("flops_allow_uncounted", "an operator without a known cost is a warning, not an error"),
)
_ASKING = (
    *("flops", "flops_budgets", "flops_metrics", "flops_tolerance", "flops_compare"),
    *("flops_history", "flops_update", "flops_ratchet", "flops_require_recorded"),
)
"""The options that are wrong or right for all tests, or mean them all."""


def add_options(parser: Parser) -> None:
    """Declare the options and their ini twins."""
    group = parser.getgroup("flops", "FLOPs budgets")

    def add(name: str, text: str, kind: Any, default: Any, **given: Any) -> str:
        flag = "--" + name.replace("_", "-")
        group.addoption(flag, dest=name, default=None, help=text.replace("%", "%%"), **given)
        parser.addini(name, f"{text} (as {flag})", type=kind, default=default)
        return flag

    budgets = f"files or folders of budgets to look for in place of {DEFAULT_BUDGETS}/; repeatable"
    add("flops_budgets", budgets, "args", [], action="append", metavar="PATH")
    for name, metavar, default, text in _VALUES:
        add(name, text, None, default, metavar=metavar)
    for name, text in _SWITCHES:
        add(name, text, "bool", default=False, action="store_const", const=True)
    for name, text in _WRITERS:
        flag = add(name, text, None, "no", action="store_const", const="yes")
        in_ci = {"action": "store_const", "const": "ci", "help": f"{flag}, also in CI"}
        # An option of its own: an optional value would swallow the path that follows it.
        group.addoption(f"{flag}=ci", dest=name, **in_ci)


def is_nearly_the_marker(name: str) -> bool:
    """Whether a marker may be ours with at most two letters wrong, judged by the letters in it."""
    return len(set(MARKER).symmetric_difference(name)) <= 4


def has_met_budgets(config: Config) -> bool:
    """Whether `session.hooks` is registered."""
    return config.pluginmanager.has_plugin(PLUGIN_NAME)


def has_budgets(config: Config, items: list[Item]) -> bool:
    """Whether a budget was met, `--flops-only` asks for some, or a marker may be ours."""
    if has_met_budgets(config) or chosen(config, "flops_only"):
        return True
    return any(map(is_nearly_the_marker, {m.name for item in items for m in item.iter_markers()}))


def chosen(config: Config, name: str) -> Any:
    """The value from the command line, or else from the ini file."""
    given = config.getoption(name)
    return config.getini(name) if given is None else given


def paths_given(config: Config) -> set[Path]:
    """The files and folders that pytest was told to run."""
    start = config.invocation_params.dir
    return {Path(os.path.normpath(start / each.partition("::")[0])) for each in config.args}


def is_yaml(path: Path) -> bool:
    """Whether a file is YAML by its name."""
    return path.suffix.lower() in (".yaml", ".yml")


def folders_up(path: Path, rootdir: Path) -> list[Path]:
    """A path and the folders above it up to the rootdir; the rootdir alone if it is not inside."""
    if not path.is_relative_to(rootdir):
        return [rootdir]
    return [path, *path.parents][: len(path.parts) - len(rootdir.parts) + 1]


def asks_for_budgets(config: Config) -> bool:
    """Whether somebody named budgets, or gave an option that is wrong or right for all tests."""
    given = any(
        config.getoption(name) is not None or config.getini(name) not in ("", "no", [], False)
        for name in _ASKING
    )
    folders = {up for path in paths_given(config) for up in folders_up(path, config.rootpath)}
    return given or any(os.path.lexists(f"{folder}/{DEFAULT_BUDGETS}") for folder in folders)
