"""A report as one self-contained page: no network, no script, light and dark, print."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import printable
from pytest_flops.budgets.judging.causes import causes, share
from pytest_flops.budgets.judging.wording import acceptance, following, told
from pytest_flops.budgets.judging.wording import headline as verdict_headline
from pytest_flops.budgets.judging.wording import subject as about
from pytest_flops.budgets.units import format_amount, format_exact, format_flops, format_percent
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import QUANTITIES, unit_of
from pytest_flops.reports.comparison.wording import leading, other_tools, relative
from pytest_flops.reports.pages import memory, plots, summary
from pytest_flops.reports.pages.card import Card, anchor, past_totals
from pytest_flops.reports.text import percent, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from pytest_flops.reports.comparison.comparison import Comparison
    from pytest_flops.reports.report import Report

_TEMPLATES = Path(__file__).with_name("templates")
_WITH_PICTURES = 30  # entries drawn in full; of the others the page holds the numbers alone
_NAME = 120


def render_html(
    report: Report, *, comparison: Comparison | None = None, history: Sequence[Report] = ()
) -> str:
    """The whole page; `history` are past reports, oldest first, for the small lines of history."""
    changed = {(b.subject, b.budget): b for b in comparison.budgets} if comparison else {}
    cards = [
        Card(entry, changed.get(entry.key), past_totals(entry, history), place)
        for place, entry in enumerate(summary.worst_first(report.entries))
    ]
    headline = summary.headline(report)
    page = _environment().get_template("page.html")
    return page.render(report=report, headline=headline, cards=cards, comparison=comparison)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        anchor=anchor,
        fullest=summary.fullest,
        not_measured=summary.not_measured,
        other_tools=other_tools,
        remarks=summary.remarks,
        share=share,
        acceptance=acceptance,
        causes=causes,
        told=told,
        following=following,
        status=summary.status,
        tone=summary.tone,
        reasons=summary.reasons,
        used=summary.used,
        uses=summary.uses,
        worst=summary.worst,
        relative=relative,
        amount=lambda value, quantity: format_amount(int(value), unit_of(quantity)),
        by_phase=summary.by_phase,
        in_unit=lambda value, unit: format_amount(int(value), unit),
        si=lambda flops: format_flops(int(flops)),
        exact=lambda flops: format_exact(int(flops)),
        signed=lambda flops: f"{flops:+,}",
        words=verdict_headline,
        about=about,
        line=printable,
        name=lambda text: shorten(printable(text), _NAME),
    )
    environment.globals.update(
        WITH_PICTURES=_WITH_PICTURES,
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
