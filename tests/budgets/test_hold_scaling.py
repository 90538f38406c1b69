"""Scaling limits held against sweeps."""

from __future__ import annotations

from math import ceil, log2

import pytest

from pytest_flops.budgets.budget import Location, ScalingLimit
from pytest_flops.budgets.judging.scaling import hold_scaling
from pytest_flops.budgets.judging.wording import headline
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.workload import Workload
from pytest_flops.scaling.sweep import sweep
from pytest_flops.scaling.workloads import sweep_workload

SIZES = (128, 256, 512)


def four_layers(n, *, product_in=None):
    """An lm_head of 10^7 n, four layers of 10^4 n, and in one of them a product of 8 n^2."""
    parts = {f"layer_{i}": FLOPsCount(10**4 * n, 2 * 10**4 * n) for i in range(4)}
    parts |= {f"layer_{i}.mix": FLOPsCount() for i in range(4)}
    if product_in is not None:
        mix = FLOPsCount(0, 8 * n * n)
        parts[f"layer_{product_in}"] += mix
        parts[f"layer_{product_in}.mix"] += mix
    parts["lm_head"] = FLOPsCount(10**7 * n, 2 * 10**7 * n)
    return parts


def measured(parts, count=None):
    if count is None:
        roots = [cost for path, cost in parts.items() if "." not in path]
        count = sum(roots, FLOPsCount())
    return Measurement(count, parts, "meter", "executed")


def swept(parts_at, sizes=SIZES):
    return sweep(lambda n: measured(parts_at(n)), "seq_len", sizes)


def judged(limit, found):
    return {
        (verdict.component, verdict.quantity): verdict for verdict in hold_scaling(limit, found)
    }


def test_a_linear_model_passes_in_total_and_in_every_phase():
    verdicts = hold_scaling(ScalingLimit("seq_len", SIZES, 1.0), swept(four_layers))
    assert [verdict.quantity for verdict in verdicts] == [
        "forward",
        "backward",
        "optimizer",
        "total",
    ]
    assert all(verdict.passed and verdict.kind == "scaling" for verdict in verdicts)
    assert [verdict.actual for verdict in verdicts] == [1.0, 1.0, 0.0, 1.0]


def test_one_quadratic_operation_in_one_layer_is_red_although_no_slope_shows_it():
    found = swept(lambda n: four_layers(n, product_in=2))
    assert found.of("total").fitted < 1.001
    verdicts = judged(ScalingLimit("seq_len", SIZES, 1.0), found)
    assert not verdicts[None, "total"].passed
    assert not verdicts[None, "backward"].passed
    assert verdicts[None, "forward"].passed
    total = verdicts[None, "total"]
    assert (total.actual, total.allowed, total.dimension) == (2.0, 1.0, "seq_len")


def test_the_component_and_phase_that_grow_fastest_are_named_with_their_counts():
    found = swept(lambda n: four_layers(n, product_in=2))
    verdict = judged(ScalingLimit("seq_len", SIZES, 1.0), found)[None, "total"]
    assert verdict.cause == "layer_2.mix grows as seq_len^2, allowed 1, in backward"
    # 8 n^2 at 128, 256, 512
    assert verdict.message == (
        "layer_2.mix backward = 8 * seq_len^2 (128: 131,072, 256: 524,288, 512: 2,097,152)"
    )


def test_a_quadratic_cost_outside_of_every_component_is_red_too():
    def count_at(n):
        return measured({"head": FLOPsCount(10**6 * n)}, FLOPsCount(10**6 * n + n * n))

    limit = ScalingLimit("seq_len", SIZES, 1.0)
    verdict = judged(limit, sweep(count_at, "seq_len", SIZES))[None, "forward"]
    assert not verdict.passed
    assert verdict.cause == ""  # no component grows so, and the verdict tells its exponent
    assert headline(verdict).startswith("forward grows as seq_len^2, allowed 1; the whole forward")


def test_an_exponent_equal_to_the_limit_passes_and_any_above_fails():
    found = swept(lambda n: four_layers(n, product_in=0))
    assert judged(ScalingLimit("seq_len", SIZES, 2.0), found)[None, "total"].passed
    assert not judged(ScalingLimit("seq_len", SIZES, 1.999999999), found)[None, "total"].passed


def test_components_have_limits_of_their_own():
    found = swept(lambda n: four_layers(n, product_in=3))
    limit = ScalingLimit("seq_len", SIZES, components={"layer_*.mix": 0.0, "lm_head": 1.0})
    verdicts = hold_scaling(limit, found)
    assert {verdict.component: verdict.passed for verdict in verdicts} == {
        "layer_0.mix": True,
        "layer_1.mix": True,
        "layer_2.mix": True,
        "layer_3.mix": False,
        "lm_head": True,
    }
    red = verdicts[3]
    assert (red.quantity, red.pattern, red.actual) == ("backward", "layer_*.mix", 2.0)


def test_a_pattern_that_matches_nothing_is_an_error():
    limit = ScalingLimit(
        "seq_len", SIZES, 1.0, {"layer_*.moo": 1.0}, Location("budgets/a.yaml", 7, 3)
    )
    error = hold_scaling(limit, swept(four_layers))[-1]
    assert (error.kind, error.passed, str(error.location)) == ("error", False, "budgets/a.yaml:7:3")
    assert "scaling over seq_len: the pattern 'layer_*.moo' matches no component" in error.message


def test_without_a_polynomial_the_largest_local_exponent_is_held():
    found = swept(lambda n: {"fft": FLOPsCount(n * int(log2(n)))}, (64, 256, 1024))
    # 64 * 6 to 256 * 8 is 16/3, and log(16/3) / log 4 = 1.2075
    verdict = judged(ScalingLimit("seq_len", SIZES, 1.2), found)[None, "forward"]
    assert not verdict.passed
    assert verdict.actual == pytest.approx(1.2075, abs=1e-4)
    assert "no polynomial" in verdict.message
    assert judged(ScalingLimit("seq_len", SIZES, 1.21), found)[None, "forward"].passed


def test_rounding_of_a_local_exponent_does_not_fail_a_limit_it_equals():
    def count_at(n):  # 3, 9 and 27 only: nothing else to probe, so no polynomial is verified
        if n not in (3, 9, 27):
            raise ValueError
        return measured({"head": FLOPsCount(n)})

    found = sweep(count_at, "seq_len", (3, 9, 27))
    assert found.of("forward").asymptotic is None
    assert judged(ScalingLimit("seq_len", SIZES, 1.0), found)[None, "forward"].passed


def test_a_quadratic_part_is_not_hidden_by_another_that_has_no_polynomial():
    def parts(n):  # the levels of a scan make the total no polynomial
        return {"scan": FLOPsCount(10**7 * n + int(log2(n))), "mix": FLOPsCount(n * n)}

    found = swept(parts, (96, 200, 512))
    total = found.of("total")
    assert total.asymptotic is None
    assert total.exponent < 1.1
    verdict = judged(ScalingLimit("seq_len", SIZES, 1.1), found)[None, "total"]
    assert (verdict.passed, verdict.actual) == (False, 2.0)
    assert verdict.cause == "mix grows as seq_len^2, allowed 1.1, in forward"


def test_a_strided_convolution_is_held_by_its_residue_classes():
    found = swept(lambda n: {"conv": FLOPsCount(10 * ceil(n / 2))}, (31, 64, 127))
    verdict = judged(ScalingLimit("seq_len", SIZES, 1.0), found)[None, "forward"]
    assert (verdict.passed, verdict.actual) == (True, 1.0)


def test_the_published_baseline_holds_its_limits():
    config = {"d_model": 64, "n_layers": 4, "n_seq": 128, "vocab_size": 30000}
    workload = Workload("resnet_bk", config, 32, 128)
    over_length = ScalingLimit("seq_len", (128, 256, 512, 1024, 2048), 1.0)
    over_width = ScalingLimit("d_model", (64, 128, 256), 2.0, {"layer_*.bk_core": 0.0})
    for limit in (over_length, over_width):
        verdicts = hold_scaling(limit, sweep_workload(workload, limit.dimension, limit.sizes))
        assert all(verdict.passed for verdict in verdicts)
    strict = ScalingLimit("d_model", (64, 128, 256), 1.5)
    found = sweep_workload(workload, "d_model", strict.sizes)
    red = judged(strict, found)[None, "forward"]
    assert not red.passed
    # in every layer, 8 D^2 and more per token, 32 * 128 tokens
    assert red.cause == ("layer_0..3.moe.experts x 4 grow as d_model^2, allowed 1.5, in forward")
    assert "= 32,768 * d_model^2" in red.message


def test_a_tolerance_lets_an_exponent_pass_by_so_much_and_no_more():
    # n log2 n from 128 to 256 grows by 2 * 8 / 7: the local exponent there is 1 + log2(8 / 7).
    found = swept(lambda n: {"sort": FLOPsCount(n * ceil(log2(n)))})
    local = 1 + log2(8 / 7)
    for tolerance, passes in ((local - 1, True), (local - 1.001, False), (0.0, False)):
        limit = ScalingLimit("seq_len", SIZES, 1.0, tolerance=tolerance)
        verdict = judged(limit, found)[None, "forward"]
        assert verdict.passed is passes
