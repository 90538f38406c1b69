"""A report as one self-contained page: no network, no script, light and dark, print."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import printable
from pytest_flops.budgets.units import format_exact, format_flops, format_percent
from pytest_flops.budgets.wording import headline as verdict_headline
from pytest_flops.budgets.wording import subject as about
from pytest_flops.counting.count import PHASES, QUANTITIES
from pytest_flops.reports import changes
from pytest_flops.reports.compare import BudgetChange, compare
from pytest_flops.reports.icicle import Tree, branches, pictures, trunk
from pytest_flops.reports.plots import (
    PLOT_HEIGHT,
    PLOT_WIDTH,
    SPARK_HEIGHT,
    SPARK_WIDTH,
    Plot,
    Sparkline,
    scaling_plot,
    sparkline,
)
from pytest_flops.reports.standing import (
    Use,
    fullest,
    gravest,
    headline,
    state,
    story,
    uses,
    worst_first,
)
from pytest_flops.reports.text import percent, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.icicle import Branch, PhasePicture
    from pytest_flops.reports.report import Report

TEMPLATES = Path(__file__).with_name("templates")

OVERVIEW = 12
"""Rows of the first table that are not folded away."""

WITH_PICTURES = 30
"""Entries drawn in full, worst first; of the others the page holds the numbers alone."""

UNFOLDED = 3
"""Entries whose first component is already stepped into."""

_BRANCHES = 24
_NAME = 120


@dataclass(frozen=True, slots=True)
class Card:
    """One entry, ready for the page."""

    entry: Entry
    anchor: str
    state: str
    grave: Verdict | None
    fullest: Use | None
    limits: list[Use]
    recorded: list[Use]
    others: list[Verdict]
    change: BudgetChange | None
    past: list[tuple[str, int]]
    spark: Sparkline | None
    drawn: bool
    unfolded: bool

    @property
    def tree(self) -> Tree:
        """The components by parent."""
        measurement = self.entry.measurement
        return Tree.of(measurement.components if measurement else {})

    @property
    def pictures(self) -> tuple[PhasePicture, ...]:
        """The whole workload, per phase."""
        measurement = self.entry.measurement
        if measurement is None:
            return ()
        return pictures(self.tree, trunk(self.tree, measurement.count), measurement.count)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The components one can step into."""
        measurement = self.entry.measurement
        if measurement is None:
            return ()
        return branches(self.tree, trunk(self.tree, measurement.count), _BRANCHES)

    def plot(self, sweep: Mapping[str, Any]) -> Plot | None:
        """The picture of one sweep, with its limit."""
        limit = next(
            (
                verdict.allowed
                for verdict in self.entry.verdicts
                if verdict.kind == "scaling"
                and verdict.component is None
                and verdict.dimension == sweep["dimension"]
            ),
            None,
        )
        return scaling_plot(sweep, limit)


def render_html(
    report: Report, *, base: Report | None = None, history: Sequence[Report] = ()
) -> str:
    """The whole page.

    Args:
        report: What to tell.
        base: A report to show changes against.
        history: Past reports, oldest first, for the small lines of history.
    """
    comparison = compare(base, report) if base is not None else None
    changed = {(b.subject, b.budget): b for b in comparison.budgets} if comparison else {}
    cards = [
        _card(entry, place, changed.get(entry.key), history)
        for place, entry in enumerate(worst_first(report.entries))
    ]
    page = _environment().get_template("page.html")
    return page.render(
        report=report,
        headline=headline(report),
        cards=cards,
        comparison=comparison,
        base=base,
        history=history,
    )


def _card(entry: Entry, place: int, change: BudgetChange | None, history: Sequence[Report]) -> Card:
    grave = gravest(entry)
    limits = uses(entry)
    past = _past(entry, history)
    return Card(
        entry=entry,
        anchor=anchor(entry),
        state=state(entry),
        grave=grave,
        fullest=fullest(entry),
        limits=limits,
        recorded=uses(entry, "recorded"),
        others=[v for v in entry.verdicts if v.kind not in ("limit", "recorded")],
        change=change,
        past=past,
        spark=sparkline([count for _, count in past], _total_limit(limits)),
        drawn=place < WITH_PICTURES,
        unfolded=place < UNFOLDED,
    )


def anchor(entry: Entry) -> str:
    """A stable fragment for links to an entry, the same in every report that has it."""
    name = re.sub(r"[^a-z0-9]+", "-", entry.budget.lower())[:40].strip("-")
    key = "\0".join(entry.key).encode("utf-8", "backslashreplace")
    return f"budget-{name}-{zlib.crc32(key):08x}"


def _past(entry: Entry, history: Sequence[Report]) -> list[tuple[str, int]]:
    """When and how much: the total in past reports, oldest first, and now."""
    found = [
        (_when(report), past.measurement.count.total)
        for report in history
        for past in report.entries
        if past.key == entry.key and past.measurement is not None
    ]
    if found and entry.measurement is not None:
        found.append(("this run", entry.measurement.count.total))
    return found


def _when(report: Report) -> str:
    time, commit = (report.environment.get(key) for key in ("time", "commit"))
    words = [str(time)[:10] if time else "", str(commit)[:9] if commit else ""]
    return " ".join(word for word in words if word) or "an earlier run"


def _total_limit(limits: Sequence[Use]) -> int | None:
    whole = (u for u in limits if u.verdict.quantity == "total" and u.verdict.component is None)
    return next((use.allowed for use in whole), None)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        si=format_flops,
        exact=format_exact,
        signed=lambda flops: f"{flops:+,}",
        words=verdict_headline,
        about=about,
        story=story,
        line=printable,
        name=lambda text: shorten(printable(text), _NAME),
        relative=changes.relative,
    )
    environment.globals.update(
        OVERVIEW=OVERVIEW,
        PHASES=PHASES,
        QUANTITIES=QUANTITIES,
        PLOT=(PLOT_WIDTH, PLOT_HEIGHT),
        SPARK=(SPARK_WIDTH, SPARK_HEIGHT),
        percent=percent,
        format_percent=format_percent,
        rows=changes.rows,
        leading=changes.leading,
    )
    return environment
