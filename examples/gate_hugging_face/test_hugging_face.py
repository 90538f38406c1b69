"""A Hugging Face model built from a configuration: no download, no weights, no GPU.

The step is counted on fake tensors, so the configuration may be of any size. Skipped where
`transformers` is not installed.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pytest_flops import count_flops

transformers = pytest.importorskip(
    "transformers", reason="needs Hugging Face's transformers: pip install transformers"
)


def build(seq_len: int, batch_size: int = 2, layers: int = 2) -> tuple[Any, dict[str, Any]]:
    """A Llama of the given depth and the inputs of one step, with labels, so it has a loss."""
    config = transformers.LlamaConfig(
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_cache=False,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.int64)
    return model, {"input_ids": tokens, "labels": tokens}


@pytest.mark.flops_budget(
    total="380 MFLOP",
    components={
        "model.layers.*.self_attn": {"forward": "20 MFLOP"},
        "model.layers.*.mlp": {"forward": "28 MFLOP"},
        "lm_head": {"forward": "35 MFLOP"},
    },
)
def test_a_training_step_is_within_its_budget(flops: Any) -> None:
    model, inputs = build(seq_len=128)
    flops.check(count_flops(model, **inputs))


def test_only_attention_is_quadratic_in_the_sequence(flops: Any) -> None:
    flops.scaling(
        build,
        seq_len=[32, 64, 128],
        components={"model.layers.*.self_attn": 2, "model.layers.*.mlp": 1, "lm_head": 1},
    )


def test_seventy_billion_parameters_are_counted_here() -> None:
    config = transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=8192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        use_cache=False,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
        tokens = torch.zeros(1, 2048, dtype=torch.int64)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    step = count_flops(model, tokens, optimizer="none").count
    # The usual estimate is 6 FLOPs per parameter and token; attention comes on top.
    assert 6 * parameters * 2048 <= step.total <= 6.4 * parameters * 2048
