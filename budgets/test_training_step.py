"""This project's own training step, metered: what no configuration can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn.functional import cross_entropy

from pytest_flops import ConfigurableResNetBK, ResNetBKConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = ResNetBKConfig(vocab_size=50, d_model=16, n_layers=2, n_seq=32, num_experts=3, top_k=2)


def training_step(model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor) -> None:
    logits = model(tokens[:, :-1])
    loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.flops_budget("resnet-bk-training-step")
def test_a_training_step_costs_what_is_recorded() -> None:
    torch.manual_seed(0)
    model = ConfigurableResNetBK(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(CONFIG.vocab_size, (2, CONFIG.n_seq))
    training_step(model, optimizer, tokens)
