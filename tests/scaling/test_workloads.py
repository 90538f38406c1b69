"""Sweeps of workloads and builders, counted by the analytic counter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_flops.budgets.budget import ScalingLimit
from pytest_flops.budgets.judging.scaling import hold_scaling
from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import ResNetBKConfig
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.workloads import sweep_builder, sweep_workload

BASELINE = Workload("resnet_bk", {"d_model": 64, "n_layers": 4, "n_seq": 128}, 32, 128)


def always_the_baseline(**_sizes):
    return ResNetBKConfig()


def test_the_baseline_over_sequence_length_is_the_published_rules_to_the_digit():
    growth = sweep_workload(BASELINE, "seq_len", [128, 256, 512, 1024, 2048]).of("total")
    assert growth.counts[0] == 48_917_969_080
    assert growth.counts[-1] == 781_756_471_480
    assert growth.exponent == 1.0


@pytest.mark.parametrize(
    ("dimension", "sizes", "exponent"),
    [
        ("batch_size", [1, 8, 64], 1),
        ("d_model", [64, 128, 256], 2),
        ("n_layers", [2, 4, 8], 1),
        ("num_experts", [2, 4, 8], 1),
        ("vocab_size", [1000, 30000, 50257], 1),
    ],
)
def test_any_dimension_of_the_workload_can_be_swept(dimension, sizes, exponent):
    assert sweep_workload(BASELINE, dimension, sizes).of("total").exponent == exponent


def test_bk_core_does_not_grow_with_the_width():
    found = sweep_workload(BASELINE, "d_model", [64, 128, 256])
    assert found.of("total", "layer_0.bk_core").exponent == 0
    # 34 N per sequence: 34 * 128 * 32
    assert found.of("forward", "layer_0.bk_core").counts == (139_264,) * 3


def test_a_dimension_the_configuration_does_not_have_is_refused_by_name():
    with pytest.raises(ScalingError, match=r"d_modle = 64, 128, 256 is rejected: .*d_model"):
        sweep_workload(BASELINE, "d_modle", [64, 128, 256])


def test_a_registered_builder_is_swept():
    def tiny(*, width, **_):
        return ResNetBKConfig(d_model=width, n_layers=1)

    workload = Workload("tiny", {"width": 8}, 1, 128)
    found = sweep_workload(workload, "width", [8, 16, 32], builders={"tiny": tiny})
    assert found.of("total", "layer_0.moe").exponent == 2


def test_a_builder_of_configurations_is_swept_over_its_keyword():
    found = sweep_builder(lambda seq_len: ResNetBKConfig(n_seq=seq_len), "seq_len", [64, 128, 256])
    assert found.of("total").exponent == 1


def test_a_builder_of_configurations_is_swept_over_the_batch():
    found = sweep_builder(always_the_baseline, "batch_size", [1, 2, 32])
    # 16,287,760,384 at 32
    assert found.of("forward").polynomial == "508,992,512 * batch_size"


def test_a_builder_that_ignores_the_swept_parameter_is_refused():
    with pytest.raises(ScalingError, match="the sweep changed nothing"):
        sweep_builder(always_the_baseline, "seq_len", [64, 128, 256])


def test_the_optimizer_is_the_one_asked_for():
    def optimizer_flops(name):
        found = sweep_builder(
            lambda d_model: ResNetBKConfig(d_model=d_model),
            "d_model",
            [64, 128, 256],
            optimizer=name,
        )
        return found.of("optimizer").counts[0]

    # 4,146,120 parameters at 15 and at 2 FLOPs
    assert optimizer_flops("adamw") == 62_191_800
    assert optimizer_flops("sgd") == 8_292_240


def test_sweeping_and_judging_a_configuration_imports_no_torch():
    code = (
        "import sys\n"
        "from pytest_flops.counting.workload import Workload\n"
        "from pytest_flops.scaling.workloads import explain_workload, sweep_workload\n"
        "from pytest_flops.budgets.judging import scaling\n"
        "workload = Workload('resnet_bk', {'n_seq': 128}, 32, 128)\n"
        "sweep_workload(workload, 'seq_len', [128, 256, 512])\n"
        "explain_workload(workload)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_moe_and_bk_core_stay_linear_under_a_limit_of_one():
    limit = ScalingLimit(
        "seq_len", (128, 256, 512), 1.0, {"layer_*.moe": 1.0, "layer_*.bk_core": 1.0}
    )
    verdicts = hold_scaling(limit, sweep_workload(BASELINE, "seq_len", limit.sizes))
    assert len(verdicts) == 4 + 8
    assert all(verdict.passed for verdict in verdicts)
