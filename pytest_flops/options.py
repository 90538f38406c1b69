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

    def writing(name: str, text: str) -> None:
        option(name, text, default="no", action="store_const", const="yes")
        flag = "--" + name.replace("_", "-")
        # An option of its own: an optional value would swallow the path that follows it.
        group.addoption(
            f"{flag}=ci",
            dest=name,
            action="store_const",
            const="ci",
            help=f"{flag}, also under CI=true",
        )

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
    writing(
        "flops_update",
        "write the counts of this run as the budgets' recorded counts; refused under CI=true",
    )
    writing(
        "flops_ratchet",
        "lower the recorded counts that fell, and never raise one; refused under CI=true",
    )
    option(
        "flops_require_recorded",
        "a budget without recorded counts is an error",
        kind="bool",
        default=False,
        action="store_const",
        const=True,
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


def chosen(config: Config, name: str) -> Any:
    """The value from the command line, or else from the ini file."""
    given = config.getoption(name)
    return config.getini(name) if given is None else given


def only_budgets(config: Config) -> bool:
    """Whether `--flops-only` was given."""
    return bool(chosen(config, "flops_only"))


def asks_for_gate(config: Config) -> bool:
    """Whether somebody named budgets, or gave an option that is wrong or right for all tests."""
    options = (
        "flops_budgets",
        "flops_tolerance",
        "flops_compare",
        "flops_history",
        "flops_update",
        "flops_ratchet",
        "flops_require_recorded",
    )
    given = any(chosen(config, name) not in ("", "no", [], False) for name in options)
    return given or (config.rootpath / DEFAULT_BUDGETS).is_dir()
