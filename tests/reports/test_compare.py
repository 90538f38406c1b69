"""A report held against an older one."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from pytest_flops.budgets.budget import Location
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.comparison.wording import leading, regressions
from pytest_flops.reports.fates import BudgetTest
from pytest_flops.reports.pages.comparison import FORMATS
from pytest_flops.reports.report import build_report


def counted(make, components=None, name="baseline", **changes):
    """A report of one budget whose count is the sum of its top components."""
    components = components or {"a": FLOPsCount(100, 200, 10), "b": FLOPsCount(50, 100, 5)}
    tops = [cost for path, cost in components.items() if "." not in path]
    measured = make.measurement(sum(tops, FLOPsCount()), components)
    return make.report(make.entry(name, measurement=measured, **changes))


def the_budget(comparison):
    (budget,) = comparison.budgets
    return budget


def test_the_same_counts_are_no_change(make):
    comparison = compare(make.report(), make.report())
    assert the_budget(comparison).status == "same"
    assert not comparison.regressed


def test_one_flop_more_is_a_regression(make):
    head = counted(make, {"a": FLOPsCount(101, 200, 10), "b": FLOPsCount(50, 100, 5)})
    comparison = compare(counted(make), head)
    assert comparison.regressed
    assert the_budget(comparison).status == "grew"
    total = the_budget(comparison).total
    assert (total.base, total.head, total.difference) == (465, 466, 1)


def test_one_flop_less_is_no_regression(make):
    head = counted(make, {"a": FLOPsCount(99, 200, 10), "b": FLOPsCount(50, 100, 5)})
    comparison = compare(counted(make), head)
    assert the_budget(comparison).status == "fell"
    assert not comparison.regressed


def test_a_component_that_grows_behind_an_equal_total_is_a_regression(make):
    head = counted(make, {"a": FLOPsCount(90, 200, 10), "b": FLOPsCount(60, 100, 5)})
    comparison = compare(counted(make), head)
    assert comparison.regressed
    grown = [c for c in the_budget(comparison).changes if c.regressed]
    assert [(c.component, c.quantity, c.difference) for c in grown] == [
        ("b", "forward", 10),
        ("b", "total", 10),
    ]


@pytest.mark.parametrize(("percent", "regressed"), [(1, False), (0, True)])
def test_growth_within_the_tolerance_of_the_run_is_no_regression(make, percent, regressed):
    head = counted(make, {"a": FLOPsCount(101, 200, 10), "b": FLOPsCount(50, 100, 5)})
    comparison = compare(counted(make), head, tolerance=Fraction(percent, 100))
    assert comparison.regressed == regressed
    assert the_budget(comparison).status == "grew"


def test_each_budget_has_its_own_tolerance_unless_the_run_has_one(make):
    grown = {"a": FLOPsCount(101, 200, 10), "b": FLOPsCount(50, 100, 5)}
    head = counted(make, grown, tolerance=Fraction(1, 100))
    assert not compare(counted(make), head).regressed
    assert compare(counted(make), head, tolerance=Fraction(0)).regressed


def test_a_new_component_is_added_and_grows_the_total(make):
    added = FLOPsCount(7, 0, 0)
    head = counted(make, {"a": FLOPsCount(100, 200, 10), "b": FLOPsCount(50, 100, 5), "c": added})
    comparison = compare(counted(make), head)
    assert comparison.regressed
    statuses = {c.component: c.status for c in the_budget(comparison).changes}
    assert statuses["c"] == "added"


def test_a_component_that_is_gone_is_removed(make):
    comparison = compare(counted(make), counted(make, {"a": FLOPsCount(100, 200, 10)}))
    statuses = {c.component: c.status for c in the_budget(comparison).changes}
    assert statuses == {None: "fell", "a": "same", "b": "removed"}
    assert not comparison.regressed


def test_a_budget_that_is_gone_and_one_that_is_new_are_each_told_and_no_regression(make):
    before, after = counted(make, name="old"), counted(make, name="new", workload=Workload("m"))
    both = make.report(*before.entries, *after.entries)
    assert statuses(compare(before, both)) == {"new": "added", "old": "same"}
    assert statuses(compare(both, after)) == {"new": "same", "old": "removed"}
    assert not compare(before, both).regressed
    assert not compare(both, after).regressed


def test_what_is_new_while_something_is_gone_is_red_for_it_may_be_that_under_another_name(make):
    dear = {"a": FLOPsCount(101, 200, 10)}
    head = counted(make, dear, name="new", workload=Workload("m"))
    comparison = compare(counted(make, name="old"), head)
    assert statuses(comparison) == {"new": "unmatched", "old": "removed"}
    (error,) = regressions(comparison)
    assert error.message.startswith("the budget 'new' is new while this is gone: old.")
    for name in FORMATS:
        assert "new" in FORMATS[name](comparison)


def statuses(comparison):
    return {budget.budget: budget.status for budget in comparison.budgets}


def test_another_projects_report_is_no_base(make):
    other = make.entry("x", subject="budgets/other.yaml::x", workload=Workload("other"))
    comparison = compare(make.report(other), make.report())
    assert comparison.regressed
    (error,) = regressions(comparison)
    assert "is it another project's report?" in error.message
    for name in ("text", "markdown"):
        assert "another project's report" in FORMATS[name](comparison)


@pytest.mark.parametrize(
    "base",
    [
        {"name": "renamed"},
        {"name": "baseline", "subject": "budgets/moved.yaml::baseline"},
    ],
)
def test_a_renamed_budget_or_file_is_not_taken_for_another_project(make, base):
    assert not compare(make.report(make.entry(**base)), make.report()).regressed


def test_an_empty_base_is_a_first_run_and_no_regression(make):
    assert not compare(build_report([]), make.report()).regressed


def test_a_budget_that_an_incomplete_run_lost_is_a_regression(make):
    base = make.report(make.entry("a"), make.entry("b"))
    head = make.report(make.entry("a"), missing=["budgets/resnet_bk.yaml::b::limits"])
    comparison = compare(base, head)
    assert comparison.regressed
    assert [b.budget for b in comparison.budgets if b.status == "unmeasured"] == ["b"]


def test_a_budget_that_counts_nothing_any_more_is_a_regression(make):
    comparison = compare(make.report(), make.report(make.entry(measurement=None)))
    assert comparison.regressed
    assert the_budget(comparison).status == "unmeasured"


def test_a_changed_workload_is_told(make):
    base = counted(make, workload=Workload("m", {"d_model": 64}, batch_size=32))
    head = counted(make, workload=Workload("m", {"d_model": 96}, batch_size=64))
    assert the_budget(compare(base, head)).workload == {
        "batch_size": (32, 64),
        "config.d_model": (64, 96),
    }


def test_what_comes_with_its_parent_is_told_once(make):
    layer = {"new": FLOPsCount(5, 0, 0), "new.x": FLOPsCount(3, 0, 0), "new.y": FLOPsCount(2, 0, 0)}
    head = counted(make, {"a": FLOPsCount(100, 200, 10), "b": FLOPsCount(50, 100, 5), **layer})
    told = [change.component for change in leading(the_budget(compare(counted(make), head)))]
    assert told == [None, "new"]


def test_a_regression_names_what_grew_and_by_how_much(make):
    head = make.report(make.red_entry())
    (error,) = regressions(compare(make.report(), head))
    assert "'baseline' costs more than its base" in error.message
    # forward + backward + optimizer of one layer: 139,386,880 + 277,291,008 + 1,004,250
    assert "total from 48,917,969,080 to 49,335,651,218 FLOP (+0.9 %)" in error.message
    assert str(error.location) == "budgets/resnet_bk.yaml:5:3"


@pytest.fixture
def regression(make):
    return compare(make.report(), make.report(make.red_entry()))


def test_text_tells_the_regression_and_the_added_component(regression):
    text = FORMATS["text"](regression)
    assert text.splitlines()[0].endswith("costs more than its base allows (1 grew)")
    assert "total from 48,917,969,080 to 49,335,651,218 FLOP (+0.9 %)" in text
    assert "layer_4 total new: 417,682,138 FLOP" in text


def test_text_of_no_change_is_one_line(make):
    text = FORMATS["text"](compare(make.report(), make.report()))
    assert text == "FLOPs against the base: no regression (1 same)\n"


def test_json_holds_every_change(regression):
    record = json.loads(FORMATS["json"](regression))
    assert record["regressed"] is True
    forward = record["budgets"][0]["changes"][0]
    assert forward == {
        "component": None,
        "quantity": "forward",
        "status": "grew",
        "regressed": True,
        "accepted": False,
        "base": 16_287_760_384,
        "head": 16_427_147_264,
        "difference": 139_386_880,
        "allowed": 16_287_760_384,
    }


def test_github_annotates_the_line_of_the_budget(regression):
    (line,) = FORMATS["github"](regression).splitlines()
    assert line.startswith(
        "::error file=budgets/resnet_bk.yaml,line=5,col=3,title=FLOPs budget::the budget 'baseline'"
    )
    assert "+0.9 %25" in line


def test_github_annotations_cannot_be_forged_by_a_name(make):
    name = "x\n::error::forged, 100%"
    place = Location("budgets/a:b,c.yaml", 5, 3)
    base = make.report(make.entry(name, location=place))
    head = make.report(make.red_entry(name, location=place))
    (line,) = FORMATS["github"](compare(base, head)).splitlines()
    assert line.startswith("::error file=budgets/a%3Ab%2Cc.yaml,line=5,col=3,")
    assert "100%25" in line


def test_markdown_fits_and_begins_with_regressions(make):
    names = [f"budget-{number:04}" for number in range(2_000)]
    base = make.report(*map(make.entry, names))
    head = make.report(*map(make.red_entry, names[:-1]), make.entry("z"))
    text = FORMATS["markdown"](compare(base, head))
    assert len(text.encode()) <= 60_000
    assert text.startswith("## ❌ FLOPs against the base: costs more than its base allows")
    assert "- ❌ `budget-0000` grew" in text
    assert "more budgets" in text


A, B = FLOPsCount(100, 200, 10), FLOPsCount(50, 100, 5)


@pytest.mark.parametrize(
    ("name", "line"),
    {"text": "{}: {}", "markdown": "`{}` {}", "github": "'{}': {}"}.items(),
)
def test_every_format_tells_what_fell_is_new_gone_and_tolerated(make, name, line):
    cheaper, dearer = FLOPsCount(69, 200, 10), FLOPsCount(101, 200, 10)
    before = counted_entries(make, cheap={"a": A}, same={"a": A}, dear={"a": A}, old={"a": A})
    after = counted_entries(
        make, cheap={"a": cheaper}, same={"a": A}, dear={"a": dearer}, young={"a": B}
    )
    young = BudgetTest("budgets/resnet_bk.yaml::young::limits", "young", None, "skipped")
    base = make.report(*before, tests=[young])
    comparison = compare(base, make.report(*after), tolerance=Fraction(1, 10))
    text = FORMATS[name](comparison).replace("%25", "%")
    # 310 FLOP before, 279 now: a tenth cheaper
    assert line.format("cheap", "fell by 31 FLOP (-10.0 %)") in text
    assert line.format("dear", "grew, within its tolerance") in text
    assert line.format("old", "gone") in text
    assert line.format("young", "new") in text
    assert line.format("same", "") not in text
    assert "::error" not in text


def counted_entries(make, **components):
    for name, parts in components.items():
        whole = sum(parts.values(), FLOPsCount())
        workload = Workload(name)
        yield make.entry(name, measurement=make.measurement(whole, parts), workload=workload)


def test_text_and_markdown_tell_a_changed_workload(make):
    base = counted(make, workload=Workload("m", batch_size=32))
    head = counted(make, {"a": A, "b": B, "c": A}, workload=Workload("m", batch_size=64))
    for name in ("text", "markdown"):
        assert "batch_size 32 -> 64" in FORMATS[name](compare(base, head))


def test_of_many_changed_components_the_largest_are_listed(make):
    base = counted(make, {f"p{i:02}": FLOPsCount(100) for i in range(40)})
    head = counted(make, {f"p{i:02}": FLOPsCount(101 + i) for i in range(40)})
    for name in ("text", "markdown"):
        text = FORMATS[name](compare(base, head))
        assert "p39 total from 100 to 140 FLOP (+40.0 %)" in text
        assert "p00" not in text
        assert "and 29 more" in text


def test_layers_that_changed_alike_are_one_line(make):
    base = counted(make, {f"layer_{i}": FLOPsCount(100) for i in range(12)})
    grown = {f"layer_{i}": FLOPsCount(101) for i in range(11)} | {"layer_11": FLOPsCount(105)}
    text = FORMATS["text"](compare(base, counted(make, grown)))
    layers = [line.strip() for line in text.splitlines() if "layer_" in line]
    assert layers == [
        "layer_11 total from 100 to 105 FLOP (+5.0 %)",
        "each of layer_0..10 total from 100 to 101 FLOP (+1.0 %)",
    ]


def test_a_phase_that_grows_behind_an_equal_total_is_named(make):
    head = counted(make, {"a": FLOPsCount(110, 190, 10), "b": B})
    (error,) = regressions(compare(counted(make, {"a": A, "b": B}), head))
    assert "a forward from 100 to 110 FLOP (+10.0 %)" in error.message


def test_a_budget_that_is_not_measured_any_more_is_named(make):
    (error,) = regressions(compare(make.report(), make.report(make.entry(measurement=None))))
    assert error.message == "the budget 'baseline' was measured in the base and is not any more"


def test_growth_from_nothing_has_no_percentage(make):
    base = counted(make, {"a": A, "b": FLOPsCount(0, 0, 0)})
    (error,) = regressions(compare(base, counted(make, {"a": A, "b": B})))
    assert "b total from 0 to 155 FLOP (from 0)" in error.message
