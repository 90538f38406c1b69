"""Past reports of a folder."""

from __future__ import annotations

import json

import pytest

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.history import KEPT, History, keep, load_history
from pytest_flops.reports.read import load_report
from pytest_flops.reports.report import to_json


def test_reports_of_a_folder_come_oldest_first(make, tmp_path):
    days = {"z.json": "2026-11-01", "deep/a.json": "2026-11-03", "b.json": "2026-11-02"}
    (tmp_path / "deep").mkdir()
    for name, day in days.items():
        (tmp_path / name).write_text(to_json(make.report(environment={"time": day})))
    found = load_history(tmp_path)
    assert [report.environment["time"] for report in found.reports] == sorted(days.values())


def test_an_empty_folder_is_an_empty_history(tmp_path):
    assert load_history(tmp_path) == History()


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="is no folder"):
        load_history(tmp_path / "none")


def test_a_file_that_is_no_report_is_named(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ReportError, match=r"other\.json is not a report"):
        load_history(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": {"forward": "many"}},
        {"count": {"forward": 1}, "metrics": {"bytes": {"whole": {"forward": 0.5}}}},
        {"count": {"forward": 1}, "metrics": {"nobody_knows": {"whole": {"forward": 1}}}},
        {"metrics": {}},
        [],
    ],
)
def test_what_it_does_not_understand_is_told_as_of_any_report(make, tmp_path, wrong):
    record = make.report().to_dict()
    if isinstance(wrong, dict):
        wrong = {"source": "meter", "rules": "executed", **wrong}
    record["entries"][0]["measurement"] = wrong
    path = tmp_path / "one.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ReportError) as strict:
        load_report(path)
    with pytest.raises(ReportError) as quick:
        load_history(tmp_path)
    assert str(quick.value) == str(strict.value)


def of_day(make, day, **changes):
    time = f"2026-{1 + day // 28:02}-{1 + day % 28:02}T10:00:00+00:00"
    return make.report(environment={"time": time, "commit": f"{day:040x}"}, **changes)


def test_of_the_reports_that_were_kept_the_newest_hundred_stay(make, tmp_path):
    (tmp_path / "of-somebody.json").write_text("{}")
    for day in range(KEPT + 3):
        path = keep(of_day(make, day), tmp_path)
    assert path.name == "flops-2026-04-19T10-00-00-000000000000.json"
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == KEPT + 1
    assert names[0] == "flops-2026-01-04T10-00-00-000000000000.json"
    assert names[-1] == "of-somebody.json"


def test_what_is_kept_is_a_small_report_of_the_whole(make, tmp_path):
    entry = make.entry(
        verdicts=(make.limit(16_300_000_000), make.limit(99, 9, component="lm_head")),
        measurement=make.measurement(
            metrics={"peak_memory": make.memory()},
            own_operations={"lm_head": {"aten.mm": FLOPsCount(9)}},
        ),
    )
    report = make.report(entry)
    path = keep(report, tmp_path)
    (kept,) = load_report(path).entries
    assert kept.measurement.count == make.BASELINE
    assert kept.measurement.of("peak_memory total") == 3072
    assert not kept.measurement.components
    assert not kept.measurement.own_operations
    assert [verdict.component for verdict in kept.verdicts] == [None]
    assert len(path.read_text()) < len(to_json(report)) / 3


def test_a_commit_that_is_no_hash_is_no_path(make, tmp_path):
    environment = {"time": "2026-11-29T10:00:00+00:00", "commit": "../../x"}
    path = keep(make.report(environment=environment), tmp_path / "past")
    assert path == tmp_path / "past/flops-2026-11-29T10-00-00-x.json"
