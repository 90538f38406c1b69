"""What regressed since the base, as errors of the run that is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.reports.comparison.wording import regressions
from pytest_flops.reports.report import Report, SessionError, in_order

if TYPE_CHECKING:
    from pytest_flops.reports.comparison.comparison import Comparison


def judge_regressions(report: Report, comparison: Comparison) -> Report:
    """The report with an error for each budget that regressed since the base, and no older ones."""
    kept = [error for error in report.errors if error.kind != "regression"]
    found = [SessionError(*message, kind="regression") for message in regressions(comparison)]
    return replace(report, errors=in_order(kept + found))
