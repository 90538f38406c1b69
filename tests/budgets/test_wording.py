"""What people read when a gate goes red."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_flops.budgets.budget import Budget, Limit, Location, Recorded
from pytest_flops.budgets.judging.causes import causes
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.budgets.judging.wording import acceptance, explain, headline
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import PHASES, FLOPsCount
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
    assert headline(verdict) == ("layer_0.attn total grows as seq_len^1.9942, allowed 1")


def test_exponents_that_would_print_alike_are_printed_whole():
    verdict = Verdict("scaling", False, "total", actual=1.00001, allowed=1.0, dimension="seq_len")
    assert "grows as seq_len^1.00001, allowed 1.0" in headline(verdict)


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
            FLOPsCount(1_100_000, 2_200_000, 0), model, Location("budgets/b.lock.json", 20, 5)
        ),
    )
    measurement = Measurement(FLOPsCount(1_130_000, 2_200_000, 0), grown, "analytic", "published")
    verdicts = (
        *hold(budget, measurement, kinds=("limit",)),
        *hold(budget, measurement, kinds=("recorded",)),
    )
    return explain(budget.name, verdicts, location=Location("budgets/b.yaml", 3, 3))


def test_the_whole_message_says_why_by_how_much_and_what_to_do():
    assert whole_explanation() == "\n".join(
        [
            "layer_0.moe grew by 30 kFLOP in forward",
            "total: 3.33 MFLOP, recorded 3.3 MFLOP, over by 30 kFLOP (+0.9 %)",
            # Red besides: the limit and the record of forward, of layer_0 and of layer_0.moe.
            # Green: lm_head's limit; backward and optimizer; backward of the three components,
            # and lm_head's forward.
            "budget 'baseline' does not hold (budgets/b.yaml:3:3); 4 comparisons follow from",
            "  it; 7 others hold",
            "write 1.13 MFLOP to allow it: forward, budgets/b.yaml:7:16",
            "run pytest --flops-update and commit budgets/b.lock.json, if it is meant",
        ]
    )


def test_a_record_without_components_says_what_costs_most():
    budget = Budget("b", recorded=Recorded(FLOPsCount(1, 0, 0)))
    measurement = Measurement(
        FLOPsCount(2, 0, 0), {"lm_head": FLOPsCount(2, 0, 0)}, "meter", "executed"
    )
    text = explain("b", hold(budget, measurement, kinds=("recorded",)))
    assert "\n  most of it   total\n  lm_head     2 FLOP\n" in text


def test_of_very_many_red_comparisons_the_first_are_told_and_the_others_counted():
    red = [Verdict("limit", False, "forward", f"{'abcde'[i % 5] * i}", 2, 1) for i in range(1, 101)]
    lines = explain("b", red).splitlines()
    assert len(lines) <= 12
    assert lines[0] == "aaaaa forward: 2 FLOP, limit 1 FLOP, over by 1 FLOP (+100.0 %)"
    assert "and 96 more" in lines


def test_the_same_said_of_components_that_differ_in_their_numbers_is_said_once():
    layers = [Verdict("recorded", False, "forward", f"layer_{i}", 3, 2, "0%", 2) for i in range(11)]
    lines = explain("b", layers).splitlines()
    assert lines[0] == (
        "each of layer_0..10 forward: 3 FLOP, recorded 2 FLOP, over by 1 FLOP (+50.0 %)"
    )
    assert "layer" not in "".join(lines[1:])


def test_of_components_that_differ_in_their_numbers_the_furthest_over_is_told():
    layers = [Verdict("limit", False, "forward", f"layer_{i}", 3 + i, 2) for i in range(11)]
    text = explain("b", layers)
    assert text.splitlines()[0].startswith("layer_10 forward: 13 FLOP, limit 2 FLOP")
    assert "10 comparisons follow from it" in text


WHOLE = Verdict("recorded", False, "total", None, 36, 24, "0%", 24)
COMPONENT = Verdict("recorded", False, "forward", "head", 4, 2, "0%", 2)
FASTER = Verdict("scaling", False, "total", None, 2.0, 1.0, dimension="seq_len")


@pytest.mark.parametrize(
    ("first", "other", "follows"),
    [
        (WHOLE, COMPONENT, True),
        (WHOLE, replace(WHOLE, quantity="backward"), True),
        (WHOLE, replace(WHOLE, kind="limit", component="head"), True),
        (WHOLE, replace(WHOLE, quantity="bytes total"), False),
        (replace(WHOLE, quantity="forward"), COMPONENT, True),
        (replace(WHOLE, quantity="forward"), replace(COMPONENT, quantity="backward"), False),
        (COMPONENT, replace(COMPONENT, component="head.0"), True),
        (COMPONENT, replace(COMPONENT, component="headless"), False),
        (COMPONENT, replace(COMPONENT, component="neck"), False),
        (WHOLE, Verdict.error("nothing was counted"), False),
        (FASTER, WHOLE, False),
        (FASTER, replace(FASTER, quantity="forward", actual=1.5), True),
        (FASTER, replace(FASTER, component="head"), True),
        (FASTER, replace(FASTER, component="head", actual=1.5), False),
        (FASTER, replace(FASTER, dimension="width"), False),
    ],
)
def test_what_follows_from_a_cause_is_told_in_a_number(first, other, follows):
    """In whatever order they come."""
    for red in ((first, other), (other, first)):
        found = causes(red)
        assert [len(cause.following) for cause in found] == ([1] if follows else [0, 0])
        assert not follows or found[0].verdict == first


def test_counters_that_disagree_are_told_where_they_do_and_not_above():
    whole = Verdict("parity", False, "forward", None, 7, 5)
    inner = [replace(whole, component=path) for path in ("layer_0", "layer_0.moe")]
    (cause,) = causes((whole, *inner))
    assert (cause.verdict.component, len(cause.following)) == ("layer_0.moe", 2)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([16_287_760_384], "write 16.3 GFLOP to allow it"),
        ([1_000, 1_001], "write 1.01 kFLOP to allow it"),
        ([7], "write 7 FLOP to allow it"),
        ([999_500], "write 1 MFLOP to allow it"),
    ],
)
def test_a_red_limit_says_the_value_to_write_for_the_largest_that_it_holds(counts, words):
    red = [limit_verdict(count, 5, pattern="lm_*", location=HERE) for count in counts]
    assert acceptance(red) == [f"{words}: lm_* forward, budgets/b.yaml:7:16"]


def test_of_many_red_limits_the_one_that_is_told_is_the_first_to_write():
    limits = dict.fromkeys(("forward", "backward", "optimizer"), 5) | {"total": 15}
    budget = Budget(
        "b", limits=tuple(Limit(each, most, f"{most}") for each, most in limits.items())
    )
    red = hold(budget, Measurement(FLOPsCount(7, 8, 9), {}, "meter", "executed"))
    assert acceptance(red)[0].startswith("write 24 FLOP to allow it: total, ")
    assert acceptance(red)[-1] == "and 1 more limit"


BEFORE = {"a": FLOPsCount(100, 200, 20), "b": FLOPsCount(10, 20, 2)}
OPERATIONS = {"aten.mm": FLOPsCount(110, 220, 0), "aten.add_": FLOPsCount(0, 0, 22)}


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ((1, 1, 2), "Optimizer.step ran 2 times"),
        ((2, 1, 1), "the forward ran 2 times"),
        ((1, 3, 1), "the backward ran 3 times"),
        ((2, 2, 1), "the forward ran 2 times and the backward ran 2 times, or on more data"),
        ((2, 1, 3), "the forward ran 2 times and Optimizer.step ran 3 times"),
        # As wider layers would be, too: 110 + 220 + 22 more.
        ((2, 2, 2), "a and b grew by 352 FLOP: aten.mm (+330 FLOP), aten.add_ (+22 FLOP)"),
    ],
)
def test_a_phase_that_ran_again_is_told_instead_of_all_its_components(times, told):
    def again(costs):
        return {name: FLOPsCount(*(n * c.of(p) for n, p in zip(times, PHASES, strict=True)))
                for name, c in costs.items()}  # fmt: skip

    def whole(costs):
        return sum(costs.values(), FLOPsCount())

    recorded = Recorded(whole(BEFORE), BEFORE, operations=OPERATIONS)
    now = again(BEFORE)
    measurement = Measurement(whole(now), now, "meter", "executed", operations=again(OPERATIONS))
    (cause,) = causes(tuple(v for v in hold(Budget("b", recorded=recorded), measurement)
                            if not v.passed))  # fmt: skip
    assert cause.verdict.cause == told


def test_an_error_offers_no_way_to_accept_it():
    text = explain("b", [Verdict("error", False, message="nothing was counted")])
    assert "nothing was counted" in text
    assert "allow it" not in text
    assert "if it is meant" not in text


def test_a_verdict_survives_json():
    verdict = limit_verdict(2, 1, parts=(("a", 2, None), ("b", 1, 1)))
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
