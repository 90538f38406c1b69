"""Past reports of a folder: read for the lines of history, and kept there by whole runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.budget import Location
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import METRICS, Costs
from pytest_flops.counting.workload import Workload
from pytest_flops.files import delete
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.read import load_report, read_record
from pytest_flops.reports.report import Report, to_json
from pytest_flops.reports.write import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEPT = 100
_OURS = re.compile(r"flops-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9A-Za-z-]*\.json")


@dataclass(frozen=True, slots=True)
class History:
    """Past reports, oldest first by the time in their environment, and what was not read.

    Of each report only what a history shows is read: where it ran, and what its entries cost in
    whole.

    Attributes:
        reports: The reports.
        left_out: A sentence on each file that is none of them.
    """

    reports: tuple[Report, ...] = ()
    left_out: tuple[str, ...] = ()


def load_history(directory: str | Path) -> History:
    """Every `*.json` of the folder and below.

    Raises:
        ReportError: There is no such folder, or one of the files is no report.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ReportError(f"cannot read the history: {folder} is no folder.")
    return load_reports(files_of([folder]), strict=True)


def files_of(paths: Iterable[str | Path]) -> Iterator[Path]:
    """These files, and of the folders among them every `*.json` there and below."""
    for path in map(Path, paths):
        yield from sorted(path.rglob("*.json")) if path.is_dir() else [path]


def load_reports(files: Iterable[Path], *, strict: bool = False) -> History:
    """These reports, a copy of another once; what is none is left out.

    Raises:
        ReportError: `strict`, and one of the files is no report.
    """
    found = [_report_or_reason(file, strict=strict) for file in files]
    reports = [each for each in found if isinstance(each, Report)]
    reports.sort(key=_time)
    copies = {place for place, (a, b) in enumerate(pairwise(reports)) if a == b and _time(a)}
    return History(
        tuple(report for place, report in enumerate(reports) if place not in copies),
        tuple(each for each in found if isinstance(each, str)),
    )


def _time(report: Report) -> str:
    return str(report.environment.get("time") or "")


def _report_or_reason(path: Path, *, strict: bool) -> Report | str:
    """What a report says, or why it is left out."""
    if path.exists() and not path.is_file():
        return f"{path} is no file."  # a pipe would be waited for
    try:
        return _totals_of(path)
    except ReportError as error:
        if strict:
            raise
        return str(error)


def _totals_of(path: Path) -> Report:
    """The quick way to read a report, a tenth of the time: no schema is needed for so little.

    What it does not understand is read the other way, which tells what is wrong with it.
    """
    record = read_record(path)
    try:
        entries = tuple(map(_totals, record["entries"]))
        return Report(entries, environment={**record["environment"]})
    except (AttributeError, KeyError, TypeError, ValueError):
        return load_report(path)


def _totals(record: Mapping[str, Any]) -> Entry:
    found, workload = record["measurement"], record["workload"]
    return Entry(
        subject=str(record["subject"]),
        budget=str(record["budget"]),
        tests=(),
        verdicts=(),
        measurement=None if found is None else _measured(found),
        workload=Workload(**workload) if workload else None,
        location=Location.parse(record["location"]),
    )


def _measured(record: Mapping[str, Any]) -> Measurement:
    count = FLOPsCount.from_dict(record["count"])
    metrics = {
        name: Costs.from_dict({"whole": costs["whole"], "components": {}})
        for name, costs in record.get("metrics", {}).items()
    }
    if metrics.keys() - METRICS.keys():
        raise KeyError("a metric that is not known yet")
    if not all(isinstance(n, int) for costs in metrics.values() for n in costs.whole.values()):
        raise TypeError("a value that is no whole number")
    return Measurement(count, {}, record["source"], record["rules"], metrics=metrics)


def keep(report: Report, directory: Path) -> Path:
    """Write what a history shows of a report into the folder, and delete the oldest of ours there.

    The name is of the report's time and commit. What others put there stays.

    Raises:
        ReportError: It cannot be written, or an old one not deleted.
    """
    time, commit = (str(report.environment.get(key) or "") for key in ("time", "commit"))
    name = re.sub(r"[^0-9A-Za-z]+", "-", f"flops-{time[:19]}-{commit[:12]}").strip("-")
    entries = tuple(map(_in_whole, report.entries))
    short = replace(report, entries=entries, tests=(), budgets_known=())
    path = write_text(directory / f"{name}.json", to_json(short))
    kept = sorted(each for each in directory.iterdir() if _OURS.fullmatch(each.name))
    try:
        for old in kept[:-KEPT]:
            delete(old)
    except OSError as error:
        raise ReportError(f"cannot delete an old report of {directory}: {error}.") from error
    return path


def _in_whole(entry: Entry) -> Entry:
    """An entry without what makes reports large: components, operators, sweeps."""
    red_or_whole = tuple(v for v in entry.verdicts if v.component is None or not v.passed)
    found = entry.measurement
    if found is not None:
        wholes = {
            name: replace(costs, components={}, details={}) for name, costs in found.metrics.items()
        }
        parts = "components", "operations", "own_operations", "found_at"
        nothing: dict[str, Any] = {key: {} for key in parts}
        found = replace(found, **nothing, not_called=(), metrics=wholes)
    verdicts = red_or_whole or entry.verdicts[:1]
    return replace(entry, measurement=found, verdicts=verdicts, scaling=())
