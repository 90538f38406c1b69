"""Counts held against budgets. The figures are the published ResNet-BK baseline's or plain sums."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.budgets.budget import Budget, Limit, Location, Recorded
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement


def measured(components=None, count=None, **rest):
    components = {path: FLOPsCount(*cost) for path, cost in (components or {}).items()}
    if count is None:
        roots = [cost for path, cost in components.items() if "." not in path]
        count = sum(roots, FLOPsCount())
    else:
        count = FLOPsCount(*count)
    return Measurement(count, components, "analytic", "published", **rest)


def recorded(components=None, **rest):
    measurement = measured(components, **rest)
    return Recorded(measurement.count, measurement.components, Location("b.yaml", 9, 5))


def limit(quantity, flops, pattern=None):
    return Limit(quantity, flops, f"{flops} FLOP", pattern, Location("b.yaml", 7, 3))


BASELINE = measured(count=(16_287_760_384, 32_568_016_896, 62_191_800))
MODEL = {
    "embedding": (10, 10, 100),
    "layer_0": (100, 200, 30),
    "layer_0.moe": (70, 140, 20),
    "layer_0.bk_core": (20, 40, 0),
    "layer_1": (100, 200, 30),
    "layer_1.moe": (70, 140, 20),
    "layer_1.bk_core": (20, 40, 0),
    "lm_head": (1000, 2000, 300),
}


class TestLimits:
    @pytest.mark.parametrize(
        ("quantity", "flops"),
        [
            ("forward", 16_287_760_384),
            ("backward", 32_568_016_896),
            ("optimizer", 62_191_800),
            ("total", 48_917_969_080),
        ],
    )
    def test_a_limit_equal_to_the_count_passes_and_one_flop_less_does_not(self, quantity, flops):
        budget = Budget("b", limits=(limit(quantity, flops), limit(quantity, flops - 1)))
        equal, less = hold(budget, BASELINE, kinds=("limit",))
        assert equal.passed
        assert not less.passed
        assert (less.actual, less.allowed, less.quantity) == (flops, flops - 1, quantity)
        assert str(less.location) == "b.yaml:7:3"
        assert less.written == f"{flops - 1} FLOP"

    def test_a_pattern_holds_each_component_it_matches_alone(self):
        components = {**MODEL, "layer_1": (101, 200, 30)}
        budget = Budget("b", limits=(limit("forward", 100, "layer_*"),))
        first, second = hold(budget, measured(components), kinds=("limit",))
        assert (first.component, first.passed) == ("layer_0", True)
        assert (second.component, second.passed) == ("layer_1", False)
        assert second.pattern == "layer_*"

    def test_a_pattern_that_matches_no_component_is_an_error_that_names_near_ones(self):
        budget = Budget("b", limits=(limit("forward", 1, "lm_haed"), limit("total", 1, "lm_haed")))
        (verdict,) = hold(budget, measured(MODEL), kinds=("limit",))
        assert verdict.kind == "error"
        assert not verdict.passed
        assert "'lm_haed' matches no component; did you mean 'lm_head'?" in verdict.message
        assert str(verdict.location) == "b.yaml:7:3"

    def test_a_pattern_far_from_everything_gets_the_list_of_components(self):
        budget = Budget("b", limits=(limit("forward", 1, "Q"),))
        (verdict,) = hold(budget, measured(MODEL), kinds=("limit",))
        assert "there are embedding, layer_0" in verdict.message

    def test_a_pattern_against_a_count_without_components_is_an_error(self):
        budget = Budget("b", limits=(limit("forward", 1, "lm_head"),))
        (verdict,) = hold(budget, BASELINE, kinds=("limit",))
        assert not verdict.passed
        assert "no components at all" in verdict.message

    def test_a_budget_without_limits_has_no_verdicts(self):
        assert hold(Budget("b"), BASELINE, kinds=("limit",)) == ()


class TestPartsOfARedLimit:
    def parts(self, budget_limit, components=MODEL, record=None):
        budget = Budget("b", limits=(budget_limit,), recorded=record)
        return hold(budget, measured(components), kinds=("limit",))[0].parts

    def test_the_dearest_leaves_come_first_with_the_rest_of_their_parents(self):
        assert self.parts(limit("forward", 1)) == (
            ("lm_head", 1000, None),
            ("layer_0..1.moe x 2", 70 + 70, None),
            ("layer_0..1.bk_core x 2", 20 + 20, None),
            ("layer_0..1 (itself) x 2", 2 * (100 - 70 - 20), None),
            ("embedding", 10, None),
        )

    def test_under_a_component_only_its_own_parts_are_told(self):
        assert self.parts(limit("backward", 1, "layer_0")) == (
            ("layer_0.moe", 140, None),
            ("layer_0.bk_core", 40, None),
            ("layer_0 (itself)", 20, None),  # 200 - 140 - 40
        )

    def test_a_leaf_has_no_parts(self):
        assert self.parts(limit("forward", 1, "lm_head")) == ()

    def test_with_a_record_what_grew_is_told_rather_than_what_is_dear(self):
        grown = {**MODEL, "layer_1": (105, 200, 30), "layer_1.moe": (75, 140, 20)}
        assert self.parts(limit("forward", 1), grown, recorded(MODEL)) == (("layer_1.moe", 75, 5),)

    def test_with_a_record_that_did_not_grow_what_is_dear_is_told(self):
        parts = self.parts(limit("forward", 1), MODEL, recorded(MODEL))
        assert parts[0] == ("lm_head", 1000, None)

    def test_cost_outside_every_component_is_a_row(self):
        budget = Budget("b", limits=(limit("forward", 1),))
        measurement = measured({"a": (5, 0, 0)}, count=(12, 0, 0))
        assert hold(budget, measurement, kinds=("limit",))[0].parts == (
            ("(outside modules)", 7, None),
            ("a", 5, None),
        )

    def test_a_green_limit_needs_no_explanation(self):
        assert self.parts(limit("forward", 10**6)) == ()


def held(before, now, tolerance=None, own="0%", **rest):
    budget = Budget("b", recorded=recorded(before), tolerance=Fraction(own.rstrip("%")) / 100)
    return hold(budget, measured(now, **rest), tolerance=tolerance, kinds=("recorded",))


def red(verdicts):
    return {(verdict.component, verdict.quantity) for verdict in verdicts if not verdict.passed}


class TestRecorded:
    def test_without_a_record_there_is_nothing_to_hold(self):
        assert hold(Budget("b"), BASELINE, kinds=("recorded",)) == ()

    def test_the_same_count_passes_in_whole_and_in_every_component(self):
        verdicts = held(MODEL, MODEL)
        assert red(verdicts) == set()
        held_things = {(verdict.component, verdict.quantity) for verdict in verdicts}
        assert {(None, q) for q in ("forward", "backward", "optimizer", "total")} <= held_things
        assert {("lm_head", q) for q in ("forward", "backward", "optimizer")} <= held_things
        assert ("layer_0.bk_core", "optimizer") not in held_things  # 0 before and after

    def test_one_flop_more_in_one_phase_of_one_component_is_red_there_and_above(self):
        grown = {**MODEL, "layer_1": (100, 201, 30), "layer_1.moe": (70, 141, 20)}
        assert red(held(MODEL, grown)) == {
            (None, "backward"),
            (None, "total"),
            ("layer_1", "backward"),
            ("layer_1.moe", "backward"),
        }

    def test_a_component_that_grew_is_red_although_another_one_shrank_as_much(self):
        moved = {**MODEL, "embedding": (9, 10, 100), "lm_head": (1001, 2000, 300)}
        assert red(held(MODEL, moved)) == {("lm_head", "forward")}

    def test_a_cost_where_none_was_recorded_is_red(self):
        grown = {**MODEL, "layer_0.bk_core": (20, 40, 1), "layer_0": (100, 200, 31)}
        assert ("layer_0.bk_core", "optimizer") in red(held(MODEL, grown))

    def test_a_red_verdict_carries_base_bound_and_what_grew(self):
        grown = {
            **MODEL,
            "layer_1": (107, 200, 30),
            "layer_1.moe": (75, 140, 20),
            "embedding": (11, 10, 100),
        }
        verdict = next(v for v in held(MODEL, grown) if not v.passed)
        assert (verdict.component, verdict.quantity) == (None, "forward")
        assert verdict.recorded == verdict.allowed == 10 + 100 + 100 + 1000
        assert verdict.actual == 1218
        assert str(verdict.location) == "b.yaml:9:5"
        assert verdict.parts == (
            ("layer_1.moe", 75, 5),
            ("layer_1 (itself)", 12, 2),  # 107 - 75 - 20 now, 100 - 70 - 20 then
            ("embedding", 11, 1),
        )

    def test_the_four_parts_that_grew_most_are_told_and_the_others_summed_up(self):
        before = {f"c{'abcdefghi'[i]}": (10, 0, 0) for i in range(9)}
        now = {f"c{'abcdefghi'[i]}": (10 + i, 0, 0) for i in range(9)}
        verdict = next(v for v in held(before, now) if not v.passed)
        names = ["ci", "ch", "cg", "cf", "and 4 more"]
        assert [row[0] for row in verdict.parts] == names
        assert verdict.parts[-1][1:] == (14 + 13 + 12 + 11, 4 + 3 + 2 + 1)
        assert verdict.cause == "ci, ch and 6 more grew by 36 FLOP in forward"  # 8 + 7 + ... + 1

    def test_components_of_one_name_and_other_numbers_are_one_row_if_they_grew(self):
        before = {f"layer_{i}": (10, 0, 0) for i in range(12)} | {"conv1": (10, 0, 0)}
        now = {f"layer_{i}": (13, 0, 0) for i in range(10)} | {
            "layer_10": (10, 0, 0),
            "layer_11": (15, 0, 0),
            "conv1": (14, 0, 0),
        }
        verdict = next(v for v in held(before, now) if not v.passed)
        assert verdict.parts == (
            ("layer_{0..9,11} x 11", 10 * 13 + 15, 10 * 3 + 5),
            ("conv1", 14, 4),
        )
        assert verdict.cause == "layer_{0..9,11} x 11 and conv1 grew by 39 FLOP in forward"

    def test_parts_of_a_list_of_lists_keep_the_number_that_is_their_name(self):
        blocks = ["0", "1", "2"]
        parts = [f"{block}.{part}" for block in blocks for part in (0, 2)]
        before = dict.fromkeys(blocks, (20, 0, 0)) | dict.fromkeys(parts, (10, 0, 0))
        now = dict.fromkeys(blocks, (26, 0, 0)) | dict.fromkeys(parts, (13, 0, 0))
        verdict = next(v for v in held(before, now) if not v.passed)
        assert verdict.parts == (("0..2.0 x 3", 39, 9), ("0..2.2 x 3", 39, 9))

    def test_new_components_are_told_and_explain_the_growth(self):
        now = {**MODEL, "layer_2": (100, 200, 30), "layer_2.moe": (70, 140, 20), "idle": (0, 0, 0)}
        verdicts = held(MODEL, now)
        remarks = {v.component: v.message for v in verdicts if v.message}
        assert remarks == {
            "layer_2": "new since the record",
            "layer_2.moe": "new since the record",
        }
        total = next(v for v in verdicts if (v.component, v.quantity) == (None, "total"))
        assert not total.passed
        assert total.parts == (("layer_2.moe", 230, 230), ("layer_2 (itself)", 100, 100))

    def test_components_deeper_than_the_record_are_not_called_new(self):
        now = {**MODEL, "layer_0.moe.gate": (1, 2, 3)}
        assert not [v for v in held(MODEL, now) if v.message]

    def test_the_number_in_a_list_of_modules_is_no_depth(self):
        before = {"enc": (7, 0, 0), "enc.layers": (7, 0, 0), "enc.layers.0": (7, 0, 0)}
        before |= {"a": (5, 0, 0), "a.b": (5, 0, 0)}
        now = {**before, "a.b.c": (5, 0, 0)}  # too deep for the record; it never stood there
        assert not [verdict for verdict in held(before, now) if verdict.message]
        now |= dict.fromkeys(("enc", "enc.layers", "enc.layers.0"), (9, 0, 0))
        total = next(v for v in held(before, now) if not v.passed)
        assert total.parts == (("enc.layers.0", 9, 2),)

    def test_gone_components_are_told(self):
        now = {path: cost for path, cost in MODEL.items() if path != "embedding"}
        verdicts = held(MODEL, now)
        (gone,) = [v for v in verdicts if v.component == "embedding"]
        assert gone.passed
        assert "gone" in gone.message
        assert (gone.actual, gone.recorded) == (0, 120)

    def test_a_count_below_its_record_passes_and_says_how_much_cheaper(self):
        verdicts = held({"a": (1000, 0, 0)}, {"a": (900, 0, 0)})
        forward = verdicts[0]
        assert forward.passed
        assert forward.message == "cheaper than recorded by 100 FLOP (-10.0 %)"

    @pytest.mark.parametrize(("now", "passed"), [(1015, True), (1016, False)])
    def test_the_tolerance_allows_the_whole_flops_within_it(self, now, passed):
        # 1.55 % above 1000 is 1015.5, so 1015 passes and 1016 does not.
        verdicts = held({"a": (1000, 0, 0)}, {"a": (now, 0, 0)}, own="1.55%")
        assert all(verdict.passed for verdict in verdicts) is passed
        assert verdicts[0].allowed == 1015
        assert verdicts[0].written == "1.55%"

    def test_a_tolerance_given_replaces_the_budgets_own(self):
        verdicts = held({"a": (100, 0, 0)}, {"a": (105, 0, 0)}, tolerance=Fraction(0), own="10%")
        assert red(verdicts)
        verdicts = held({"a": (100, 0, 0)}, {"a": (105, 0, 0)}, tolerance=Fraction(1, 10))
        assert not red(verdicts)

    def test_tolerance_is_exact_at_sizes_that_floats_cannot_hold(self):
        base = 10**30 + 1
        verdicts = held({"a": (base, 0, 0)}, {"a": (base + 1, 0, 0)})
        assert ("a", "forward") in red(verdicts)

    @given(st.integers(0, 10**20), st.integers(0, 10**20), st.fractions(0, 2))
    def test_a_count_passes_exactly_when_it_is_within_the_tolerance(self, base, now, tolerance):
        verdict = held({"a": (base, 0, 0)}, {"a": (now, 0, 0)}, tolerance)[-1]
        assert verdict.passed == (now <= base + base * tolerance)


class TestMeasurement:
    def test_a_good_count_has_no_errors(self):
        assert hold(Budget("b"), BASELINE, kinds=()) == ()

    def test_a_count_of_nothing_is_an_error(self):
        (verdict,) = hold(Budget("b"), measured(), kinds=())
        assert (verdict.kind, verdict.passed) == ("error", False)
        assert "nothing was counted" in verdict.message

    @pytest.mark.parametrize("phase", ["forward", "backward", "optimizer"])
    def test_a_count_below_0_is_an_error_however_much_the_rest_costs(self, phase):
        count = FLOPsCount(10**9, 10**9, 10**9) + FLOPsCount(**{phase: -(10**9) - 5})
        (verdict,) = hold(Budget("b"), replace(BASELINE, count=count), kinds=())
        assert (verdict.kind, verdict.passed) == ("error", False)
        assert verdict.message == f"{phase} is -5 FLOP; no work costs less than 0"

    def test_each_uncounted_operator_is_an_error_that_says_how_to_give_it_a_cost(self):
        measurement = replace(BASELINE, uncounted={"my.op": 3, "aten.fft": 1})
        first, second = hold(Budget("b"), measurement, kinds=())
        assert "my.op ran 3 times" in first.message
        assert "aten.fft ran once" in second.message
        for verdict in (first, second):
            assert not verdict.passed
            assert "pytest_flops_register_costs" in verdict.message

    def test_a_call_in_a_thread_is_an_error_that_says_where_to_start_the_thread(self):
        uncounted = {"(module Linear in thread worker (2))": 1}
        (verdict,) = hold(Budget("b"), replace(BASELINE, uncounted=uncounted), kinds=())
        assert not verdict.passed
        assert verdict.message.startswith("not counted: module Linear in thread worker (2), so")
        assert "start the thread inside what is counted" in verdict.message
        assert "register" not in verdict.message


class TestVanishedPhases:
    """A phase that is bounded above 0 and counts 0 was not run; no bound would see it."""

    COUNT = Measurement(FLOPsCount(1000, 0, 0), {}, source="meter", rules="executed")

    @pytest.mark.parametrize("phase", ["backward", "optimizer"])
    def test_a_limit_on_a_phase_that_did_not_run_is_an_error(self, phase):
        limit = Limit(phase, 1_000_000, "1 MFLOP", location=Location("b.yaml", 4, 7))
        errors = [v for v in hold(Budget("b", limits=(limit,)), self.COUNT) if not v.passed]
        assert [v.kind for v in errors] == ["error"]
        assert f"{phase} is 0 FLOP, so its limit of 1 MFLOP is held against nothing" in str(errors)
        assert str(errors[0].location) == "b.yaml:4:7"

    def test_so_is_a_recorded_count(self):
        budget = Budget("b", recorded=Recorded(FLOPsCount(1000, 2000, 10)))
        errors = [v for v in hold(budget, self.COUNT) if not v.passed]
        assert [v.message.partition(" ")[0] for v in errors] == ["backward", "optimizer"]

    def test_a_limit_of_0_is_held_by_0_and_a_total_is_no_phase(self):
        limits = (Limit("backward", 0, "0"), Limit("total", 10**6, "1 MFLOP"))
        assert all(v.passed for v in hold(Budget("b", limits=limits), self.COUNT))
