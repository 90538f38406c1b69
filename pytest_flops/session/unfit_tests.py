"""Tests that no budget can hold, or that only seem to be marked: refused before anything runs."""

from __future__ import annotations

import inspect
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.options import MARKER, is_nearly_the_marker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest import Config, FixtureDef, Item

    from pytest_flops.budgets.files.catalogue import Catalog

_OURS = "pytest_flops.session.fixtures"
_TWO_LETTERS_OFF = 0.83
"""The ratio of `difflib` where two letters are replaced; of any other two slips it is higher."""


class UnfitTestError(BudgetError):
    """What is wrong is the test, and not what its marker says."""


def refuse_misspelt(item: Item) -> None:
    """Refuse a marker that is one or two letters off ours, unless the project declared it."""
    for name in {mark.name for mark in item.iter_markers()} - {MARKER}:
        ratio = SequenceMatcher(None, MARKER, name).ratio() if is_nearly_the_marker(name) else 0
        if ratio >= _TWO_LETTERS_OFF and name not in _declared(item.config):
            raise UnfitTestError(
                f"the marker {name!r} is not known and holds nothing; did you mean {MARKER!r}? A "
                "marker of your own is declared under `markers` in the ini file"
            )


def refuse_random(item: Item) -> None:
    """Refuse a test whose body is repeated by the clock, or for random examples."""
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        raise UnfitTestError(
            "Hypothesis calls it for random examples, so its count would be a sum by chance: count "
            "one example in a test without @given"
        )
    if _fixtures(item, "flops"):  # the test says itself what is counted
        return
    found = _fixtures(item, "benchmark")  # `benchmark_weave` asks for it
    if any(_module(fixture).startswith("pytest_benchmark.") for fixture in found):
        raise UnfitTestError(
            "pytest-benchmark repeats its work by the clock, so every run would count another "
            "number: ask for the fixture 'flops' too, and count one call, apart from the "
            "benchmark, in `with flops.measure():`"
        )


def refuse_other_flops(item: Item, catalog: Catalog) -> None:
    """Refuse a test whose `flops` is the project's own, since it says nothing of what to count."""
    for fixture in reversed(_fixtures(item, "flops")):
        if _module(fixture) == _OURS:
            return
        if "flops" not in fixture.argnames:  # else it is built on the one that it hides
            raise UnfitTestError(
                f"its fixture 'flops' is {_whose(fixture, item, catalog)}, which hides this "
                "plugin's: give that one another name to ask for ours, or to have the test metered "
                "whole"
            )


def _whose(fixture: FixtureDef[Any], item: Item, catalog: Catalog) -> str:
    if "flops" in getattr(getattr(item, "callspec", None), "params", ()):
        return "a parameter of the test"
    return f"that of {catalog.shown(Path(inspect.getfile(fixture.func)))}"


def _fixtures(item: Item, name: str) -> Sequence[FixtureDef[Any]]:
    """The fixtures of this name that a test asks for: those that are hidden, and last its own."""
    if name not in getattr(item, "fixturenames", ()):
        return ()
    found: Sequence[FixtureDef[Any]]
    found = item._fixtureinfo.name2fixturedefs.get(name, ())  # type: ignore[attr-defined]  # noqa: SLF001 - no public name
    return found


def _module(fixture: FixtureDef[Any]) -> str:
    return getattr(fixture.func, "__module__", "")


def _declared(config: Config) -> set[str]:
    return {line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")}
