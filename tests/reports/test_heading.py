"""What stands in large letters, and what is below it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_flops.budgets.verdict import Verdict
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.comparison.wording import judge_regressions
from pytest_flops.reports.pages.heading import heading, red_budgets, untold_errors
from pytest_flops.reports.report import SessionError

GREW = "layer_4.moe and layer_4.layernorm grew by 138.199 MFLOP in forward"
FIGURES = "forward: 16.427 GFLOP, limit 16.3 GFLOP, over by 127.147 MFLOP (+0.8 %)"


def test_it_says_what_grew_where_and_by_how_much(make):
    report = make.report(make.red_entry(), make.entry("b"))
    assert heading(report, None) == (f"Red: {GREW}", "1 of 2 budgets is over its limit.")


def test_operators_and_what_else_made_it_red_are_left_to_the_budget(make):
    cause = "layer_0..11.mlp x 12 grew by 2 MFLOP: aten.mm (+1 MFLOP), aten.bmm (new); at x.py:3"
    report = make.report(make.entry(verdicts=(make.limit(1, cause=cause),)))
    assert heading(report, None)[0] == "Red: layer_0..11.mlp x 12 grew by 2 MFLOP"


def test_without_a_cause_it_says_the_figures(make):
    report = make.report(make.entry(verdicts=(make.limit(12, actual=17),)))
    assert (
        heading(report, None)[0]
        == "Red: forward is 17 FLOP, limit 12 FLOP, over by 5 FLOP (+41.7 %)"
    )


@pytest.mark.parametrize(
    ("name", "kind", "figures", "words"),
    [
        (
            "gpt",
            "limit",
            (17, 12),
            "forward of gpt is 17 FLOP, limit 12 FLOP, over by 5 FLOP (+41.7 %)",
        ),
        (
            "test_model.py::test_step[large]",
            "limit",
            (138_000_000, 92_000_000),
            "forward of test_step[large] is over its limit by 46 MFLOP (+50.0 %)",
        ),
        (
            "gpt2-medium-with-rope",
            "recorded",
            (1_100_000, 1_000_000),
            "forward of gpt2-medium-with-rope is over its record by 100 kFLOP (+10.0 %)",
        ),
        (
            "n" * 99,
            "limit",
            (138_000_000, 92_000_000),
            f"forward of {'n' * 13}...{'n' * 13} is over its limit by 46 MFLOP (+50.0 %)",
        ),
        ("gpt", "scaling", (2.0, 1.0), "forward of gpt grows as seq_len^2, allowed 1"),
    ],
)
def test_of_several_it_names_the_budget_that_the_figures_are_of(make, name, kind, figures, words):
    actual, allowed = figures
    verdict = Verdict(kind, passed=False, quantity="forward", actual=actual, allowed=allowed)
    if kind == "scaling":
        verdict = replace(verdict, dimension="seq_len")
    if kind == "recorded":
        verdict = replace(verdict, recorded=allowed)
    report = make.report(make.entry(name, verdicts=(verdict,)), make.entry("other"))
    what, _ = heading(report, None)
    assert what == f"Red: {words}"
    assert len(what) <= 85


def test_of_growth_it_says_the_exponent_and_no_formula(make):
    verdict = Verdict(
        "scaling",
        passed=False,
        quantity="forward",
        component="mlp",
        dimension="seq_len",
        actual=2.0,
        allowed=1.0,
        cause="mlp grows as seq_len^2, allowed 1, in forward",
        message="mlp forward = 3 * seq_len^2",
    )
    report = make.report(make.entry(verdicts=(verdict,)))
    assert heading(report, None)[0] == "Red: mlp forward grows as seq_len^2, allowed 1"
    assert [*red_budgets(report, None)] == [(report.entries[0], "")]


def test_without_a_record_it_says_what_grew_since_the_base(make):
    over = make.limit(16_300_000_000, make.BASELINE.forward + make.LAYER.forward)
    grown = make.measurement(make.BASELINE + make.LAYER, {**make.COMPONENTS, "layer_4": make.LAYER})
    report = make.report(make.entry(verdicts=(over,), measurement=grown))
    comparison = compare(make.report(), report)
    # 139,386,880 + 277,291,008 + 1,004,250.
    assert heading(report, comparison)[0] == "Red: layer_4 grew by 417.682 MFLOP"
    assert [words for _, words in red_budgets(report, comparison)] == [FIGURES]
    fell = compare(make.report(make.entry(measurement=grown)), make.report())
    assert heading(report, fell)[0] == f"Red: {FIGURES.replace(': ', ' is ')}"


def test_it_has_room_on_a_telephone(make):
    cause = f"{'encoder.' * 30}mlp grew by 138.199 MFLOP in forward"
    report = make.report(make.entry(verdicts=(make.limit(1, cause=cause),)))
    what, _ = heading(report, None)
    assert len(what) <= 85
    assert what.endswith("grew by 138.199 MFLOP in forward")


def test_a_regression_alone_is_told_from_the_comparison(make):
    grown = make.measurement(make.BASELINE + make.LAYER)
    base, head = make.report(), make.report(make.entry(measurement=grown))
    comparison = compare(base, head)
    judged = judge_regressions(head, comparison)
    # A layer more: 139,386,880 forward, 277,291,008 backward, 1,004,250 optimizer.
    assert heading(judged, comparison) == (
        "Red: total of baseline costs 417.682 MFLOP more than in the base (+0.9 %)",
        "1 budget is red against its base.",
    )


@pytest.mark.parametrize("kind", ["error", "parity"])
def test_what_has_no_figures_is_told_in_full_below(make, kind):
    verdict = Verdict(kind, passed=False, quantity=None, message="nothing was counted")
    report = make.report(make.entry(verdicts=(verdict,)))
    assert heading(report, None)[1] == ""
    assert [words for _, words in red_budgets(report, None)] == ["nothing was counted"]


def test_each_red_budget_says_what_the_heading_and_those_before_do_not(make):
    other = make.limit(12, actual=17, cause="lm_head grew by 5 FLOP: aten.mm")
    report = make.report(
        make.red_entry("a"), make.red_entry("b"), make.entry("c", verdicts=(other,))
    )
    told = {entry.budget: words for entry, words in red_budgets(report, None)}
    lm_head = "forward: 17 FLOP, limit 12 FLOP, over by 5 FLOP (+41.7 %)"
    assert heading(report, None)[0] == "Red: lm_head grew by 5 FLOP"
    assert told == {"c": lm_head, "a": f"{GREW}; {FIGURES}", "b": FIGURES}


def test_what_the_table_of_changes_shows_is_no_error_beside_it(make):
    base, head = make.report(make.entry("a"), make.entry("b")), make.report(make.red_entry("a"))
    lost = make.entry("b", measurement=None)
    head = replace(head, entries=(*head.entries, lost), errors=(SessionError("other"),))
    comparison = compare(base, head)
    judged = judge_regressions(head, comparison)
    assert len(untold_errors(judged, None)) == 3
    told = [error.message for error in untold_errors(judged, comparison)]
    assert sorted(told) == ["other", "the budget 'b' was measured in the base and is not any more"]
