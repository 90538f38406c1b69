"""Reports of CI shards, joined."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.merge import merge
from pytest_flops.reports.report import KnownBudget, SessionError, build_report, to_json
from pytest_flops.scaling.sweep import Sweep

ITEMS = ("limits", "recorded", "parity", "scaling[seq_len]")
NAMES = ("a", "b", "c")
NODES = [(name, item) for name in NAMES for item in ITEMS]


def known(name: str, fate: str) -> KnownBudget:
    return KnownBudget(name, Location("budgets/x.yaml", ord(name), 3), fate)


@st.composite
def shards(draw: st.DrawFn) -> list:
    """A suite's findings dealt out to a few shards, each of which knows all budgets."""
    number = draw(st.integers(2, 4))
    dealt = {node: draw(st.integers(0, number - 1)) for node in NODES}
    found = {node: draw(entries(*node)) for node in NODES}
    return [draw(shard([found[n] for n in NODES if dealt[n] == i])) for i in range(number)]


@st.composite
def entries(draw: st.DrawFn, name: str, item: str) -> Entry:
    subject = f"budgets/x.yaml::{name}"
    counted = Measurement(FLOPsCount(ord(name), 2, 3), {}, "analytic", "published")
    verdicts = draw(
        st.lists(
            st.builds(
                Verdict,
                st.sampled_from(["limit", "recorded", "scaling", "error"]),
                passed=st.booleans(),
                quantity=st.sampled_from(["forward", "total"]),
                component=st.sampled_from([None, "layer_2", "layer_10"]),
                actual=st.integers(0, 3),
                allowed=st.integers(0, 3),
                location=st.sampled_from(
                    [None, Location("x.yaml", 9, 1), Location("x.yaml", 10, 1)]
                ),
            ),
            max_size=3,
        )
    )
    return Entry(
        subject=subject,
        budget=name,
        tests=(f"{subject}::{item}",),
        verdicts=tuple(verdicts),
        measurement=draw(st.sampled_from([None, counted])),
        workload=draw(st.sampled_from([None, Workload("m"), Workload("n")])),
        scaling=draw(st.sampled_from([(), (Sweep("n", (1,), ()),)])),
        location=draw(st.sampled_from([None, Location("x.yaml", 1, 1)])),
    )


@st.composite
def shard(draw: st.DrawFn, found: list[Entry]) -> object:
    texts = st.sampled_from(["one", "two"])
    return build_report(
        found,
        errors=draw(st.lists(st.builds(SessionError, texts), max_size=2)),
        environment={"commit": "abc", "time": draw(texts), "host": draw(st.none() | texts)},
        complete=draw(st.booleans()),
        missing=draw(st.lists(st.sampled_from([f"budgets/x.yaml::{n}::limits" for n in NAMES]))),
        budgets_known=[
            known(name, draw(st.sampled_from(["measured", "skipped", "deselected", "unnamed"])))
            for name in NAMES
        ],
        whole_suite=draw(st.booleans()),
    )


@given(shards())
def test_the_order_of_the_reports_does_not_matter(reports):
    texts = {to_json(merge(order)) for order in itertools.permutations(reports)}
    assert len(texts) == 1


@given(shards(), st.data())
def test_merging_in_steps_is_merging_at_once(reports, data):
    cut = data.draw(st.integers(1, len(reports) - 1))
    left, right = merge(reports[:cut]), merge(reports[cut:])
    assert to_json(merge([left, right])) == to_json(merge(reports))


def test_shards_joined_are_the_report_of_the_plain_run(make):
    found = [make.entry(name, item) for name in "abc" for item in ("limits", "recorded")]
    plain = build_report(found)
    merged = merge(build_report(found[start::3]) for start in range(3))
    assert merged == plain


def test_a_red_shard_makes_the_whole_red(make):
    assert merge([make.report(make.entry("a")), make.report(make.entry("b"))]).passed
    assert not merge([make.report(make.entry("a")), make.report(make.red_entry("b"))]).passed


def test_one_test_in_two_shards_is_an_error_that_names_it(make):
    report = make.report(make.entry("a"))
    with pytest.raises(ReportError, match=r"budgets/resnet_bk\.yaml::a::limits"):
        merge([report, report])


def test_one_subject_measured_with_different_results_is_an_error_that_shows_them(make):
    other = make.entry("a", "recorded", measurement=make.measurement(FLOPsCount(1, 2, 3)))
    with pytest.raises(ReportError, match=r"::a was measured .*48,917,969,080 FLOP.*, 6 FLOP"):
        merge([make.report(make.entry("a")), make.report(other)])


def test_reports_of_different_commits_are_no_shards(make):
    one, two = (
        make.report(make.entry(name), environment={"commit": commit})
        for name, commit in (("a", "aaa"), ("b", "bbb"))
    )
    with pytest.raises(ReportError, match="different commits.*aaa, bbb"):
        merge([one, two])


def test_merging_nothing_is_an_error():
    with pytest.raises(ReportError, match="at least one report"):
        merge([])


def test_a_budget_that_any_shard_measured_is_not_stale(make):
    fates = ("deselected", "measured"), ("unnamed", "deselected")
    reports = [
        make.report(
            make.entry(str(shard)),
            budgets_known=[known("x", fates[0][shard]), known("y", fates[1][shard])],
            whole_suite=True,
        )
        for shard in (0, 1)
    ]
    (error,) = merge(reports).errors
    assert "'y' was not measured" in error.message


def test_a_budget_that_no_shard_measured_is_stale_only_after_the_merge(make):
    reports = [
        make.report(make.entry(name), budgets_known=[known("x", "unnamed")]) for name in "ab"
    ]
    assert all(report.passed for report in reports)
    assert not merge(reports).passed


def test_a_test_that_one_shard_lost_and_another_delivered_is_not_missing(make):
    lost = replace(make.report(make.entry("a")), missing=("budgets/resnet_bk.yaml::b::limits",))
    assert merge([lost, make.report(make.entry("b"))]).passed
    assert not merge([lost, make.report(make.entry("c"))]).passed


def test_different_environments_are_kept_side_by_side(make):
    reports = [
        make.report(make.entry(name), environment={"ci_run": url, "time": time, "python": "3.12"})
        for name, url, time in (("a", "run/2", "09:00"), ("b", "run/1", "10:00"))
    ]
    assert merge(reports).environment == {
        "ci_run": ["run/1", "run/2"],
        "python": "3.12",
        "time": "10:00",
    }
