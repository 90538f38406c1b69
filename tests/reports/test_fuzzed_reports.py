"""A report that the reader accepts can be shown, joined and compared, whatever its values are.

`tests/test_fuzz.py` breaks files anywhere; here single values of a full report are replaced by
others of their kind, so that most of what comes out is still a report. `make fuzz` shows more.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.metric import Costs
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.history import History, load_reports
from pytest_flops.reports.merge import merge
from pytest_flops.reports.pages.comparison import FORMATS
from pytest_flops.reports.pages.github import annotate
from pytest_flops.reports.pages.html import render_html
from pytest_flops.reports.pages.markdown import render_markdown
from pytest_flops.reports.pages.terminal import terminal_lines
from pytest_flops.reports.pages.trend import render_trend
from pytest_flops.reports.read import load_report
from pytest_flops.reports.report import Report, SessionError, to_json

INPUTS = int(os.environ.get("FUZZ_INPUTS", "2000")) // 20
SEED = int(os.environ.get("FUZZ_SEED", date.today().toordinal()))

TEXTS = [
    "", "\x00", "\ud800", "<script>", "|\\n`", "a" * 300, "::error::", "\u202e", "layer_0", "0",
    "forward", "1/0", "nan", "budgets/m.yaml:1:1", "2026-01-01T00:00:00+00:00", "x.y..z",
    "\x1b[31m",
]  # fmt: skip
NUMBERS = [0, 1, -1, 7, 2**63, 10**30, 0.5, 1e308, -1.5, 5e-324]


def containers(record: Any) -> Iterator[Any]:
    """Every mapping and list that holds something."""
    if isinstance(record, dict | list) and record:
        yield record
        for value in record.values() if isinstance(record, dict) else record:
            yield from containers(value)


def spoil(record: Any, chance: random.Random) -> None:
    """Replace, take away, double or rename one thing."""
    container = chance.choice([*containers(record)])
    key = chance.choice([*container] if isinstance(container, dict) else range(len(container)))
    deed = chance.random()
    if deed < 0.7:
        container[key] = another(container[key], chance)
    elif deed < 0.8:
        del container[key]
    elif isinstance(container, list):
        container.append(container[key])
    else:
        container[chance.choice(TEXTS)] = container[key]


def another(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return chance.choice([*NUMBERS, value + 1, value - 1, None])
    if isinstance(value, str):
        return chance.choice([*TEXTS, None])
    return chance.choice([*TEXTS, *NUMBERS]) if value is None else type(value)()


@pytest.fixture
def full(make: Any, sweep: Any) -> Report:
    """A report with something of everything."""
    kinds = (
        Verdict("scaling", passed=True, quantity="total", dimension="n", actual=1.0, allowed=1.0),
        Verdict("parity", passed=True, quantity="total", actual=7, allowed=7),
        Verdict("recorded", passed=True, quantity="total", actual=7, allowed=7, recorded=7),
    )
    few = {path: cost for path, cost in make.COMPONENTS.items() if "layer_0" in path}
    metrics = {"peak_memory": make.memory(), "bytes": Costs({"forward": 7}, {"a": {"forward": 5}})}
    return make.report(
        make.red_entry("wide"),
        make.entry("small", measurement=make.measurement(make.LAYER, few, uncounted={"op": 1})),
        make.entry("metered", measurement=make.measurement(metrics=metrics)),
        make.entry("grown", "scaling", verdicts=kinds, scaling=(sweep,)),
        environment={"commit": "abc", "time": "2026-11-01T00:00:00+00:00"},
        errors=[SessionError("wrong", Location("b.yaml", 1, 1))],
        missing=["test_it.py::test_lost"],
    )


def test_whatever_is_accepted_is_shown_joined_and_compared(full: Report, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    path = tmp_path / "flops.json"
    accepted = 0
    for number in range(INPUTS):
        record = json.loads(to_json(full))
        for _ in range(chance.choice([1, 1, 2, 3])):
            spoil(record, chance)
        path.write_text(json.dumps(record), encoding="utf-8")
        try:
            report = load_report(path)
        except ReportError:
            continue
        accepted += 1
        try:
            show(report, full, tmp_path)
            (quick,) = load_reports([path]).reports  # what is accepted is in a history, too
            assert render_trend(History((report, quick, full)))
        except BaseException:
            print(f"seed {SEED}, input {number}: {path.read_text(encoding='utf-8')}")
            raise
    assert 0 < accepted < INPUTS


def show(report: Report, other: Report, folder: Path) -> None:
    """Everything that is made of reports; a refusal in words is fine."""
    for base, head in ((report, other), (other, report)):
        comparison = compare(base, head)
        render_html(head, comparison=comparison, history=(base, head))
        render_markdown(head, comparison=comparison)
        assert [*terminal_lines(head, verbosity=2, width=80, comparison=comparison)]
        for rendered in FORMATS.values():
            rendered(comparison)
    [*annotate(report, folder)]
    try:
        joined = merge([report])
    except ReportError:
        return
    assert joined.passed == report.passed
    assert to_json(joined)
