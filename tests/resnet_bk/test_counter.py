"""The analytic counter, held to the figures of the reference page and to sums done by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter, compare_models, parameter_sizes
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, SIZE_GRID, ResNetBKConfig
from pytest_flops.resnet_bk.model import ConfigurableResNetBK

TOKENS = 32 * 128


@pytest.fixture
def counter() -> FLOPsCounter:
    return FLOPsCounter.from_config(BASELINE_CONFIG, batch_size=32, seq_len=128)


def test_the_phases_of_the_baseline_are_those_of_the_reference_page(counter: FLOPsCounter) -> None:
    assert counter.count_forward_flops() == 16_287_760_384
    assert counter.count_backward_flops() == 32_568_016_896
    assert counter.count_optimizer_flops("adamw") == 62_191_800
    assert counter.count_total_flops("adamw").total == 48_917_969_080


def test_the_forward_breakdown_is_that_of_the_reference_page(counter: FLOPsCounter) -> None:
    breakdown = counter.get_breakdown()
    assert breakdown["lm_head"].forward == 15_728_640_000
    assert [breakdown[f"layer_{i}"].forward for i in range(4)] == [139_386_880] * 4
    assert breakdown["final_layernorm"].forward == 1_310_720
    assert breakdown["embedding"].forward == 262_144


def test_each_part_follows_the_formula_of_the_reference_page(counter: FLOPsCounter) -> None:
    assert counter.count_bk_core_flops() == FLOPsCount(34 * TOKENS, 26 * TOKENS)
    moe = TOKENS * (64 * 4 * 2 + 4 * 3 + 1 * (8 * 64 * 64 + 2 * 64))
    assert counter.count_moe_flops() == FLOPsCount(moe, 2 * moe)
    assert counter.count_linear_flops(64, 256) == FLOPsCount(
        TOKENS * 64 * 256 * 2, TOKENS * 64 * 256 * 4
    )
    assert counter.count_embedding_flops() == FLOPsCount(TOKENS * 64, TOKENS * 64)
    assert counter.count_layernorm_flops() == FLOPsCount(5 * TOKENS * 64, 5 * TOKENS * 64)
    assert counter.count_output_projection_flops().forward == 2 * TOKENS * 2 * 64
    assert counter.count_lm_head_flops().backward == 2 * 15_728_640_000


def test_the_breakdown_is_a_tree_whose_top_level_adds_up_to_the_total(
    counter: FLOPsCounter,
) -> None:
    breakdown = counter.get_breakdown()
    top_level = (cost for path, cost in breakdown.items() if "." not in path)
    assert sum(top_level, FLOPsCount()) == counter.count_total_flops()
    moe, gate, experts = (breakdown[f"layer_0.moe{part}"] for part in ("", ".gate", ".experts"))
    softmax = FLOPsCount(3 * 4 * TOKENS, 6 * 4 * TOKENS)
    assert moe == gate + experts + softmax


def test_the_breakdown_lists_children_after_their_parents_in_the_order_of_the_model(
    counter: FLOPsCounter,
) -> None:
    paths = list(counter.get_breakdown())
    assert paths[:3] == ["embedding", "embedding.token", "embedding.position"]
    assert paths[3:5] == ["layer_0", "layer_0.layernorm"]
    assert paths[-2:] == ["final_layernorm", "lm_head"]


def test_a_dense_mixture_costs_all_experts() -> None:
    config = replace(BASELINE_CONFIG, top_k=9)
    dense = FLOPsCounter.from_config(config, 32, 128).get_breakdown("none")["layer_0.moe.experts"]
    assert dense.forward == TOKENS * 4 * (8 * 64 * 64 + 2 * 64)


@pytest.mark.parametrize(
    ("optimizer", "per_parameter"), [("none", 0), ("sgd", 2), ("adam", 15), ("adamw", 15)]
)
def test_an_optimizer_costs_so_much_per_parameter(
    counter: FLOPsCounter, optimizer: str, per_parameter: int
) -> None:
    assert counter.count_optimizer_flops(optimizer) == per_parameter * 4_146_120


def test_an_unknown_optimizer_is_refused_with_the_known_ones(counter: FLOPsCounter) -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'lion'.*none, sgd, adam, adamw"):
        counter.count_total_flops("lion")


@pytest.mark.parametrize("batch_size", [1, 2, 8, 64])
def test_forward_and_backward_are_linear_in_the_batch_and_the_optimizer_is_constant(
    batch_size: int,
) -> None:
    count = FLOPsCounter.from_config(BASELINE_CONFIG, batch_size, 128).count_total_flops()
    assert count.forward * 32 == 16_287_760_384 * batch_size
    assert count.backward * 32 == 32_568_016_896 * batch_size
    assert count.optimizer == 62_191_800


def test_two_thousand_tokens_cost_what_the_rules_say_and_not_what_the_page_prints() -> None:
    # The page's table has 826.626 GFLOPs, 16.90x; its own rules give 15.98x.
    config = replace(BASELINE_CONFIG, n_seq=2048)
    total = FLOPsCounter.from_config(config, batch_size=32, seq_len=2048).count_total_flops().total
    position_table = (2048 - 128) * 64 * 15
    assert total == 16 * (16_287_760_384 + 32_568_016_896) + 62_191_800 + position_table
    assert total == 781_756_471_480


def test_depth_adds_identical_layers(counter: FLOPsCounter) -> None:
    deeper = FLOPsCounter.from_config(SIZE_GRID["d64-l8"], 32, 128)
    extra = deeper.count_total_flops() + -1 * counter.count_total_flops()
    assert extra == 4 * counter.get_breakdown()["layer_0"]


def test_width_makes_the_experts_four_times_dearer_for_twice_the_width() -> None:
    def products(width: int) -> int:
        config = ResNetBKConfig(d_model=width)
        cost = FLOPsCounter.from_config(config, 1, 1).get_breakdown("none")
        return cost["layer_0.moe.experts"].forward - 2 * width

    assert products(128) == 4 * products(64)


def test_a_model_is_counted_as_its_configuration(counter: FLOPsCounter) -> None:
    model = ConfigurableResNetBK(replace(BASELINE_CONFIG, vocab_size=50))
    config_only = FLOPsCounter.from_config(model.config, 32, 128)
    assert FLOPsCounter(model, 32, 128).get_breakdown() == config_only.get_breakdown()


def test_frozen_parameters_cost_the_optimizer_nothing() -> None:
    model = ConfigurableResNetBK(replace(BASELINE_CONFIG, vocab_size=50, n_layers=1))
    before = FLOPsCounter(model, 1, 8).get_breakdown()
    model.lm_head.requires_grad_(False)
    after = FLOPsCounter(model, 1, 8).get_breakdown()
    assert before["lm_head"].optimizer == 15 * (50 * 64 + 50)
    assert after.get("lm_head", FLOPsCount()).optimizer == 0


@pytest.mark.parametrize(
    "config", [BASELINE_CONFIG, ResNetBKConfig(d_model=32, n_layers=2, num_experts=3, top_k=2)]
)
def test_parameters_by_component_are_those_of_the_model(config: ResNetBKConfig) -> None:
    config = replace(config, vocab_size=100)
    model = ConfigurableResNetBK(config)
    expected: dict[str, list[int]] = {path: [] for path in parameter_sizes(config)}
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        while owner not in expected:
            owner = owner.rpartition(".")[0]
        expected[owner].append(parameter.numel())
    found = parameter_sizes(config)
    assert {path: sorted(sizes) for path, sizes in found.items()} == {
        path: sorted(sizes) for path, sizes in expected.items()
    }


def test_the_baseline_has_the_published_number_of_parameters() -> None:
    assert sum(map(sum, parameter_sizes(BASELINE_CONFIG).values())) == 4_146_120


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 128), "batch_size must be an integer of at least 1, not 0"),
        ((32, True), "seq_len must be an integer of at least 1, not True"),
        ((32, 129), "seq_len 129 is longer than the model's position table .n_seq 128."),
    ],
)
def test_wrong_sizes_are_refused(sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FLOPsCounter.from_config(BASELINE_CONFIG, *sizes)


def test_unknown_rules_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown rules 'guessed'; known: published"):
        FLOPsCounter.from_config(BASELINE_CONFIG, 1, 1, rules="guessed")  # type: ignore[arg-type]


def test_the_summary_reads_like_the_reference_page(
    counter: FLOPsCounter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.print_summary()
    lines = capsys.readouterr().out.splitlines()
    assert "Model: ResNet-BK (d=64, L=4, N=128)" in lines
    assert "MoE: 4 experts, top-1" in lines
    assert "Forward Pass:    16,287,760,384 FLOPs (16.288 GFLOPs)" in lines
    assert "Optimizer Step:      62,191,800 FLOPs (0.062 GFLOPs)" in lines
    assert "Total per Step:  48,917,969,080 FLOPs (48.918 GFLOPs)" in lines
    assert "  lm_head             : 15,728,640,000 FLOPs ( 96.6%)" in lines
    assert "  final_layernorm     :      1,310,720 FLOPs (  0.0%)" in lines


def test_the_json_export_holds_counts_breakdown_and_metadata(
    counter: FLOPsCounter, tmp_path: Path
) -> None:
    counter.save_to_json(tmp_path / "flops.json")
    record = json.loads((tmp_path / "flops.json").read_text())
    assert record["count"]["total"] == 48_917_969_080
    assert record["components"]["layer_3.bk_core"]["forward"] == 34 * TOKENS
    assert record["model"]["config"]["d_model"] == 64
    assert record["model"]["trainable_parameters"] == 4_146_120
    assert (record["batch_size"], record["seq_len"], record["optimizer"]) == (32, 128, "adamw")


def test_two_models_are_compared_by_phase() -> None:
    deeper = replace(BASELINE_CONFIG, n_layers=8)
    comparison = compare_models(
        deeper, BASELINE_CONFIG, batch_size=32, seq_len=128, model1_name="deep", model2_name="base"
    )
    deep = 48_917_969_080 + 4 * (139_386_880 + 277_291_008 + 15 * 66_950)
    assert comparison["speedup"]["total"] == deep / 48_917_969_080
    assert comparison["model1"] == {"name": "deep", "flops": comparison["model1"]["flops"]}
    assert comparison["model1"]["flops"]["total"] == deep
    assert "48,917,969,080" in comparison["summary"]


def test_counting_from_a_configuration_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from pytest_flops import BASELINE_CONFIG, FLOPsCounter\n"
        "FLOPsCounter.from_config(BASELINE_CONFIG, 32, 128).count_total_flops()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
