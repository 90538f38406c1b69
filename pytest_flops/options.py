"""The options: each on the command line and, under the same name, in the ini file.

Every pytest run imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest import Config, Parser

MARKER = "flops_budget"
MARKER_HELP = (
    f"{MARKER}(name=None, *, forward, backward, optimizer, total, components, tolerance, scaling): "
    "hold what the test computes against a named budget, against limits given here, or both."
)
SUFFIXES = (".yaml", ".yml")
DEFAULT_BUDGETS = "budgets"
DEFAULT_REPORT = "reports"


def add_options(parser: Parser) -> None:
    """Declare the options and their ini twins."""
    group = parser.getgroup("flops", "FLOPs budgets")

    def option(
        name: str, text: str, *, kind: Any = None, default: Any = None, **given: Any
    ) -> None:
        flag = "--" + name.replace("_", "-")
        group.addoption(flag, dest=name, default=None, help=text, **given)
        parser.addini(name, f"{text} (as {flag})", type=kind, default=default)

    option(
        "flops_budgets",
        f"file or folder of budgets; may be given several times (default: {DEFAULT_BUDGETS})",
        kind="args",
        default=[],
        action="append",
        metavar="PATH",
    )
    option(
        "flops_report",
        "folder for flops.json, flops.html and flops.md; empty for none",
        default=DEFAULT_REPORT,
        metavar="DIR",
    )
    option(
        "flops_update",
        "write the counts of this run as the budgets' recorded counts; '=ci' allows it under CI",
        default="no",
        nargs="?",
        const="yes",
        choices=("yes", "no", "ci"),
    )
    option(
        "flops_compare",
        "compare with the flops.json of the base and fail on what got dearer",
        default="",
        metavar="FILE",
    )
    option(
        "flops_history",
        "folder of past reports, drawn into the HTML page as small lines",
        default="",
        metavar="DIR",
    )
    option(
        "flops_tolerance",
        "how far above the base a count may go, e.g. 0.5%%; replaces every budget's own",
        default="",
        metavar="PCT",
    )
    option(
        "flops_only",
        "run only the tests that hold a budget",
        kind="bool",
        default=False,
        action="store_const",
        const=True,
    )
    option(
        "flops_allow_uncounted",
        "an operator without a known cost is a remark, not an error",
        kind="bool",
        default=False,
        action="store_const",
        const=True,
    )


def only_budgets(config: Config) -> bool:
    """Whether `--flops-only` was given."""
    given = config.getoption("flops_only")
    return bool(config.getini("flops_only") if given is None else given)


def asks_for_gate(config: Config) -> bool:
    """Whether somebody named budgets, or gave an option that is wrong or right for all tests."""
    options = (
        "flops_budgets",
        "flops_tolerance",
        "flops_compare",
        "flops_history",
        "flops_update",
    )
    given = any(config.getoption(name) is not None for name in options)
    in_ini = bool(config.getini("flops_budgets"))
    return given or in_ini or (config.rootpath / DEFAULT_BUDGETS).is_dir()
