"""Exact cost formulas in several dimensions."""

from __future__ import annotations

import json
from math import log2

import pytest

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.config import ResNetBKConfig
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.explain import explain
from pytest_flops.scaling.workloads import explain_workload

BASELINE = Workload("resnet_bk", {"d_model": 64, "n_layers": 4, "n_seq": 128}, 32, 128)


def counting(forward, asked=None, uncounted=None):
    def count_at(**sizes):
        if asked is not None:
            asked.append(sizes)
        cost = forward(**sizes)
        components = {"attn": FLOPsCount(cost)}
        return Measurement(
            FLOPsCount(cost), components, "meter", "executed", uncounted=uncounted or {}
        )

    return count_at


def transformer(batch_size, seq_len):
    return 288 * batch_size * seq_len**2 + 56768 * batch_size * seq_len


def test_the_baseline_is_printed_as_its_formula():
    text = explain_workload(BASELINE).to_text().splitlines()
    # 16,287,760,384 / (32 * 128) = 3,976,504
    assert text[0] == "forward = 3,976,504 * batch_size * seq_len"
    at = text.index("layer_3.bk_core")
    # 34 N forward and 26 N backward per sequence
    assert text[at + 1] == "  forward = 34 * batch_size * seq_len"
    assert text[at + 2] == "  backward = 26 * batch_size * seq_len"


def test_the_formula_at_a_million_equals_the_analytic_counter():
    million = ResNetBKConfig(n_seq=10**6)
    counted = FLOPsCounter.from_config(million, 7, 10**6).measurement("adamw")
    found = explain_workload(BASELINE)
    for quantity in ("forward", "backward", "optimizer", "total"):
        at = {"batch_size": 7, "seq_len": 10**6}
        assert found.of(quantity)(**at) == counted.count.of(quantity)
        for path, cost in counted.components.items():
            assert found.of(quantity, path)(**at) == cost.of(quantity)


def test_five_dimensions_at_once_equal_the_analytic_counter_far_away():
    dimensions = ["batch_size", "seq_len", "d_model", "n_layers", "vocab_size"]
    workload = Workload("resnet_bk", {**BASELINE.config, "vocab_size": 1000}, 32, 128)
    found = explain_workload(workload, dimensions)
    far = ResNetBKConfig(d_model=768, n_layers=24, vocab_size=50257, n_seq=4096)
    counted = FLOPsCounter.from_config(far, 3, 4096).measurement("adamw")
    sizes = (3, 4096, 768, 24, 50257)
    assert found.of("total")(**dict(zip(dimensions, sizes, strict=True))) == counted.count.total


def test_a_transformer_takes_a_dozen_counts_near_its_own_sizes():
    asked = []
    found = explain(counting(transformer, asked), {"batch_size": 4, "seq_len": 64})
    expected = "288 * batch_size * seq_len^2 + 56,768 * batch_size * seq_len"
    assert str(found.of("forward")) == expected
    assert str(found.of("forward", "attn")) == expected
    assert len(asked) <= 16


def test_the_size_at_which_the_quadratic_term_takes_over_is_part_of_the_formula():
    found = explain(counting(transformer), {"batch_size": 4, "seq_len": 64})
    assert found.costs[0].crossovers == {"seq_len": 198}
    assert "(seq_len^2 overtakes the rest at 198)" in found.to_text()


def attention_and_rest(seq_len):
    """Two attentions of 4 n^2 + 8 n, in each a product of 4 n^2, and 800 n + 64 elsewhere."""
    attention, product = 4 * seq_len**2 + 8 * seq_len, 4 * seq_len**2
    rest = 800 * seq_len + 64
    parts = {"embedding": rest}
    for layer in ("h.0", "h.1"):
        parts |= {layer: attention, f"{layer}.attn": attention, f"{layer}.attn.qk": product}
    return Measurement(
        FLOPsCount(2 * attention + rest),
        {path: FLOPsCount(cost) for path, cost in parts.items()},
        "meter",
        "executed",
    )


def test_where_attention_passes_the_rest_of_the_model_is_told():
    found = explain(attention_and_rest, {"seq_len": 16})
    overtaking = found.overtaking("seq_len")
    # 8 n^2 > 16 n + 800 n + 64 from n > 102.08 on
    assert (overtaking.components, overtaking.size) == (("h.0.attn.qk", "h.1.attn.qk"), 103)
    line = "h.0.attn.qk and 1 more cost more than the rest from seq_len = 103 on"
    assert line in found.to_text().splitlines()
    assert found.to_dict()["overtaking"] == [
        {"dimension": "seq_len", "components": ["h.0.attn.qk", "h.1.attn.qk"], "size": 103}
    ]


def test_in_a_linear_model_nothing_overtakes():
    assert explain_workload(BASELINE).overtaking("seq_len") is None
    assert explain_workload(BASELINE).to_dict()["overtaking"] == []


def test_it_is_plain_json_with_exact_coefficients():
    found = explain(
        counting(lambda seq_len: seq_len * (seq_len - 1) // 2), {"seq_len": 64}
    ).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["sizes"] == {"seq_len": 64}
    assert found["costs"][0]["terms"] == [
        {"powers": [2], "coefficient": "1/2"},
        {"powers": [1], "coefficient": "-1/2"},
    ]


def test_a_dimension_without_a_polynomial_is_named():
    def cost(batch_size, seq_len):
        return batch_size * seq_len * int(log2(seq_len))

    found = explain(counting(cost), {"batch_size": 4, "seq_len": 64})
    assert found.to_text().splitlines()[0] == "forward: no polynomial in seq_len"
    with pytest.raises(ScalingError, match="attn, forward: no polynomial in seq_len"):
        found.of("forward", "attn")


def test_a_product_that_shows_only_off_the_axes_is_not_missed():
    def cost(batch_size, seq_len):  # zero along both axes through (4, 8), and so invisible there
        return batch_size + seq_len + max(0, batch_size - 4) * max(0, seq_len - 8) ** 2

    found = explain(counting(cost), {"batch_size": 4, "seq_len": 8})
    assert found.costs[0].polynomial is None
    assert found.costs[0].note == "no polynomial in batch_size, seq_len together"


def test_a_batch_of_one_that_broadcasts_does_not_hide_the_formula():
    found = explain(
        counting(lambda batch_size: 5 * batch_size + (batch_size > 1)), {"batch_size": 1}
    )
    assert str(found.of("forward")) == "5 * batch_size + 1"
    assert found.costs[0].note == "exact from batch_size = 2 on"


def test_a_model_that_takes_nothing_larger_is_explained_from_smaller_sizes():
    def cost(seq_len):
        if seq_len > 64:
            raise ValueError("position table is too short")
        return 3 * seq_len * seq_len

    assert str(explain(counting(cost), {"seq_len": 64}).of("forward")) == "3 * seq_len^2"


def test_a_workload_without_a_size_to_start_from_is_refused():
    with pytest.raises(ScalingError, match="num_heads no size"):
        explain_workload(BASELINE, ["batch_size", "num_heads"])
    with pytest.raises(ScalingError, match="no dimension"):
        explain_workload(BASELINE, [])


def test_sizes_the_model_rejects_are_refused():
    def cost(seq_len):
        raise ValueError("no")

    with pytest.raises(ScalingError, match="seq_len = 64 is rejected: ValueError: no"):
        explain(counting(cost), {"seq_len": 64})


def test_operators_without_a_cost_are_refused():
    with pytest.raises(ScalingError, match="fft"):
        explain(counting(lambda seq_len: seq_len, uncounted={"aten.fft": 1}), {"seq_len": 64})
