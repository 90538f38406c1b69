"""Sweeps of plain functions: exponents, formulas, what was counted, and what is refused."""

from __future__ import annotations

import json
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.measured import COUNTED_UP_TO
from pytest_flops.scaling.sweep import Sweep, sweep


class Model:
    """Counts by functions of the size, and remembers at which sizes it was asked to."""

    def __init__(self, forward, *, source="analytic", uncounted=None, **components):
        self.forward = forward
        self.components = components
        self.source = source
        self.uncounted = uncounted or {}
        self.asked = []

    def __call__(self, size):
        self.asked.append(size)
        parts = {path: cost(size) for path, cost in self.components.items()}
        return Measurement(
            FLOPsCount(self.forward(size)),
            {path: FLOPsCount(cost) for path, cost in parts.items() if cost is not None},
            self.source,
            "executed",
            uncounted=self.uncounted,
        )


def seven(_size):
    return 7


def forward_of(model, sizes, dimension="seq_len"):
    return sweep(model, dimension, sizes).of("forward")


def test_counts_and_exponents_of_a_linear_cost():
    growth = forward_of(Model(lambda n: 96 * n), [128, 256, 512, 1024, 2048])
    assert growth.counts == (12288, 24576, 49152, 98304, 196608)
    assert growth.fitted == pytest.approx(1.0)
    assert growth.fit_error == pytest.approx(0.0, abs=1e-12)
    assert growth.local == pytest.approx((1.0, 1.0, 1.0, 1.0))
    assert (growth.asymptotic, growth.exponent) == (1, 1.0)
    assert growth.polynomial == "96 * seq_len"


def test_a_quadratic_term_too_small_for_any_slope_is_seen():
    growth = forward_of(Model(lambda n: 3 * n * n + 10**6 * n), [64, 128, 256])
    assert growth.fitted < 1.001
    assert growth.exponent == 2.0
    assert growth.polynomial == "3 * seq_len^2 + 1,000,000 * seq_len"


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=5),
    st.sets(st.integers(1, 2000), min_size=3, max_size=6),
    st.sampled_from(["analytic", "meter"]),
)
def test_the_exponent_of_any_polynomial_is_its_degree(coefficients, sizes, source):
    def cost(n):
        return sum(factor * n**power for power, factor in enumerate(coefficients))

    degree = max((power for power, factor in enumerate(coefficients) if factor), default=0)
    model = Model(cost, source=source, head=lambda n: n)
    assert forward_of(model, sorted(sizes)).asymptotic == degree


def test_the_size_at_which_the_quadratic_term_takes_over_is_told():
    growth = forward_of(Model(lambda n: 288 * n * n + 56768 * n), [64, 128, 256])
    assert "degree 2 overtakes the rest at seq_len = 198" in growth.note


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_three_sizes_suffice_for_every_degree_up_to_four(degree):
    model = Model(lambda n: n**degree + 5, other=lambda n: n)
    assert forward_of(model, [4, 8, 16]).asymptotic == degree


def test_each_component_and_phase_has_its_own_growth():
    model = Model(lambda n: 5 * n + 2 * n * n, mix=lambda n: 2 * n * n, head=lambda n: 5 * n)
    found = sweep(model, "seq_len", [8, 16, 32])
    assert found.of("forward", "mix").exponent == 2
    assert found.of("forward", "head").exponent == 1
    assert found.of("backward", "mix").exponent == 0


def test_constant_and_zero_costs_have_exponent_zero():
    model = Model(lambda n: n, fixed=seven)
    found = sweep(model, "seq_len", [8, 16, 32])
    assert found.of("forward", "fixed").exponent == 0.0
    assert found.of("optimizer").exponent == 0.0


def test_sizes_may_come_in_any_order():
    assert sweep(Model(lambda n: n), "seq_len", [32, 8, 16]).sizes == (8, 16, 32)


def test_a_sweep_survives_json():
    found = sweep(Model(lambda n: n, fixed=seven), "seq_len", [8, 16, 32])
    assert Sweep.from_dict(json.loads(json.dumps(found.to_dict()))) == found


# No polynomial, or not everywhere.


def test_a_cost_of_n_log_n_has_no_polynomial_and_says_so():
    growth = forward_of(Model(lambda n: n * int(log2(n))), [64, 256, 1024])
    assert growth.asymptotic is None
    assert growth.polynomial is None
    # 64 * 6 to 256 * 8 is 16/3, and log(16/3) / log 4 = 1.2075
    assert growth.exponent == pytest.approx(1.2075, abs=1e-4)
    assert growth.note == "no polynomial in seq_len: the largest local exponent counts"


def test_a_strided_convolution_is_exact_in_residue_classes():
    def conv(n):  # kernel 3, stride 2: floor((n - 3) / 2) + 1 positions of 10 FLOPs
        return 10 * ((n - 3) // 2 + 1)

    growth = forward_of(Model(conv), [31, 64, 127, 200])
    assert growth.exponent == 1.0
    assert growth.note == "exact within residue classes of seq_len modulo 2"
    assert "5 * seq_len - 10 where seq_len % 2 = 0" in growth.polynomial
    assert "5 * seq_len - 5 where seq_len % 2 = 1" in growth.polynomial


def test_a_quadratic_part_behind_a_stride_is_still_seen():
    growth = forward_of(Model(lambda n: 10**6 * ceil(n / 4) + ceil(n / 4) ** 2), [30, 63, 128])
    assert growth.fitted < 1.05
    assert growth.exponent == 2.0


def test_a_cost_that_turns_quadratic_only_at_the_largest_size_is_not_taken_for_linear():
    growth = forward_of(
        Model(lambda n: n if n <= 1024 else n * n, source="meter"), [128, 256, 512, 1024, 2048]
    )
    assert growth.asymptotic is None
    # 1024 to 2048^2 = 2^22: a step of 12 in log2
    assert growth.exponent == pytest.approx(12.0)


def test_steps_of_a_ceiling_between_close_sizes_are_not_taken_for_a_constant():
    model = Model(lambda n: 64 * ceil(n / 64), source="meter")
    growth = forward_of(model, [30000, 50257, 128000], "vocab_size")
    assert growth.exponent == 1.0
    assert growth.counts == (30016, 50304, 128000)


def test_small_sizes_that_cost_something_else_do_not_hide_the_polynomial():
    def window(n):  # attention within a window of 256
        return n * min(n, 256)

    growth = forward_of(Model(window), [128, 256, 512, 1024, 2048])
    assert growth.asymptotic == 1
    assert growth.polynomial == "256 * seq_len"
    assert growth.note == "costs something else at seq_len = 128"


def test_experts_left_empty_by_few_tokens_do_not_hide_the_polynomial():
    def experts(batch):  # a bias of 10 FLOPs for each of at most 8 experts that got a token
        return 100 * batch + 10 * min(batch, 8)

    growth = forward_of(Model(experts), [1, 8, 16, 32, 64], "batch_size")
    assert growth.polynomial == "100 * batch_size + 80"


def test_a_component_that_exists_only_in_deep_models_is_judged_where_it_exists():
    layers = {f"layer_{i}": (lambda depth, i=i: 50 if i < depth else None) for i in range(16)}
    found = sweep(Model(lambda depth: 50 * depth, **layers), "n_layers", [2, 4, 8])
    growth = found.of("forward", "layer_5")
    assert growth.counts == (0, 0, 50)
    assert growth.exponent == 0.0
    assert "exists only at n_layers = 8" in growth.note
    with pytest.raises(KeyError):
        found.of("forward", "layer_12")


# What is counted, and how often.


def test_the_analytic_counter_is_asked_at_every_size():
    model = Model(lambda n: n)
    forward_of(model, [8, 16, 10**9])
    assert {8, 16, 10**9} <= set(model.asked)


def test_the_number_of_counts_of_a_metered_sweep_does_not_depend_on_its_largest_size():
    def work(largest):
        model = Model(lambda n: 3 * n * n + n, source="meter")
        growth = forward_of(model, [64, 128, 256, largest // 2, largest])
        assert growth.counts[-1] == 3 * largest**2 + largest
        assert f"evaluated, not counted, at seq_len = {largest // 2:,}" in growth.note
        return model.asked

    few, many = work(2**20), work(2**30)
    assert len(few) == len(many)
    assert [size for size in many if size > 512] == [2**30]


def test_a_metered_cost_that_changes_at_the_largest_size_is_not_extrapolated():
    model = Model(lambda n: n if n <= COUNTED_UP_TO else n * n, source="meter")
    growth = forward_of(model, [1024, 2048, 8192, 16384])
    assert growth.counts[2:] == (8192**2, 16384**2)
    assert growth.exponent >= 2


def test_a_metered_size_within_reach_is_counted():
    model = Model(lambda n: n, source="meter")
    growth = forward_of(model, [64, 128, COUNTED_UP_TO])
    assert COUNTED_UP_TO in model.asked
    assert growth.note == ""


def test_a_metered_cost_without_a_polynomial_is_counted_at_every_size():
    model = Model(lambda n: n * int(log2(n)), source="meter")
    forward_of(model, [64, 128, 10**6])
    assert 10**6 in model.asked


def test_a_size_counted_for_one_part_is_held_against_the_formulas_of_all():
    model = Model(
        lambda n: n if n < 10**6 else n * n, source="meter", scan=lambda n: n * int(log2(n))
    )
    growth = forward_of(model, [64, 128, 10**6])
    assert growth.counts[-1] == 10**12
    assert growth.asymptotic is None


def test_probing_stays_near_the_sizes_asked_for():
    model = Model(lambda n: n * int(log2(n)), source="meter")
    forward_of(model, [100, 201, 403])
    assert max(model.asked) <= COUNTED_UP_TO
    assert len(model.asked) <= 40


def test_no_size_is_counted_twice():
    model = Model(lambda n: ceil(n / 4) ** 2)
    forward_of(model, [30, 63, 128])
    assert len(model.asked) == len(set(model.asked))


# What is refused.


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "at least three sizes, not none"),
        ([128, 256], "at least three sizes, not 128, 256"),
        ([128, 256, 256, 512], "sizes are repeated: 256"),
        ([128, 256.0, 512], "integers of at least 1, not 256.0"),
        ([128, "256", 512], "integers of at least 1, not '256'"),
        ([True, 2, 3], "integers of at least 1, not True"),
        ([0, 1, 2], "integers of at least 1, not 0"),
        (128, "a list of integers, not 128"),
    ],
)
def test_sizes_that_are_no_sweep_are_refused(sizes, message):
    with pytest.raises(ScalingError, match=f"^seq_len: .*{message}"):
        sweep(Model(lambda n: n), "seq_len", sizes)


def test_a_sweep_that_changes_nothing_is_refused():
    with pytest.raises(ScalingError, match=r"seq_len: the sweep changed nothing.*total 7"):
        sweep(Model(seven, head=seven), "seq_len", [8, 16, 32])


def test_a_change_inside_one_component_is_a_change():
    moved = sweep(Model(seven, head=lambda n: min(n, 20)), "seq_len", [8, 16, 32])
    assert moved.of("forward").exponent == 0.0


def rejecting(reason, rejects):
    def cost(n):
        if rejects(n):
            raise ValueError(reason)
        return 7 * n

    return Model(cost)


def test_every_size_the_model_rejects_is_named_with_its_reason():
    model = rejecting("position table is too short", lambda n: n > 256)
    message = r"seq_len = 512, 1,024 is rejected: ValueError: position table is too short"
    with pytest.raises(ScalingError, match=message):
        sweep(model, "seq_len", [128, 256, 512, 1024])


def test_a_probing_size_that_the_model_rejects_does_not_fail_the_sweep():
    model = rejecting("position table is too short", lambda n: n > 512)
    growth = forward_of(model, [128, 256, 512])
    assert growth.polynomial == "7 * seq_len"


def test_probing_keeps_what_the_sizes_have_in_common():
    model = rejecting("width is not divisible by 12 heads", lambda n: n % 12)
    assert forward_of(model, [768, 1536, 3072], "d_model").polynomial == "7 * d_model"


def test_a_model_that_takes_no_other_sizes_leaves_the_local_exponents():
    model = rejecting("no", lambda n: n not in (8, 16, 32))
    growth = forward_of(model, [8, 16, 32])
    assert growth.asymptotic is None
    assert growth.exponent == pytest.approx(1.0)


def test_operators_without_a_cost_are_refused():
    model = Model(lambda n: n, uncounted={"aten.fft": 3})
    with pytest.raises(ScalingError, match=r"seq_len = 8: .*aten\.fft \(3\)"):
        sweep(model, "seq_len", [8, 16, 32])
