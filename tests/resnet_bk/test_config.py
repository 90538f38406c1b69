"""The configuration of ResNet-BK: presets, files, and every wrong value refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pytest_flops.resnet_bk.config import BASELINE_CONFIG, PRESETS, SIZE_GRID, ResNetBKConfig


def test_the_presets_are_the_baseline_and_the_size_grid() -> None:
    assert PRESETS["baseline"] is BASELINE_CONFIG
    assert {(c.d_model, c.n_layers) for c in SIZE_GRID.values()} == {
        (d, layers) for d in (64, 128, 256, 512) for layers in (4, 8, 12, 16)
    }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("d_model", 0, "d_model must be an integer of at least 1, not 0"),
        ("n_layers", True, "n_layers must be an integer of at least 1, not True"),
        ("top_k", 1.5, "top_k must be an integer of at least 1, not 1.5"),
        ("v_max", "3", "v_max must be a number, not '3'"),
        ("v_max", float("inf"), "v_max must be positive and finite, not inf"),
        ("feature_clamp", 0, "feature_clamp must be positive and finite, not 0"),
        ("dropout_p", 1.0, "dropout_p must be at least 0 and below 1, not 1.0"),
        ("dropout_p", True, "dropout_p must be a number, not True"),
        ("grad_blend", -0.1, "grad_blend must be between 0 and 1, not -0.1"),
        ("gradient", "exactly", "gradient must be one of 'exact', 'diagonal', 'hybrid', not 'ex"),
        ("d_modell", 3, "no field 'd_modell'; did you mean 'd_model'?"),
        ("zzz", 3, "no field 'zzz'; known: vocab_size, d_model"),
    ],
)
def test_a_wrong_field_is_refused_by_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ResNetBKConfig.from_dict({field: value})


def test_a_configuration_is_read_from_yaml_and_keeps_the_other_defaults(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("d_model: 32\ntop_k: 2\n")
    config = ResNetBKConfig.from_yaml(path)
    assert (config.d_model, config.top_k, config.n_layers) == (32, 2, 4)
    assert ResNetBKConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"d_model: [", "not readable as YAML"),
        (b"\xff\xfe", "not readable as YAML"),
        (b"- 3\n", "expected a mapping of ResNetBKConfig fields"),
        (b"d_model: -1\n", "d_model must be an integer of at least 1, not -1"),
    ],
)
def test_a_wrong_yaml_file_is_refused_with_its_path(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}"):
        ResNetBKConfig.from_yaml(path)


def test_more_experts_per_token_than_there_are_is_the_dense_mixture() -> None:
    assert ResNetBKConfig(num_experts=3, top_k=7).experts_per_token == 3
