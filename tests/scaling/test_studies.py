"""The scaling studies under `examples/` run and print the figures of the published rules."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.config import ResNetBKConfig

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def printed(capsys):
    def run(name):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")["main"]()
        return capsys.readouterr().out

    return run


def test_the_sequence_length_study(printed):
    out = printed("scaling_sequence_length")
    # 48.917969 and 781.756471 GFLOP, and their quotient
    assert "     128       16.288       32.568       48.918" in out
    assert "    2048      260.604      521.088      781.756" in out
    assert "the total grows 15.98 times" in out
    assert "total = 381,686,720 * seq_len + 62,068,920: exponent 1" in out


@pytest.mark.parametrize(
    ("width", "published"), [(128, "32.554 65.100 97.779"), (256, "67.256 134.495 202.014")]
)
def test_rows_of_the_published_table_are_those_of_other_widths(width, published):
    config = ResNetBKConfig(d_model=width, n_layers=2)
    count = FLOPsCounter.from_config(config, 32, 128).measurement("adamw").count
    ours = (count.forward, count.backward, count.total)
    assert " ".join(f"{flops / 1e9:.3f}" for flops in ours) == published


def test_the_model_size_study(printed):
    out = printed("scaling_model_size")
    assert "      64       48.083       48.918       50.589" in out
    assert "The exponent is 2." in out
    # (8 + 16) D^2 of the MoE per token, 32 * 128 tokens, and 15 for 16 D^2 parameters per layer
    assert f"total = {24 * 32 * 128 + 15 * 16:,} * d_model^2 * n_layers" in out


def test_the_batch_study(printed):
    out = printed("scaling_batch_size")
    assert "      32       48.918         1.529      0.13%" in out
    # (16,287,760,384 + 32,568,016,896) / 32
    assert "total = 1,526,743,040 * batch_size + 62,191,800: exponent 1" in out


def test_the_optimizer_study(printed):
    out = printed("compare_optimizers")
    # 4,146,120 parameters at 2 and at 15 FLOPs
    assert "sgd       8,292,240" in out
    assert "adamw      62,191,800   48,917,969,080" in out
