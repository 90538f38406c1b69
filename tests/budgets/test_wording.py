"""What people read when a gate goes red."""

from __future__ import annotations

import json

from pytest_flops.budgets.budget import Budget, Limit, Location, Recorded
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.budgets.judging.wording import explain, headline
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement

HERE = Location("budgets/b.yaml", 7, 16)


def limit_verdict(actual, allowed, **rest):
    passed = actual <= allowed
    return Verdict("limit", passed, "forward", "lm_head", actual, allowed, **rest)


def test_a_red_limit_on_one_line():
    assert headline(limit_verdict(31_457_280_000, 15_800_000_000)) == (
        "lm_head forward: 31.457 GFLOP, limit 15.8 GFLOP, over by 15.657 GFLOP (+99.1 %)"
    )


def test_a_green_limit_on_one_line():
    assert headline(limit_verdict(15_728_640_000, 15_800_000_000)) == (
        "lm_head forward: 15.729 GFLOP, limit 15.8 GFLOP"
    )


def test_exact_digits_are_shown_where_both_print_alike():
    assert headline(limit_verdict(15_800_000_001, 15_800_000_000)) == (
        "lm_head forward: 15,800,000,001 FLOP, limit 15,800,000,000 FLOP, over by 1 FLOP (+<0.1 %)"
    )


def test_a_limit_of_zero_has_no_percentage():
    assert headline(limit_verdict(5, 0)).endswith("5 FLOP, limit 0 FLOP, over by 5 FLOP")


def test_a_recorded_count_tells_its_tolerance():
    verdict = Verdict(
        "recorded", False, "total", actual=1100, allowed=1050, recorded=1000, written="5%"
    )
    assert headline(verdict) == (
        "total: 1.1 kFLOP, recorded 1 kFLOP + 5% tolerance, over by 50 FLOP (+4.8 %)"
    )


def test_a_cheaper_count_says_so():
    budget = Budget("b", recorded=Recorded(FLOPsCount(1000, 0, 0)))
    measurement = Measurement(FLOPsCount(900, 0, 0), {}, "meter", "executed")
    assert headline(hold(budget, measurement, kinds=("recorded",))[0]) == (
        "forward: 900 FLOP, recorded 1 kFLOP; cheaper than recorded by 100 FLOP (-10.0 %)"
    )


def test_a_scaling_verdict_tells_exponents():
    verdict = Verdict(
        "scaling", False, "total", "layer_0.attn", actual=1.9942, allowed=1.0, dimension="seq_len"
    )
    assert headline(verdict) == (
        "layer_0.attn total over seq_len: grows with exponent 1.9942, above the allowed 1"
    )


def test_exponents_that_would_print_alike_are_printed_whole():
    verdict = Verdict("scaling", False, "total", actual=1.00001, allowed=1.0, dimension="seq_len")
    assert "exponent 1.00001, above the allowed 1.0" in headline(verdict)


def test_a_parity_verdict_tells_both_counts_to_the_digit():
    verdict = Verdict("parity", False, "backward", "layer_0.moe", actual=12345, allowed=12340)
    assert headline(verdict) == ("layer_0.moe backward: analytic 12,345, metered 12,340, 5 apart")


def test_an_error_is_its_message():
    assert headline(Verdict("error", False, message="nothing was counted")) == "nothing was counted"


def test_control_characters_in_names_are_escaped():
    verdict = Verdict("limit", False, "forward", "a\x1b[31m\nb", actual=2, allowed=1)
    text = explain("evil\x1b]0;title\x07", [verdict])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "a\\x1b[31m\\nb forward" in text


def whole_explanation():
    model = {
        "layer_0": FLOPsCount(100_000, 200_000, 0),
        "layer_0.moe": FLOPsCount(80_000, 160_000, 0),
        "lm_head": FLOPsCount(1_000_000, 2_000_000, 0),
    }
    grown = {**model, "layer_0": FLOPsCount(130_000, 200_000, 0)}
    grown["layer_0.moe"] = FLOPsCount(110_000, 160_000, 0)
    budget = Budget(
        "baseline",
        limits=(
            Limit("forward", 1_120_000, "1.12 MFLOP", None, HERE),
            Limit("forward", 10**6, "1 MFLOP", "lm_*", HERE),
        ),
        recorded=Recorded(
            FLOPsCount(1_100_000, 2_200_000, 0), model, Location("budgets/b.yaml", 20, 5)
        ),
    )
    measurement = Measurement(FLOPsCount(1_130_000, 2_200_000, 0), grown, "analytic", "published")
    verdicts = (
        *hold(budget, measurement, kinds=("limit",)),
        *hold(budget, measurement, kinds=("recorded",)),
    )
    return explain(budget.name, verdicts, location=Location("budgets/b.yaml", 3, 3))


def test_the_whole_message_says_what_is_over_by_how_much_why_and_what_to_do():
    text = whole_explanation()
    for words in (
        "budget 'baseline' does not hold (budgets/b.yaml:3:3)",
        "forward: 1.13 MFLOP, limit 1.12 MFLOP, over by 10 kFLOP (+0.9 %)",
        "1,130,000",
        "1,120,000  written 1.12 MFLOP at budgets/b.yaml:7:16",
        "forward: 1.13 MFLOP, recorded 1.1 MFLOP, over by 30 kFLOP (+2.7 %)",
        "1,100,000  at budgets/b.yaml:20:5",
        "tolerance 0%",
        "layer_0.moe  110,000  +30,000 above the record",
        "raise the limit of forward, budgets/b.yaml:7:16",
        "pytest --flops-update",
    ):
        assert words in text
    assert "lm_head" not in text  # green comparisons are counted, not listed


def test_a_record_without_components_says_that_it_cannot_tell_what_grew():
    budget = Budget("b", recorded=Recorded(FLOPsCount(1, 0, 0)))
    measurement = Measurement(
        FLOPsCount(2, 0, 0), {"lm_head": FLOPsCount(2, 0, 0)}, "meter", "executed"
    )
    text = explain("b", hold(budget, measurement, kinds=("recorded",)))
    assert "most of it (the record is too coarse to tell what grew):" in text


def test_green_comparisons_are_counted():
    # 1 limit, 3 of 4 recorded in whole: none but backward and optimizer are green, so 1 + 2;
    # lm_head forward and backward, layer_0 backward, layer_0.moe backward: 4.
    assert "7 other comparisons hold." in whole_explanation()


def test_of_very_many_red_comparisons_the_first_are_told_in_full_and_the_last_are_counted():
    red = [Verdict("limit", False, "forward", f"layer_{i}", 2 + i, 1) for i in range(100)]
    text = explain("b", red)
    assert len(text.splitlines()) < 100
    assert "layer_0 forward: 2 FLOP, limit 1 FLOP" in text
    assert "layer_27 forward" in text
    assert "and 72 more" in text


def test_the_same_said_of_components_that_differ_in_their_numbers_is_said_once():
    whole = Verdict("recorded", False, "forward", None, 36, 24, "0%", 24)
    layers = [Verdict("recorded", False, "forward", f"layer_{i}", 3, 2, "0%", 2) for i in range(11)]
    other = Verdict("recorded", False, "forward", "layer_11", 4, 2, "0%", 2)
    lines = explain("b", [whole, *layers, other]).splitlines()
    assert [line for line in lines if line.startswith("  layer_")] == [
        "  layer_* (each of 11) forward: 3 FLOP, recorded 2 FLOP, over by 1 FLOP (+50.0 %)",
        "  layer_11 forward: 4 FLOP, recorded 2 FLOP, over by 2 FLOP (+100.0 %)",
    ]


def test_an_error_offers_no_way_to_accept_it():
    text = explain("b", [Verdict("error", False, message="nothing was counted")])
    assert "nothing was counted" in text
    assert "If the increase is meant" not in text


def test_a_verdict_survives_json():
    verdict = limit_verdict(2, 1, parts=(("a", 2, None), ("b", 1, 1)))
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
