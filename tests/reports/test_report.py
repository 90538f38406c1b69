"""What a run found, joined, judged as a whole, written as JSON and read again."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import jsonschema
import pytest

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.read import SCHEMA, load_report
from pytest_flops.reports.report import KnownBudget, SessionError, build_report, to_json

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_tests_find_of_one_subject_makes_one_entry(make):
    limits, recorded = make.entry(item="limits"), make.entry(item="recorded")
    (entry,) = make.report(limits, recorded).entries
    assert entry.subject == "budgets/resnet_bk.yaml::baseline"
    assert entry.tests == (*limits.tests, *recorded.tests)
    assert entry.measurement.count.total == 48_917_969_080


def test_the_order_in_which_workers_deliver_does_not_matter(make):
    found = [
        make.entry(item="limits"),
        make.entry(item="parity", measurement=None, verdicts=(Verdict("parity", passed=True),)),
        make.entry(item="recorded", verdicts=(make.limit(17, kind="recorded"),)),
        make.entry("other"),
    ]
    texts = {to_json(build_report(order)) for order in itertools.permutations(found)}
    assert len(texts) == 1


def test_a_report_of_green_entries_passes(make):
    assert make.report().passed


def test_a_report_with_a_red_verdict_does_not_pass(make):
    report = make.report(make.entry(), make.red_entry("wide"))
    assert not report.passed
    assert [entry.budget for entry in report.red] == ["wide"]


def test_a_report_of_nothing_does_not_pass():
    assert not build_report([]).passed


def test_an_entry_without_a_comparison_does_not_pass(make):
    assert not make.report(make.entry(verdicts=())).passed


@pytest.mark.parametrize(
    "fault",
    [
        {"errors": [SessionError("the budget 'old' is named by no test")]},
        {"missing": ["tests/test_model.py::test_step"]},
        {"complete": False},
    ],
    ids=["error", "missing", "incomplete"],
)
def test_a_green_report_with_a_fault_of_the_run_does_not_pass(make, fault):
    assert make.report().passed
    assert not make.report(**fault).passed


def test_two_tests_that_measure_one_subject_differently_turn_it_red(make):
    other = make.measurement(FLOPsCount(1, 2, 3))
    (entry,) = make.report(
        make.entry(item="limits"), make.entry(item="recorded", measurement=other)
    ).entries
    assert not entry.passed
    assert "48,917,969,080 FLOP" in entry.failures[0].message
    assert "6 FLOP" in entry.failures[0].message


def test_two_markers_of_one_test_make_two_entries(make):
    names = ("small", "large")
    found = [replace(make.entry(), subject="test_m.py::test_x", budget=name) for name in names]
    assert sorted(entry.budget for entry in make.report(*found).entries) == ["large", "small"]


FATES = {
    "measured": None,
    "skipped": None,
    "deselected": "every test that names it was deselected",
    "unnamed": "named by no test",
}


@pytest.mark.parametrize(("fate", "message"), FATES.items())
def test_after_a_whole_suite_a_budget_nobody_measured_is_an_error(make, fate, message):
    known = [KnownBudget("old", Location("budgets/a.yaml", 9, 3), fate)]
    report = make.report(budgets_known=known, whole_suite=True)
    assert report.passed == (message is None)
    for error in report.errors:
        assert message in error.message
        assert error.location == Location("budgets/a.yaml", 9, 3)


def test_a_partial_run_judges_no_budget_stale(make):
    old = KnownBudget("old", Location("budgets/a.yaml", 9, 3), "unnamed")
    assert make.report(budgets_known=[old]).passed


@pytest.fixture
def full_report(make, sweep):
    metered = make.measurement(
        source="meter",
        rules="executed",
        uncounted={"aten.fft": 2},
        child_processes=2,
        own_operations={"layer_0": {"aten.add": FLOPsCount(1)}, "": {"aten.mm": FLOPsCount(2)}},
        recomputed=7,
    )
    return make.report(
        make.red_entry(),
        make.entry("other", measurement=metered, scaling=(sweep,)),
        errors=[SessionError("something", Location("budgets/a.yaml", 1, 1))],
        environment={"commit": "abc", "ci_run": None, "time": ["a", "b"]},
        complete=False,
        missing=["tests/test_a.py::test_b"],
        budgets_known=[KnownBudget("old", Location("budgets/a.yaml", 9, 3), "unnamed")],
        whole_suite=True,
    )


def test_json_is_read_back_as_it_was(full_report, tmp_path):
    file = tmp_path / "flops.json"
    file.write_text(to_json(full_report), encoding="utf-8")
    again = load_report(file)
    assert again == full_report
    assert to_json(again) == to_json(full_report)


def test_a_report_that_names_threads_of_an_older_release_is_read(full_report, tmp_path):
    record = json.loads(to_json(full_report))
    measurement = record["entries"][1]["measurement"]
    del measurement["child_processes"]
    measurement["unseen"] = ["tqdm_monitor"]
    file = tmp_path / "flops.json"
    file.write_text(json.dumps(record))
    assert load_report(file) == full_report


def test_json_is_the_same_for_the_same_report_and_ends_in_a_newline(full_report):
    assert to_json(full_report) == to_json(full_report)
    assert to_json(full_report).endswith("}\n")


def test_whatever_other_packages_add_to_the_environment_is_read_back(make, tmp_path):
    file = tmp_path / "flops.json"
    report = make.report(environment={"nodes": 4, "gpus": ("a", 1), "none": None})
    file.write_text(to_json(report))
    assert load_report(file).environment == {"nodes": "4", "gpus": ["a", "1"], "none": None}


def test_only_the_environment_tells_two_runs_apart(make):
    one, two = (
        json.loads(to_json(make.report(environment={"time": time}))) for time in ("noon", "night")
    )
    assert one.pop("environment") != two.pop("environment")
    assert one == two


def test_json_keeps_integers_beyond_floating_point_exact(make, tmp_path):
    count = FLOPsCount(2**80 + 1, 0, 0)
    file = tmp_path / "flops.json"
    file.write_text(to_json(make.report(make.entry(measurement=make.measurement(count, {})))))
    assert load_report(file).entries[0].measurement.count.forward == 2**80 + 1


def test_json_holds_names_that_are_no_valid_unicode(make, tmp_path):
    file = tmp_path / "flops.json"
    file.write_text(to_json(make.report(make.entry("caf\udce9"))), encoding="utf-8")
    assert load_report(file).entries[0].budget == "caf\udce9"


def test_the_schema_is_valid_and_every_object_in_it_is_described(full_report):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(to_json(full_report)))
    assert all("description" in field or "$ref" in field for field in _top_fields(schema))


def _top_fields(schema):
    return schema["properties"].values()


def damaged(text: str, **changes: object) -> str:
    return json.dumps({**json.loads(text), **changes})


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def instead(content: str) -> Callable[[str], str]:
    return lambda _: content


UNUSABLE = {
    "truncated": (lambda text: text[: len(text) // 2], "not complete JSON"),
    "empty": (instead(""), "not complete JSON"),
    "another tool's": (instead('{"benchmarks": []}'), "not a report of pytest-flops"),
    "no object": (instead("[1, 2]"), "not a report of pytest-flops"),
    "newer": (lambda text: damaged(text, version=2, entries=None), "newer pytest-flops"),
    "version is text": (lambda text: damaged(text, version="1"), "at version"),
    "broken": (replaced('"kind": "limit"', '"kind": "wish"'), "at entries[0].verdicts[0].kind"),
    "incomplete": (lambda text: damaged(text, entries=[{}]), "at entries[0]"),
    "not a number": (replaced("16300000000", "NaN"), "NaN"),
    "too deep": (instead("[" * 100_000), "not a report"),
}


@pytest.mark.parametrize(("damage", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_file_is_refused_in_one_paragraph(make, tmp_path, damage, message):
    file = tmp_path / "flops.json"
    file.write_text(damage(to_json(make.report())))
    with pytest.raises(ReportError) as refusal:
        load_report(file)
    assert message in str(refusal.value)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_and_a_directory_and_bytes_are_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.json", ".", "binary"):
        with pytest.raises(ReportError, match=r"cannot read|not UTF-8"):
            load_report(tmp_path / name)
