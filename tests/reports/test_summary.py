"""The one sentence on top, the order of reading, and the use of limits."""

from __future__ import annotations

import pytest

from pytest_flops.budgets.verdict import Verdict
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.pages.html import render_html
from pytest_flops.reports.pages.markdown import render_markdown
from pytest_flops.reports.pages.sentence import headline
from pytest_flops.reports.pages.summary import (
    fullest,
    remarks,
    share,
    status,
    summary,
    used,
    uses,
    worst,
    worst_first,
)
from pytest_flops.reports.pages.terminal import terminal_lines
from pytest_flops.reports.report import SessionError, build_report

FORWARD = 16_287_760_384


def test_green_reports_say_how_many_hold(make):
    assert headline(make.report()) == "Green: the one budget holds."
    two = make.report(make.entry("a"), make.entry("b"))
    assert headline(two) == "Green: all 2 budgets hold."


def test_the_only_red_budget_is_told_with_what_grew(make):
    report = make.report(make.red_entry(), make.entry("b"), make.entry("c"))
    assert headline(report) == (
        "Red: 1 of 3 budgets is over its limit: layer_4.moe and layer_4.layernorm grew by 138.199 "
        "MFLOP in forward."
    )


def test_several_red_budgets_are_counted(make):
    other = make.entry("b", verdicts=(make.limit(1),))
    report = make.report(make.red_entry("a"), other, make.entry("c"))
    assert headline(report) == "Red: 2 of 3 budgets are over their limits."


def test_what_made_several_red_is_told_if_it_is_the_same(make):
    report = make.report(make.red_entry("a"), make.red_entry("b"))
    assert headline(report).startswith("Red: 2 of 2 budgets are over their limits: layer_4.moe and")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            Verdict("recorded", passed=False, quantity="total", actual=2, allowed=1, recorded=1),
            "Red: the one budget costs more than recorded: total.",
        ),
        (
            Verdict(
                "scaling",
                passed=False,
                quantity="forward",
                dimension="seq_len",
                actual=2.0,
                allowed=1.0,
            ),
            "Red: the one budget grows too fast: forward over seq_len.",
        ),
        (
            Verdict("parity", passed=False, quantity="total", actual=1, allowed=2),
            "Red: the one budget fails its parity check.",
        ),
        (
            Verdict("error", passed=False, message="nothing was counted"),
            "Red: the one budget could not be judged.",
        ),
    ],
)
def test_each_kind_of_failure_has_its_words(make, verdict, words):
    assert headline(make.report(make.entry(verdicts=(verdict,)))) == words


def test_faults_of_the_run_are_told(make):
    faults = {"errors": [SessionError("x"), SessionError("y")], "missing": ["t"]}
    assert headline(make.report(**faults)) == (
        "Red: 2 errors of the run itself, and 1 test delivered nothing."
    )
    assert headline(make.report(complete=False)) == "Red: the run did not come to its end."


def test_budgets_that_cost_more_than_the_base_or_are_stale_are_told_as_such(make):
    kinds = ("regression", "regression", "stale")
    errors = [SessionError(str(i), kind=kind) for i, kind in enumerate(kinds)]
    assert headline(make.report(errors=errors)) == (
        "Red: 2 budgets are red against their base, and 1 budget is measured by no test."
    )


def test_a_limit_of_nothing_is_graver_than_one_slightly_passed(make):
    verdicts = (make.limit(2, 3, component="b"), make.limit(0, 3, component="a"))
    (entry,) = make.report(make.entry(verdicts=verdicts)).entries
    assert worst(entry).component == "a"


@pytest.mark.parametrize(
    ("others", "first"),
    [
        ([("layer_0.moe", "backward", 15, 10)], "layer_0.moe"),  # half more than allowed
        ([("layer_0.moe", "backward", 11, 10)], None),  # a tenth of less
        ([("layer_0.moe", "backward", 0, 0)], None),  # nothing of nothing is all of it
        ([("layer_0.moe", "optimizer", 15, 10)], None),  # a part of what is told
    ],
    ids=["a-larger-share", "an-equal-share-of-less", "nothing", "a-part"],
)
def test_the_verdict_furthest_over_by_its_share_is_told_first_then_by_its_difference(
    make, others, first
):
    verdicts = [
        Verdict("recorded", False, quantity, component, actual, base, "0%", base)
        for component, quantity, actual, base in [*others, (None, "optimizer", 110, 100)]
    ]
    (entry,) = make.report(make.entry(verdicts=tuple(verdicts))).entries
    assert worst(entry).component == first


def test_a_report_of_nothing_says_so():
    assert headline(build_report([])) == "Red: nothing was measured."
    assert headline(build_report([], complete=False)).startswith("Red: nothing was measured")


def test_entries_are_read_red_first_then_by_the_fullest_limit(make):
    roomy = make.entry("roomy", verdicts=(make.limit(2 * FORWARD),))
    tight = make.entry("tight", verdicts=(make.limit(FORWARD),))
    report = make.report(roomy, tight, make.red_entry("red"))
    assert [entry.budget for entry in worst_first(report.entries)] == ["red", "tight", "roomy"]


def test_the_fullest_limit_is_found_and_its_slack_is_exact(make):
    verdicts = (make.limit(2 * FORWARD), make.limit(16_300_000_000, component="lm_head"))
    (entry,) = make.report(make.entry(verdicts=verdicts)).entries
    limit = fullest(entry)
    assert (limit.component, used(limit)) == ("lm_head", "99.9 %")
    assert limit.allowed - limit.actual == 12_239_616


def test_a_limit_of_nothing_is_over_as_soon_as_something_is_counted(make):
    (entry,) = make.report(make.entry(verdicts=(make.limit(0, actual=3),))).entries
    (limit,) = uses(entry)
    assert share(limit) == float("inf")
    assert used(limit) == "3 of 0"


def test_a_limit_of_nothing_that_holds_is_not_the_fullest(make):
    nothing = make.limit(0, actual=0, quantity="syncs total")
    (entry,) = make.report(make.entry(verdicts=(nothing, make.limit(2 * FORWARD)))).entries
    assert [used(limit) for limit in uses(entry)] == ["50.0 %", "0 of 0"]


def test_the_summary_tells_the_cause_and_then_the_figures(make):
    (entry,) = make.report(make.red_entry()).entries
    assert summary(entry) == [
        "layer_4.moe and layer_4.layernorm grew by 138.199 MFLOP in forward",
        "forward: 16.427 GFLOP, limit 16.3 GFLOP, over by 127.147 MFLOP (+0.8 %)",
    ]


def test_what_made_it_red_may_be_unknown(make):
    (entry,) = make.report(make.entry(verdicts=(make.limit(12, actual=17),))).entries
    assert summary(entry) == ["forward: 17 FLOP, limit 12 FLOP, over by 5 FLOP (+41.7 %)"]


@pytest.mark.parametrize(
    ("allowed", "actual", "times"),
    [(1000, 10, 0), (1001, 10, 100), (92 * 10**12, 91_441_000, 1_006_113), (10**12, 0, 0)],
    ids=["a-hundred", "above-a-hundred", "a-wrong-prefix", "of-nothing"],
)
def test_a_limit_above_a_hundred_times_the_count_is_a_remark(make, allowed, actual, times):
    entry = make.entry(verdicts=(make.limit(allowed, actual, "total", written="as written"),))
    limit = f"the limit of total, as written, is {times:,} times the count and holds nothing"
    assert [*remarks(entry)] == ([f"{limit}: is the unit right?"] if times else [])
    assert entry.passed


def test_of_what_a_pattern_matches_the_fullest_says_whether_its_limit_holds(make):
    def matched(*counts, pattern="layer_*"):
        return tuple(make.limit(900, count, component=f"layer_{count}", pattern=pattern)
                     for count in counts)  # fmt: skip

    assert [*remarks(make.entry(verdicts=matched(1, 2, 100)))] == []
    (remark,) = remarks(make.entry(verdicts=matched(1, 2) + matched(3, pattern="layer_3")))
    assert remark.startswith("the limit of layer_2 forward, 900, is 450 times the count")
    assert remark.endswith("holds nothing, and 1 more likewise: is the unit right?")


def against(make, *names):
    """A layer more than in the base: `grown`; no count any more: `lost`; as in the base: `same`."""
    base = [make.entry(name) for name in names]
    now = {
        "grown": make.entry("grown", measurement=make.measurement(make.BASELINE + make.LAYER)),
        "lost": make.entry("lost", measurement=None),
    }
    report = make.report(*(now.get(name, make.entry(name)) for name in names))
    return report, compare(make.report(*base), report)


def test_what_its_base_alone_makes_red_is_not_told_to_be_within_budget(make):
    report, comparison = against(make, "grown", "lost", "same")
    told = {entry.budget: status(entry, comparison.by_key) for entry in report.entries}
    assert told == {
        "grown": "costs more than its base",
        "lost": "not measured any more",
        "same": "within budget",
    }


def test_on_every_page_it_is_red_and_comes_before_what_is_green(make):
    report, comparison = against(make, "a", "grown", "z")
    lines = terminal_lines(report, comparison=comparison)
    assert [text.split()[0] for text, _ in lines[1:4]] == ["grown", "a", "z"]
    assert "costs more than its base" in lines[1][0]
    assert lines[1][1] == {"red": True}
    markdown = render_markdown(report, comparison=comparison)
    assert "| \u274c | `grown` |" in markdown
    page = render_html(report, comparison=comparison)
    assert page.count("\u2715 costs more than its base") == 2  # in the table, and by itself
    assert page.count("\u2713 within budget") == 4
    rows = page[page.index('id="budgets"') :]
    assert rows.index(">grown<") < rows.index(">a<") < rows.index(">z<")


def test_of_many_budgets_a_fold_says_which_its_base_makes_red(make):
    names = [f"b{number:02}" for number in range(31)]
    grown = make.measurement(make.BASELINE + make.LAYER)
    report = make.report(*(make.entry(name, measurement=grown) for name in names))
    base = make.report(*map(make.entry, names))
    page = render_html(report, comparison=compare(base, report))
    assert '1 budget, <span class="red">1 red</span>' in page
