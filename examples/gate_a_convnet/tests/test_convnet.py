"""The same network in a test of its own: one real training step, metered."""

from __future__ import annotations

import pytest
import torch
from convnet import ConvNet
from torch import nn


@pytest.mark.flops_budget(
    total="195 MFLOP", components={"stages.*.depthwise": {"forward": "1.5 MFLOP"}}
)
def test_a_training_step_is_within_its_budget() -> None:
    model = ConvNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scores = model(torch.randn(8, 3, 32, 32))
    nn.functional.cross_entropy(scores, torch.zeros(8, dtype=torch.int64)).backward()
    optimizer.step()
