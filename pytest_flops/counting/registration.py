"""The metrics that other packages register, and those that somebody asks for by name."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from pytest_flops import hookspecs
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import (
    BUILT_IN,
    FLOPS,
    MACS,
    METRICS,
    ROOFLINE,
    TOTAL,
    Metric,
    Unit,
    countable,
)
from pytest_flops.counting.spelling import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TAKEN = {*BUILT_IN, *PHASES, TOTAL, "components", "tolerance", "scaling", "name", "all"}
"""Names that budgets, markers and the option read otherwise."""


def register(impls: Iterable[Any], plugins: dict[str, str]) -> Iterator[str]:
    """Take in the metrics that plugins offer; returns what is wrong with them, in words.

    Args:
        impls: pluggy's records of their hooks `pytest_flops_register_metrics`.
        plugins: The names that were taken before in this run, each with its plugin; gets the new.
    """
    for impl in impls:
        where = f"pytest_flops_register_metrics of the plugin {impl.plugin_name}"
        offered = impl.function()
        if not isinstance(offered, list | tuple | None):
            yield f"{where} returns a {type(offered).__name__}, not a list of pytest_flops.Metric"
            continue
        for metric in offered or ():
            problems = [*_problems(metric, plugins)]
            yield from (f"{where}: {problem}" for problem in problems)
            if not problems:
                METRICS[metric.name], plugins[metric.name] = metric, impl.plugin_name


def metrics_named(names: Iterable[str], *, unlimited: bool = False) -> tuple[Metric, ...]:
    """The metrics of these names besides FLOPs, which are always counted.

    The roofline and MACs are among them only where `unlimited` says that nobody will hold a limit.
    Where no pytest session has asked the plugins, the installed ones are asked here.

    Raises:
        ValueError: There is no metric of a name, or an installed plugin offers a wrong one.
    """
    names = [*dict.fromkeys(names)]
    reported = {metric.name: metric for metric in (ROOFLINE, MACS)} if unlimited else {}
    if not (countable() | reported).keys() >= {*names}:
        register_installed()
    known = countable() | reported
    for name in names:
        if name not in known:
            advice = suggestion(name, [*known], "there are")
            raise ValueError(f"there is no metric {name!r}{advice}")
    return tuple(known[name] for name in names if name != FLOPS.name)


def names_in(text: str) -> tuple[str, ...]:
    """The metrics besides FLOPs that a text names: with commas between them, or `all`.

    All are those of one run: the compiler's, which take a second one, are named.

    Raises:
        ValueError: There is no metric of a name.
    """
    if text == "all":
        names = [metric.name for metric in countable().values() if not metric.of_compiler]
    else:
        names = [name.strip() for name in text.split(",")] if text else []
    return tuple(metric.name for metric in metrics_named(names))


@cache
def register_installed() -> None:
    """Take in the metrics of the installed pytest plugins, where no pytest session runs.

    Raises:
        ValueError: One of them is wrong.
    """
    impls = hookspecs.installed().pytest_flops_register_metrics.get_hookimpls()
    if problems := [*register(impls, {})]:
        raise ValueError("\n".join(problems))


def _problems(metric: Any, plugins: dict[str, str]) -> Iterator[str]:
    """What is wrong with what a plugin offers as a metric, beside those there are."""
    if not isinstance(metric, Metric):
        yield f"{metric!r} is no pytest_flops.Metric"
        return
    name, unit, phases = metric.name, metric.unit, metric.phases
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
        yield f"the name {name!r} is not of small letters, digits and underscores"
    if name in _TAKEN:
        yield f"the name {name!r} is taken by pytest-flops itself"
    if name in plugins:
        yield f"the name {name!r} is taken by the plugin {plugins[name]}"
    if not _is_sound(unit):
        yield (
            f"the unit of {name!r} is {unit!r}; expected is a pytest_flops.Unit, whose sizes are "
            "whole numbers, 1 of the symbol, and hold each symbol that is printed or usual"
        )
    if metric.join not in ("sum", "max"):
        yield f"the join of {name!r} is {metric.join!r}, neither 'sum' nor 'max'"
    if not phases or phases != tuple(phase for phase in PHASES if phase in phases):
        yield f"the phases of {name!r} are {phases!r}, not some of {PHASES} in this order"
    if metric.of_compiler:
        yield f"{name!r} is no metric of the compiler: those are built in"
    if not callable(metric.counter):
        yield f"the counter of {name!r} is {metric.counter!r}, not what makes a Counter"


def _is_sound(unit: object) -> bool:
    return (
        isinstance(unit, Unit)
        and unit.sizes.get(unit.symbol) == 1
        and all(type(size) is int and size > 0 for size in unit.sizes.values())
        and bool(unit.printed)
        and {*unit.printed, unit.usual} <= {*unit.sizes}
    )
