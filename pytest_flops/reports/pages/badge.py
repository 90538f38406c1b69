"""A report as a badge: the JSON that an endpoint of shields.io draws, as for a README."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_flops.budgets.units import format_flops

if TYPE_CHECKING:
    from pytest_flops.reports.report import Report


def render_badge(report: Report) -> str:
    """Green or red, with the total of the one budget or the number of those that hold."""
    held, red = report.held, report.red
    measured = [entry.measurement for entry in held if entry.measurement]
    message = "red" if not report.passed else f"{len(held):,} budgets hold"
    if len(held) == 1 and measured:
        message = format_flops(measured[0].count.total)
    elif red:
        message = f"{len(red):,} of {len(held):,} red"
    color = "brightgreen" if report.passed else "red"
    badge = {"schemaVersion": 1, "label": "flops", "message": message, "color": color}
    return json.dumps(badge) + "\n"
