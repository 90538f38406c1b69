"""`Report`: everything one run found; JSON, HTML, Markdown and the terminal all read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

from pytest_flops.budgets.budget import Location
from pytest_flops.reports.entry import NOWHERE, Entry, join_entries
from pytest_flops.reports.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jsonschema.protocols import Validator


FORMAT = "pytest-flops report"
VERSION = 1
SCHEMA = Path(__file__).with_name("schema.json")

Fate = Literal["measured", "skipped", "deselected", "unnamed"]
"""What became of a budget, the best first."""

_STALE = {
    "unnamed": "the budget {name!r} is named by no test: mark a test with "
    "@pytest.mark.flops_budget({name!r}); or give it a workload and let pytest collect its file "
    "(testpaths); or delete it",
    "deselected": "the budget {name!r} was not measured: every test that names it was deselected",
}


@dataclass(frozen=True, slots=True)
class SessionError:
    """Something wrong with the run as a whole, which no single test could find.

    Its kind is `regression` for a budget that costs more than its base; `stale` for one that no
    test measured, which a merge judges anew; or `error`.
    """

    message: str
    location: Location | None = None
    kind: Literal["error", "regression", "stale", "checkout"] = "error"


@dataclass(frozen=True, slots=True)
class KnownBudget:
    """A budget of the files this run read, and what became of it.

    It was `measured` by a test; named only by `skipped` or `deselected` tests; or `unnamed`.
    """

    name: str
    location: Location | None
    fate: Fate

    @property
    def is_stale(self) -> bool:
        """Whether no test measured it, and none that was skipped would have."""
        return self.fate in _STALE


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found; `schema.json` describes each field."""

    entries: tuple[Entry, ...] = ()
    errors: tuple[SessionError, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    missing: tuple[str, ...] = ()
    budgets_known: tuple[KnownBudget, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether something was measured, all of it is green, and nothing is missing."""
        sound = self.complete and not self.missing and not self.errors
        return sound and bool(self.entries) and not self.red

    @property
    def red(self) -> tuple[Entry, ...]:
        """The entries that did not pass."""
        return tuple(entry for entry in self.entries if not entry.passed)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "passed": self.passed,
            "complete": self.complete,
            "missing": list(self.missing),
            "errors": [_as_record(error) for error in self.errors],
            "budgets_known": [_as_record(known) for known in self.budgets_known],
            "entries": [entry.to_dict() for entry in self.entries],
            "environment": dict(self.environment),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Report:
        """The inverse of `to_dict`."""
        return cls(
            entries=tuple(Entry.from_dict(entry) for entry in record["entries"]),
            errors=tuple(SessionError(**_placed(error)) for error in record["errors"]),
            environment=record["environment"],
            complete=record["complete"],
            missing=tuple(record["missing"]),
            budgets_known=tuple(KnownBudget(**_placed(known)) for known in record["budgets_known"]),
        )


def _as_record(found: SessionError | KnownBudget) -> dict[str, Any]:
    return asdict(found) | {"location": str(found.location) if found.location else None}


def _placed(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "location": Location.parse(record["location"])}


def build_report(
    entries: Iterable[Entry],
    *,
    errors: Iterable[SessionError] = (),
    environment: Mapping[str, Any] | None = None,
    complete: bool = True,
    missing: Iterable[str] = (),
    budgets_known: Iterable[KnownBudget] = (),
    whole_suite: bool = False,
) -> Report:
    """Join what tests found into the run's report; the order of anything given does not matter.

    `whole_suite` says that every test was there: then a budget that nobody measured is an error.
    """
    known = _best_fates(budgets_known)
    if whole_suite:
        # One shard may call a budget stale that another has measured: only this call counts.
        errors = [error for error in errors if error.kind != "stale"] + _stale(known)
    return Report(
        entries=join_entries(entries),
        errors=in_order(errors),
        environment={key: _plain(value) for key, value in (environment or {}).items()},
        complete=complete,
        missing=tuple(sorted(set(missing))),
        budgets_known=known,
    )


def _plain(value: object) -> str | list[str] | None:
    """What other packages add to the environment, as the schema has it."""
    if value is None or isinstance(value, str):
        return value
    return [str(each) for each in value] if isinstance(value, list | tuple) else str(value)


def in_order(errors: Iterable[SessionError]) -> tuple[SessionError, ...]:
    """Each error once, sorted by location."""
    return tuple(sorted(set(errors), key=lambda e: (e.location or NOWHERE, e.message, e.kind)))


def _best_fates(known: Iterable[KnownBudget]) -> tuple[KnownBudget, ...]:
    """Each budget once, with the best that became of it in any run."""
    best: dict[tuple[Location, str], KnownBudget] = {}
    for budget in sorted(known, key=lambda each: get_args(Fate).index(each.fate)):
        best.setdefault((budget.location or NOWHERE, budget.name), budget)
    return tuple(best[key] for key in sorted(best))


def _stale(known: Iterable[KnownBudget]) -> list[SessionError]:
    return [
        SessionError(_STALE[budget.fate].format(name=budget.name), budget.location, "stale")
        for budget in known
        if budget.is_stale
    ]


def to_json(report: Report) -> str:
    """The report as JSON: the same text for the same report, keys in a fixed order."""
    return json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n"


def load_report(path: str | Path) -> Report:
    """Read a report of this or another machine.

    Raises:
        ReportError: The file cannot be read, is no JSON, is no report of ours, is of a newer
            version, or breaks the schema; the message is one paragraph and names the file.
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
    _hold_to_schema(path, record)
    return Report.from_dict(record)


def load_base(path: str | Path) -> Report:
    """Read a report to compare with.

    Raises:
        ReportError: As `load_report`; or its run did not come to its end, so that what is missing
            in it would pass for new; or it counted the code of another checkout.
    """
    report = load_report(path)
    if not report.complete or report.missing:
        raise ReportError(
            f"{path} is no base to compare with: its run did not come to its end, so it does not "
            "say what every budget cost. Run the base again."
        )
    for error in report.errors:
        if error.kind == "checkout":
            raise ReportError(f"{path} is no base to compare with: {error.message}.")
    return report


def load_history(directory: str | Path) -> tuple[Report, ...]:
    """Every `*.json` of the folder and below, oldest first by the time in its environment.

    Raises:
        ReportError: There is no such folder, or one of the files is no report.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ReportError(f"cannot read the history: {folder} is no folder.")
    reports = [load_report(file) for file in sorted(folder.rglob("*.json"))]
    return tuple(sorted(reports, key=lambda report: str(report.environment.get("time") or "")))


def _parsed(path: str | Path) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
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
