from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest

from pytest_flops.budgets.budget import Limit, Location, ScalingLimit
from pytest_flops.budgets.files.loader import load_budgets, says_budgets
from pytest_flops.counting.workload import Workload

WHOLE = """\
# yaml-language-server: $schema=../pytest_flops/budgets/schema.json
version: 1
budgets:
  baseline:
    workload:
      model: resnet_bk            # a registered builder, or "package.module:callable"
      config: {d_model: 64, n_layers: 4, n_seq: 128, vocab_size: 30000, num_experts: 4, top_k: 1}
      batch_size: 32
      seq_len: 128
      optimizer: adamw
      rules: published
    limits:
      forward: 16.3 GFLOP
      total: 49000000000
      components:
        lm_head: {forward: 15.8 GFLOP}
        "layer_*": {forward: 140 MFLOP, backward: 280 MFLOP}
    tolerance: 0.5%
    scaling:
      seq_len: {sizes: [128, 256, 512], max_exponent: 1.0}
      d_model:
        sizes: [64, 128, 256]
        components: {"layer_*.bk_core": 0.0}
"""


def at(line, column):
    return Location("b.yaml", line, column)


def test_every_key_of_the_format_is_read(load):
    budget = load(WHOLE)["baseline"]
    assert budget.name == "baseline"
    assert budget.location == at(4, 3)
    assert budget.workload == Workload(
        model="resnet_bk",
        config={
            "d_model": 64,
            "n_layers": 4,
            "n_seq": 128,
            "vocab_size": 30000,
            "num_experts": 4,
            "top_k": 1,
        },
        batch_size=32,
        seq_len=128,
        optimizer="adamw",
        rules="published",
    )
    assert budget.limits == (
        Limit("forward", 16_300_000_000, "16.3 GFLOP", None, at(13, 16)),
        Limit("total", 49_000_000_000, "49000000000", None, at(14, 14)),
        Limit("forward", 15_800_000_000, "15.8 GFLOP", "lm_head", at(16, 28)),
        Limit("forward", 140_000_000, "140 MFLOP", "layer_*", at(17, 30)),
        Limit("backward", 280_000_000, "280 MFLOP", "layer_*", at(17, 51)),
    )
    assert budget.tolerance == Fraction(1, 200)
    assert budget.scaling == (
        ScalingLimit("seq_len", (128, 256, 512), 1.0, location=at(20, 7)),
        ScalingLimit(
            "d_model", (64, 128, 256), components={"layer_*.bk_core": 0.0}, location=at(21, 7)
        ),
    )


@pytest.mark.parametrize("held", ["workload: {model: m}", "tolerance: 0%"])
def test_a_budget_may_hold_nothing_yet_and_be_recorded_later(load, held):
    assert load(f"version: 1\nbudgets: {{a: {{{held}}}}}")["a"].recorded is None


def test_budgets_come_in_the_order_of_the_file(load):
    names = ["zebra", "apple", "mango"]
    entries = "".join(f"  {name}: {{limits: {{total: 1}}}}\n" for name in names)
    assert list(load("version: 1\nbudgets:\n" + entries)) == names


def test_workloads_are_shared_with_anchors_and_merge_keys(load):
    budgets = load(
        """\
        version: 1
        x-shared:
          base: &base {model: resnet_bk, batch_size: 32, seq_len: 64}
          adam: &adam {optimizer: adam, batch_size: 1}
        budgets:
          one: {workload: *base}
          two: {workload: {<<: *base, batch_size: 8}}
          three: {workload: {<<: [*base, *adam]}}
        """
    )
    assert budgets["one"].workload == Workload("resnet_bk", batch_size=32, seq_len=64)
    assert budgets["two"].workload == Workload("resnet_bk", batch_size=8, seq_len=64)
    assert budgets["three"].workload == Workload(
        "resnet_bk", batch_size=32, seq_len=64, optimizer="adam"
    )


def test_a_limit_through_an_anchor_is_located_where_it_is_written(load):
    budgets = load(
        "version: 1\nbudgets:\n  a:\n    limits: &l\n      total: 1 FLOP\n  b: {limits: *l}\n"
    )
    assert budgets["b"].limits[0].location == at(5, 14)


def test_a_byte_order_mark_and_dos_line_ends_do_not_move_positions(load):
    dos = b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode()
    assert load(dos) == load(WHOLE)


def test_columns_count_characters_not_bytes(load):
    budgets = load('version: 1\nbudgets: {"äöü😀": {limits: {total: 1}}}\n')
    assert budgets["äöü😀"].limits[0].location == at(2, 36)


def test_floats_without_a_point_are_numbers_as_in_yaml_1_2(load):
    config = load("version: 1\nbudgets: {a: {workload: {model: m, config: {lr: 1e-3}}}}")
    assert config["a"].workload.config == {"lr": 0.001}


def test_quoted_scalars_stay_text(load):
    config = load(
        "version: 1\nbudgets: {a: {workload: {model: m, config: "
        "{a: '1e-3', b: '010', c: \"2020-01-01\", d: 'yes', e: '12:30'}}}}"
    )
    assert list(config["a"].workload.config.values()) == [
        "1e-3",
        "010",
        "2020-01-01",
        "yes",
        "12:30",
    ]


def test_a_missing_file_is_told_as_a_problem_of_that_file(tmp_path):
    with pytest.raises(ValueError, match=r"^gone\.yaml:1:1: cannot be read: No such file"):
        load_budgets(tmp_path / "gone.yaml", name="gone.yaml")


def test_a_directory_is_told_as_a_problem_of_that_path(tmp_path):
    with pytest.raises(ValueError, match=r"^b:1:1: cannot be read: Is a directory"):
        load_budgets(tmp_path, name="b")


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        "\ufeff" + WHOLE,
        WHOLE.replace("\n", "\r\n"),
        "\"version\": 1\n'budgets' :\n  a: {limits: {total: 1 FLOP}}",
        "budgets: []\nversion: 7",
        "version: 1\nbudgets: {a: [cut off",
        '{"version": 1, "budgets": {"a": 1}}',
    ],
)
def test_yaml_with_both_keys_at_its_top_level_says_that_it_is_ours(text):
    assert says_budgets(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: 1\nservices:\n  web:\n    limits: {cpu: 1}",
        "budgets:\n  marketing:\n    limits: {monthly: 1000 EUR}",
        "# version: 1\n# budgets:\n",
        "version: 1\nother:\n  budgets:\n    limits: 1",
        "version: 1\nyearly-budgets:\n  limits: 1",
        '{"version": 1, "items": [{"budgets": {"limits": 1}}]}',
        "\x00\x01",
    ],
)
def test_other_yaml_does_not(text):
    assert not says_budgets(text)


def test_a_line_of_a_million_blanks_is_looked_at_in_no_time():
    assert not says_budgets("version: 1\n{" + " " * 10**6 + "x: 1\n" + "{ " * 10**5)


def test_looking_at_foreign_yaml_imports_no_parser():
    code = (
        "import sys; from pytest_flops.budgets.files.loader import says_budgets;"
        "says_budgets('a: 1');"
        "print([name for name in ('yaml', 'jsonschema', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
