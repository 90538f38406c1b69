"""A real training step, metered, and how the model's cost grows, for any builder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gpt import GPT, build
from torch import nn


@pytest.fixture
def gpt() -> GPT:
    return GPT()


@pytest.mark.flops_budget(total="620 MFLOP", components={"blocks.*.mlp": {"forward": "34 MFLOP"}})
def test_a_training_step_is_within_its_budget(gpt: GPT) -> None:
    optimizer = torch.optim.AdamW(gpt.parameters())
    tokens = torch.randint(1000, (4, 128))
    logits = gpt(tokens)
    nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    optimizer.step()


def test_only_attention_is_quadratic_in_the_sequence(flops: Any) -> None:
    sweep = flops.scaling(
        lambda seq_len: build(batch_size=1, seq_len=seq_len),
        seq_len=[32, 64, 128],
        components={"blocks.*.attention": 2, "blocks.*.mlp": 1, "head": 1},
    )
    assert sweep.of("forward", "blocks.0.attention").exponent == 2
