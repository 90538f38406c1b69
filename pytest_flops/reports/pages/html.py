"""A report as one self-contained page: no network, no need of scripts, light and dark, print."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.causes import causes, share
from pytest_flops.budgets.judging.wording import acceptance, following
from pytest_flops.budgets.judging.wording import headline as verdict_headline
from pytest_flops.budgets.units import (
    format_amount,
    format_change,
    format_exact,
    format_flops,
    format_percent,
)
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import QUANTITIES, unit_of
from pytest_flops.counting.text import percent, printable, shorten, some
from pytest_flops.reports.comparison.wording import leading, other_tools, relative
from pytest_flops.reports.pages import memory, overview, plots, summary
from pytest_flops.reports.pages.card import Card, anchor, past_totals
from pytest_flops.reports.pages.changes import changes_of
from pytest_flops.reports.pages.heading import heading, red_budgets, untold_errors
from pytest_flops.reports.pages.sentence import not_measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from pytest_flops.reports.comparison.comparison import Comparison
    from pytest_flops.reports.pages.changes import Changes
    from pytest_flops.reports.report import Report

_TEMPLATES = Path(__file__).with_name("templates")
_DRAWN, _DRAWN_IF_RED = 12, 30  # entries drawn in full; of the others there are a few numbers
_NAME = 120


def render_html(
    report: Report, *, comparison: Comparison | None = None, history: Sequence[Report] = ()
) -> str:
    """The whole page; `history` are past reports, oldest first, for the lines of history."""
    against = comparison.by_key if comparison else summary.NO_BASE
    past = past_totals(history, report)
    cards = [
        Card(entry, against.get(entry.key), past.get(entry.key, []), place)
        for place, entry in enumerate(summary.worst_first(report.entries, against))
    ]
    changed = changes_of(cards, comparison) if comparison else None
    headline, below = heading(report, comparison)
    return (
        templates()
        .get_template("page.html")
        .render(
            report=report,
            headline=headline,
            below=below,
            errors=untold_errors(report, comparison),
            cards=cards,
            drawn=min(max(sum(card.tone == "red" for card in cards), _DRAWN), _DRAWN_IF_RED),
            comparison=comparison,
            changed=changed,
            told_at=_told_at(cards, changed, headline),
        )
    )


def _told_at(cards: Sequence[Card], changed: Changes | None, headline: str) -> dict[str, str]:
    """Where each cause is told: under what changed, or at the first budget that it made red."""
    found: dict[str, str] = {}
    if changed and changed.cause and changed.cause not in headline:
        found[changed.cause] = "changes"
    for card in cards:
        for each in causes(card.entry.failures):
            found.setdefault(summary.cause(each.verdict), anchor(card.entry))
    return found


@cache
def templates() -> Environment:
    """The templates, with what they call."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        alike=overview.alike,
        anchor=anchor,
        fullest=summary.fullest,
        not_measured=not_measured,
        other_tools=other_tools,
        remarks=summary.remarks,
        share=share,
        acceptance=acceptance,
        cause=summary.cause,
        causes=causes,
        following=following,
        red_budgets=red_budgets,
        some=some,
        more=lambda value, unit: f"{'+' if value > 0 else ''}{format_amount(int(value), unit)}",
        unit_of=unit_of,
        facts=overview.facts,
        grows=overview.grows,
        growth=summary.growth,
        short=overview.short_title,
        told_first=summary.told_first,
        use=summary.use,
        widest=overview.widest,
        used=summary.used,
        uses=summary.uses,
        relative=relative,
        change=format_change,
        amount=lambda value, quantity: format_amount(int(value), unit_of(quantity)),
        by_phase=summary.by_phase,
        in_unit=lambda value, unit: format_amount(int(value), unit),
        si=lambda flops: format_flops(int(flops)),
        exact=lambda flops: format_exact(int(flops)),
        signed=lambda flops: f"{flops:+,}",
        words=verdict_headline,
        line=printable,
        name=lambda text: shorten(printable(text), _NAME),
    )
    environment.globals.update(
        SIGNS={"red": "✕", "close": "!", "green": "✓"},
        PHASES=PHASES,
        QUANTITIES=QUANTITIES,
        memory=memory,
        plots=plots,
        percent=percent,
        format_percent=format_percent,
        leading=leading,
    )
    return environment
