"""Many reports as one page: how the cost of each budget moved, and which commits moved it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_flops.budgets.units import format_amount, format_change
from pytest_flops.counting.metric import FLOPS, METRICS, TOTAL, quantity_of
from pytest_flops.reports.comparison.compare import differences, tools_changed
from pytest_flops.reports.pages.card import when
from pytest_flops.reports.pages.html import templates
from pytest_flops.reports.pages.overview import short_title
from pytest_flops.reports.pages.plots import line_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flops.counting.metric import Metric
    from pytest_flops.reports.entry import Entry
    from pytest_flops.reports.history import History
    from pytest_flops.reports.pages.plots import Line
    from pytest_flops.reports.report import Report

_DRAWN = 12
"""Budgets that are drawn at once; the others are folded by file."""


@dataclass(frozen=True, slots=True)
class Move:
    """How much a track changed in one run; or over all of them."""

    track: Track
    when: str
    before: int
    difference: int
    unseen: int = 0  # runs just before that have no count of it, any of which may have moved it

    @property
    def change(self) -> str:
        """In percent of what was; from nothing, as it is."""
        if self.before or not self.difference:
            return format_change(self.difference, self.before)
        return f"+{format_amount(self.difference, self.track.metric.unit)}"

    @property
    def share(self) -> float:
        """How large it is, whichever way, against what was."""
        size = abs(self.difference)
        beyond_a_float = size > self.before * 10**300
        return math.inf if beyond_a_float else size / (self.before or 1)


@dataclass(frozen=True)
class Track:
    """The total of one metric of one budget over the runs that have it, oldest first."""

    entry: Entry
    metric: Metric
    values: Sequence[tuple[str, int]]
    unseen: Mapping[str, int] = field(default_factory=dict)  # before a run, how many lack it

    @property
    def name(self) -> str:
        """The budget's, and the metric's if that is another than FLOPs."""
        name = short_title(self.entry)
        return name if self.metric is FLOPS else f"{name} {self.metric.name}"

    @property
    def label(self) -> str:
        """What it is of."""
        return "FLOPs" if self.metric is FLOPS else self.metric.name

    @cached_property
    def line(self) -> Line | None:
        """Its picture, if two runs have it."""
        return line_of(self.values, None)

    @cached_property
    def moves(self) -> list[Move]:
        """Every change, oldest first."""
        return [
            Move(self, seen, before, now - before, self.unseen.get(seen, 0))
            for (_, before), (seen, now) in pairwise(self.values)
            if now != before
        ]

    @property
    def net(self) -> Move:
        """From the first run to the last."""
        (_, first), (seen, last) = self.values[0], self.values[-1]
        return Move(self, seen, first, last - first)

    @cached_property
    def largest(self) -> Move:
        """The change that was largest; over all, if there is none."""
        return max(self.moves, key=lambda move: move.share, default=self.net)


@dataclass(frozen=True)
class Trend:
    """One budget over the runs.

    Attributes:
        entry: The newest that was measured.
        tracks: Every metric that moved, FLOPs first; if none did, FLOPs.
        added: When it was new, if not in the first run.
        gone: When it was gone, if not in the last.
        notes: What else is to know of its figures, a sentence each.
    """

    entry: Entry
    tracks: Sequence[Track]
    added: str = ""
    gone: str = ""
    notes: Sequence[str] = ()

    @property
    def file(self) -> str:
        """The file of its budget or test."""
        return self.entry.subject.partition("::")[0]

    @cached_property
    def lead(self) -> Track:
        """The track that moved most; FLOPs if others moved as much."""
        return max(self.tracks, key=lambda track: track.largest.share)

    @property
    def moves(self) -> dict[str, Move]:
        """Of each run that found something changed, the largest change."""
        every = [move for track in reversed(self.tracks) for move in track.moves]
        return {move.when: move for move in sorted(every, key=lambda move: move.share)}

    @property
    def share(self) -> float:
        """How large its largest change is."""
        return self.lead.largest.share


@dataclass(frozen=True, slots=True)
class Commit:
    """What one run found changed.

    Attributes:
        when: The day and the commit.
        moves: The largest of each budget, the largest first.
        added: Budgets that are new.
        gone: Budgets that are not there any more.
        tools: What counted it, if the run before was counted with another.
    """

    when: str
    moves: list[Move] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)


def render_trend(history: History) -> str:
    """The page of a history that holds a report."""
    runs = history.reports
    labels = [when(run) for run in runs]
    trends = sorted(_trends(runs, labels), key=lambda each: (-each.share, each.entry.key))
    headline, *below = _headlines(trends) or ["No budget grew or fell"]
    return (
        templates()
        .get_template("trend.html")
        .render(
            headline=headline if runs[1:] else "One report: a trend begins with the second",
            below=below,
            labels=labels,
            left_out=history.left_out,
            commits=_commits(trends, runs, labels),
            trends=trends,
            drawn=_DRAWN,
        )
    )


def _headlines(trends: Sequence[Trend]) -> list[str]:
    """How many budgets cost more than in their first run, and how many less, if any does."""
    nets = [track.net for trend in trends for track in trend.tracks]
    found = []
    for word, sign in ("grew", 1), ("fell", -1):
        moved = [net for net in nets if net.difference * sign > 0]
        if moved:
            most = max(moved, key=lambda net: net.share)
            number = len({net.track.entry.key for net in moved})
            name = f"{'most of all ' if number > 1 else ''}{most.track.name}"
            of_all = f"{number} of {len(trends)} budgets {word}, {name}"
            found.append(f"{of_all if trends[1:] else f'{name} {word}'}: {most.change}")
    return found


def _trends(runs: Sequence[Report], labels: Sequence[str]) -> Iterator[Trend]:
    seen: defaultdict[tuple[str, str], dict[int, Entry]] = defaultdict(dict)
    for place, run in enumerate(runs):
        for entry in run.entries:
            if entry.measurement:
                seen[entry.key][place] = entry
    for places in seen.values():
        first, last = min(places), max(places)
        tracks = [*_tracks(places, runs, labels)]
        yield Trend(
            places[last],
            [track for track in tracks if track.moves] or tracks[:1],
            labels[first] if first else "",
            labels[last + 1] if last + 1 < len(runs) else "",
            [*_notes(places, labels)],
        )


def _tracks(
    places: Mapping[int, Entry], runs: Sequence[Report], labels: Sequence[str]
) -> Iterator[Track]:
    newest = max(places)
    measured = {place: entry.measurement for place, entry in places.items() if entry.measurement}
    unseen = {labels[now]: now - before - 1 for before, now in pairwise(measured)}
    names = dict.fromkeys(name for found in measured.values() for name in found.metrics)
    for metric in (FLOPS, *(METRICS[name] for name in names)):
        quantity = quantity_of(metric, TOTAL)
        values = [
            (labels[place], found.of(quantity))
            for place, found in measured.items()
            # The compiler's metrics say nothing between versions of PyTorch.
            if found.counts(quantity)
            and not (metric.of_compiler and "torch" in tools_changed(runs[place], runs[newest]))
        ]
        yield Track(places[newest], metric, values, unseen)


def _notes(places: Mapping[int, Entry], labels: Sequence[str]) -> Iterator[str]:
    for (_, before), (place, now) in pairwise(places.items()):
        if before.workload and now.workload and before.workload != now.workload:
            changed = differences(before.workload.to_dict(), now.workload.to_dict())
            listed = ", ".join(f"{key} {old} → {new}" for key, (old, new) in changed)
            yield f"Another workload in {labels[place]}: {listed}"
    if missed := max(places) - min(places) + 1 - len(places):
        yield f"Not measured in {missed} of the reports in between"


def _commits(
    trends: Iterable[Trend], runs: Sequence[Report], labels: Sequence[str]
) -> list[Commit]:
    """The runs that found something changed: by the largest change, then those without any."""
    found = {label: Commit(label) for label in labels}
    for trend in trends:
        for move in trend.moves.values():
            found[move.when].moves.append(move)
        if trend.added:
            found[trend.added].added.append(short_title(trend.entry))
        if trend.gone:
            found[trend.gone].gone.append(short_title(trend.entry))
    for (before, now), label in zip(pairwise(runs), labels[1:], strict=True):
        tools = tools_changed(before, now)
        found[label].tools.extend(f"{key} {old} → {new}" for key, (old, new) in tools.items())
    for commit in found.values():
        commit.moves.sort(key=lambda move: -move.share)
    told = [commit for commit in found.values() if commit.moves or commit.added or commit.gone]
    return sorted(told, key=lambda commit: -commit.moves[0].share if commit.moves else 0)
