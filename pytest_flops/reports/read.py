"""Read a report's JSON file: held to the schema, and refused in words."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_flops.counting.metric import METRICS, name_of_metric
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import FORMAT, VERSION, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.protocols import Validator

SCHEMA = Path(__file__).with_name("schema.json")


def load_report(path: str | Path) -> Report:
    """Read a report of this or another machine.

    Raises:
        ReportError: The file cannot be read, is no JSON, is no report of ours, is of a newer
            version, breaks the schema, or has a metric that nobody knows here; the message is one
            paragraph and names the file.
    """
    record = read_record(path)
    _hold_to_schema(path, record)
    report = Report.from_dict(record)
    for name in _metrics_of(report):
        if name not in METRICS:
            raise ReportError(
                f"{path} holds the metric {name!r}, which this pytest-flops does not know and the "
                "report does not describe. Was it written by a newer one?"
            )
    return report


def read_record(path: str | Path) -> dict[str, Any]:
    """What stands in a report of ours, of a version that is known, and not held to the schema.

    Raises:
        ReportError: The file cannot be read, is no JSON, is no report of ours, or of a newer
            version.
    """
    record = _parsed(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ReportError(
            f'{path} is not a report of pytest-flops: its "format" should be "{FORMAT}". '
            "`pytest --flops-report=DIR` writes one, as flops.json."
        )
    version = record.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ReportError(
            f"{path} was written by a newer pytest-flops: it has version {version}, and this "
            f"pytest-flops reads versions up to {VERSION}. Upgrade with `pip install -U "
            "pytest-flops`."
        )
    return record


def _metrics_of(report: Report) -> Iterator[str]:
    for entry in report.entries:
        yield from entry.measurement.metrics if entry.measurement else ()
        yield from (name_of_metric(each.quantity) for each in entry.verdicts if each.quantity)


def load_base(path: str | Path) -> Report:
    """Read a report to compare with.

    Raises:
        ReportError: As `load_report`; or its run did not come to its end, so that what is missing
            in it would pass for new; or it measured nothing, though it has tests that should have;
            or it counted the code of another checkout.
    """
    report = load_report(path)
    if not report.complete or report.missing:
        raise ReportError(
            f"{path} is no base to compare with: its run did not come to its end, so it does not "
            "say what every budget cost. Run the base again."
        )
    if report.tests and not report.entries and not report.is_idle_shard:
        raise ReportError(
            f"{path} is no base to compare with: it measured nothing, though it has "
            f"{len(report.tests):,} tests that hold budgets; its `tests` say what became of them."
        )
    for error in report.errors:
        if error.kind == "checkout":
            raise ReportError(f"{path} is no base to compare with: {error.message}.")
    return report


def _parsed(path: str | Path) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise ReportError(f"cannot read the report {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ReportError(f"{path} is not a report: it is not UTF-8 text ({error}).") from error
    except json.JSONDecodeError as error:
        raise ReportError(
            f"{path}:{error.lineno}:{error.colno}: not complete JSON ({error.msg}). "
            "Was the file cut off while it was written or copied?"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not a report: {error}.") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _hold_to_schema(path: str | Path, record: dict[str, Any]) -> None:
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(record))
    if error is None:
        return
    where = error.json_path.removeprefix("$.") or "the top level"
    message = error.message if len(error.message) < 300 else f"{error.message[:300]}..."
    raise ReportError(f"{path} breaks the schema of reports at {where}: {message}.")


@cache
def _validator() -> Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
