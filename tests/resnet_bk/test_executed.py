"""The executed rules, against operator counts worked out by hand from the model's own equations."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.analytic.executed import step_costs
from pytest_flops.resnet_bk.bk_core.flops import backward_flops, forward_flops
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, ResNetBKConfig

# B = 2, N = 6: T = 12 tokens of width D = 8; 3 experts, of which each token visits 2
CONFIG = ResNetBKConfig(
    vocab_size=11, d_model=8, n_layers=2, n_seq=7, num_experts=3, top_k=2, dropout_p=0.1
)
T, D = 12, 8


@pytest.fixture
def costs() -> dict[str, FLOPsCount]:
    return step_costs(CONFIG, batch_size=2, seq_len=6)


def test_a_linear_layer_is_a_product_and_a_bias_and_two_products_backward(costs):
    assert costs["lm_head"] == FLOPsCount(2 * T * D * 11 + T * 11, 4 * T * D * 11 + T * 11)


def test_v_proj_is_counted_which_the_published_rules_leave_out(costs):
    # and the gradient that it adds to the one of the sum beside it
    assert costs["layer_1.v_proj"] == FLOPsCount(2 * T * D + T, 4 * T * D + T + T * D)


def test_the_embedding_adds_tokens_to_positions_and_sums_their_gradients(costs):
    assert costs["embedding"] == FLOPsCount(T * D, T * D)
    assert costs["embedding.token"] == FLOPsCount(0, T * D)
    assert costs["embedding.position"] == FLOPsCount(0, 6 * D)


def test_a_layernorm_is_six_per_element_and_thirteen_backward(costs):
    assert costs["final_layernorm"] == FLOPsCount(6 * T * D, 13 * T * D)


def test_experts_cost_their_visits_with_dropout_relu_and_biases(costs):
    visits = 2 * T
    products = 2 * visits * D * 2 * D * 2
    biases = visits * 2 * D + visits * D
    relu = visits * 2 * D
    assert costs["layer_0.moe.experts"] == FLOPsCount(
        products + biases + relu + 2 * relu,  # dropout scales its mask and applies it
        2 * products + biases + relu + relu,
    )


def test_routing_weights_and_adds_every_visit(costs):
    softmax, rows = T * 3, 2 * T
    assert costs["layer_0.moe"] == FLOPsCount(
        5 * softmax + 2 * rows * D, 4 * softmax + 4 * rows * D + rows
    )


def test_bk_core_is_its_operator_between_two_clamps_and_a_sum(costs):
    assert costs["layer_0.bk_core"] == FLOPsCount(
        forward_flops(2, 6) + 12 + 12 + 24, backward_flops(2, 6, "exact")
    )


def test_a_layer_scales_and_adds_twice_beside_its_parts(costs):
    assert costs["layer_0"] == FLOPsCount(3 * T * D, 3 * T * D)


def test_dropout_costs_two_per_hidden_element_of_each_visited_expert():
    without = step_costs(replace(CONFIG, dropout_p=0.0), 2, 6)
    trained = step_costs(CONFIG, 2, 6)
    dropout = 2 * (2 * T) * 2 * D
    experts = "layer_0.moe.experts"
    assert trained[experts].forward - without[experts].forward == dropout
    assert without["lm_head"].forward == trained["lm_head"].forward


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("none", 0),
        ("sgd", 2 * 4_146_120),
        ("adam", 13 * 4_146_120 + 106),
        ("adamw", 14 * 4_146_120 + 106),
    ],
)
def test_an_optimizer_costs_per_parameter_and_counts_the_steps_of_every_tensor(optimizer, expected):
    counter = FLOPsCounter.from_config(BASELINE_CONFIG, 1, 1, rules="executed")
    assert counter.count_optimizer_flops(optimizer) == expected


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="unknown optimizer 'lion'"):
        FLOPsCounter.from_config(BASELINE_CONFIG, 1, 1, rules="executed").measurement("lion")


def test_the_counter_takes_the_executed_rules_by_name():
    published = FLOPsCounter.from_config(BASELINE_CONFIG, 32, 128).measurement()
    executed = FLOPsCounter.from_config(BASELINE_CONFIG, 32, 128, rules="executed").measurement()
    assert (published.rules, executed.rules) == ("published", "executed")
    assert executed.count.forward > published.count.forward
    parameters, tensors = 4_146_120, 2 + 4 * (1 + 2 + 2 + 16 + 2 + 2) + 2 + 2
    assert executed.count.optimizer == 14 * parameters + tensors


def test_counting_by_the_executed_rules_needs_no_torch():
    code = (
        "import sys\n"
        "from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter\n"
        "from pytest_flops.resnet_bk.analytic import parity\n"
        "from pytest_flops.resnet_bk.config import BASELINE_CONFIG\n"
        "FLOPsCounter.from_config(BASELINE_CONFIG, 32, 128, rules='executed').measurement()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
