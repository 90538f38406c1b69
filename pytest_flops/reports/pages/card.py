"""`Card`: one entry of a report, with what the page draws and lists of it."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.counting.components import innermost
from pytest_flops.counting.metric import QUANTITIES, TOTAL
from pytest_flops.reports.pages.flames import flames
from pytest_flops.reports.pages.memory import MemoryCurve, memory_curve
from pytest_flops.reports.pages.plots import Line, Plot, line_of, scaling_plot
from pytest_flops.reports.pages.summary import NO_BASE, status, tone, uses
from pytest_flops.reports.pages.waterfall import waterfall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.reports.comparison.comparison import BudgetChange
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.pages.flames import Flames
    from pytest_flops.reports.pages.summary import Against, Tone
    from pytest_flops.reports.pages.waterfall import Waterfall
    from pytest_flops.reports.report import Report
    from pytest_flops.scaling.sweep import Growth, Sweep

_DEAREST = 4


@dataclass(frozen=True, slots=True)
class SweepView:
    """One sweep: its picture where there is one, the verdicts over it, and the growth to list."""

    sweep: Sweep
    plot: Plot | None
    verdicts: list[Verdict]
    rows: list[Growth]

    def polynomial(self, verdict: Verdict) -> str | None:
        """The exact cost of what a verdict holds, if it is known."""
        about = verdict.component, verdict.quantity
        return next((row.polynomial for row in self.rows if _about(row) == about), None)


@dataclass(frozen=True, slots=True)
class Card:
    """One entry with all that its part of the page shows."""

    entry: Entry
    change: BudgetChange | None  # `None` without a base
    past: list[tuple[str, int]]  # when and how much, oldest first, this run last
    place: int  # in the order of reading, from 0

    @property
    def file(self) -> str:
        """The file of its budget or test."""
        return self.entry.subject.partition("::")[0]

    @property
    def tone(self) -> Tone:
        """How it stands, by itself and against the base."""
        return tone(self.entry, self._against)

    @property
    def status(self) -> str:
        """The same in words."""
        return status(self.entry, self._against)

    @property
    def _against(self) -> Against:
        return {self.entry.key: self.change} if self.change else NO_BASE

    @property
    def dearest(self) -> list[tuple[str, int]]:
        """The components that cost most, of those that contain no others."""
        found = self.entry.measurement.components if self.entry.measurement else {}
        costs = [(path, found[path].total) for path in innermost(found) if found[path].total]
        return sorted(costs, key=lambda cost: -cost[1])[:_DEAREST]

    @property
    def line(self) -> Line | None:
        """Its past totals as a line, with the limit of the total."""
        whole = (verdict for verdict in uses(self.entry) if verdict.component is None)
        limit = next((v.allowed for v in whole if v.quantity == TOTAL), None)
        return line_of(self.past, limit)

    @property
    def waterfall(self) -> Waterfall | None:
        """How its total came from the base to where it is now."""
        return waterfall(self.change) if self.change else None

    @property
    def flames(self) -> list[Flames]:
        """Where each metric goes, the FLOPs first; empty if nothing was measured."""
        return [*flames(self.entry.measurement, self.change)] if self.entry.measurement else []

    @property
    def memory(self) -> MemoryCurve | None:
        """What was alive over the step, where the report tells."""
        found = self.entry.measurement
        costs = found.metrics.get("peak_memory") if found else None
        return memory_curve(costs.details) if costs else None

    @property
    def sweeps(self) -> Iterator[SweepView]:
        """Every sweep; red verdicts first, and the growth of what is held or the whole."""
        scaling = [verdict for verdict in self.entry.verdicts if verdict.kind == "scaling"]
        for sweep in self.entry.scaling:
            over = (verdict for verdict in scaling if verdict.dimension == sweep.dimension)
            verdicts = sorted(over, key=lambda verdict: verdict.passed)
            held = {(verdict.component, verdict.quantity) for verdict in verdicts}
            rows = [row for row in sweep.growth if row.component is None or _about(row) in held]
            whole = (v for v in verdicts if v.component is None and v.quantity in QUANTITIES)
            limit = next((v.allowed for v in whole), None)
            yield SweepView(sweep, scaling_plot(sweep, limit), verdicts, rows)


def _about(row: Growth) -> tuple[str | None, str]:
    return row.component, row.quantity


def anchor(entry: Entry) -> str:
    """A stable fragment for links to an entry, the same in every report that has it."""
    name = re.sub(r"[^a-z0-9]+", "-", entry.budget.lower())[:40].strip("-")
    key = "\0".join(entry.key).encode("utf-8", "backslashreplace")
    return f"budget-{name}-{zlib.crc32(key):08x}"


def past_totals(
    history: Sequence[Report], now: Report
) -> dict[tuple[str, str], list[tuple[str, int]]]:
    """When and how much each entry cost in whole: in past reports, oldest first, and now.

    The same total at the same time and commit is of the same run.
    """
    found: dict[tuple[str, str], dict[object, tuple[str, int]]] = {}
    for report in (*history, now):
        seen = "this run" if report is now else when(report)
        time, commit = (report.environment.get(key) for key in ("time", "commit"))
        for entry in report.entries:
            if entry.measurement is not None:
                total = entry.measurement.count.total
                run = (time, commit, total) if time else id(report)
                found.setdefault(entry.key, {})[run] = (seen, total)
    return {key: [*runs.values()] for key, runs in found.items()}


def when(report: Report) -> str:
    """The day and the commit of a report; the hour, too, where there is no commit."""
    time, commit = (str(report.environment.get(key) or "") for key in ("time", "commit"))
    found = f"{time[:10]} {commit[:9]}" if commit else time[:16].replace("T", " ")
    return found.strip() or "an earlier run"
