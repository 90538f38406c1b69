"""Scaling limits on real models, through the meter on fake tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flops.budgets.budget import ScalingLimit
from pytest_flops.budgets.judging.scaling import hold_scaling
from pytest_flops.counting.workload import Workload
from pytest_flops.resnet_bk.config import ResNetBKConfig
from pytest_flops.resnet_bk.model import ConfigurableResNetBK
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.workloads import explain_workload, sweep_builder

VOCABULARY = 30000
WIDTH = 64


def held(builder, sizes, max_exponent=1.0, components=None):
    limit = ScalingLimit("seq_len", sizes, max_exponent, components or {})
    found = sweep_builder(builder, "seq_len", sizes)
    verdicts = hold_scaling(limit, found)
    return found, {(verdict.component, verdict.quantity): verdict for verdict in verdicts}


class Layer(nn.Module):
    def __init__(self, *, mixes_tokens=False):
        super().__init__()
        self.mixes_tokens = mixes_tokens
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        if self.mixes_tokens:
            x = x + (x @ x.transpose(1, 2)) @ x
        return x + torch.relu(self.linear(x))


class FourLayers(nn.Module):
    def __init__(self, mixing_layer=None):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer(mixes_tokens=i == mixing_layer) for i in range(4))
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


def tokens(seq_len, batch_size=2):
    return torch.zeros(batch_size, seq_len, dtype=torch.int64, device="meta")


def build(model, *args):
    with torch.device("meta"):
        return model(*args)


def test_a_token_mixing_product_in_one_of_four_layers_is_red():
    def mixing(seq_len):
        return build(FourLayers, 2), tokens(seq_len)

    found, verdicts = held(mixing, (64, 128, 256, 512))
    assert found.of("total").fitted < 1.1
    for quantity in ("forward", "backward", "total"):
        verdict = verdicts[None, quantity]
        assert not verdict.passed
        assert verdict.actual == 2.0
        assert verdict.message.startswith("layers.2 ")
        # two products of 2 B N^2 D each at N = 512 and some more
        assert "512: " in verdict.message
    mix = found.of("forward", "layers.2").polynomial
    assert f"{2 * 2 * 2 * WIDTH} * seq_len^2" in mix


def test_the_same_model_without_the_product_is_green():
    _, verdicts = held(lambda seq_len: (build(FourLayers), tokens(seq_len)), (64, 128, 256, 512))
    assert all(verdict.passed for verdict in verdicts.values())
    assert verdicts[None, "total"].actual == 1.0


class Recurrence(nn.Module):
    """Slices one token after the other; each slice's gradient is as long as the sequence."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 8)
        self.cell = nn.Linear(8, 8)

    def forward(self, tokens):
        x = self.embedding(tokens)
        state = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            state = torch.tanh(self.cell(x[:, step]) + state)
        return state


def test_a_recurrence_with_a_quadratic_backward_is_red_in_backward_only():
    _, verdicts = held(lambda seq_len: (build(Recurrence), tokens(seq_len)), (16, 32, 64))
    assert verdicts[None, "forward"].passed
    assert verdicts[None, "forward"].actual == 1.0
    assert not verdicts[None, "backward"].passed
    assert verdicts[None, "backward"].actual == 2.0
    assert not verdicts[None, "total"].passed


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(4, 8, 3, stride=2)
        self.second = nn.Conv1d(8, 8, 3, stride=2)

    def forward(self, signal):
        return self.second(torch.relu(self.first(signal)))


def test_a_strided_convolution_is_green_within_residue_classes():
    def strided(seq_len):
        return build(Strided), torch.zeros(2, 4, seq_len, device="meta")

    found, verdicts = held(strided, (61, 128, 255, 510))
    assert all(verdict.passed for verdict in verdicts.values())
    assert verdicts[None, "total"].actual == 1.0
    assert "modulo 4" in found.of("forward").note


def resnet_bk(seq_len):
    config = ResNetBKConfig(d_model=16, n_layers=2, vocab_size=100, n_seq=seq_len)
    return build(ConfigurableResNetBK, config), tokens(seq_len)


def test_bk_core_and_the_moe_are_green():
    _, verdicts = held(resnet_bk, (64, 128, 256), components={"**.moe": 1.0, "**.bk_core": 1.0})
    assert all(verdict.passed for verdict in verdicts.values())
    assert verdicts[None, "total"].actual == 1.0


def test_a_model_built_without_the_swept_parameter_is_an_error():
    def always_short(**_sizes):
        return build(FourLayers), tokens(64)

    with pytest.raises(ScalingError, match="the sweep changed nothing"):
        sweep_builder(always_short, "seq_len", [64, 128, 256])


def test_a_size_the_model_rejects_is_named():
    class Short(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(128, WIDTH))

        def forward(self, x):
            return x + self.position[: x.shape[1]]

    def short(seq_len):
        return build(Short), torch.zeros(2, seq_len, WIDTH, device="meta")

    with pytest.raises(ScalingError, match=r"seq_len = 256 is rejected: .*256"):
        sweep_builder(short, "seq_len", [64, 128, 256])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return q @ k.transpose(1, 2) @ v


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Attention()
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        return self.down(self.up(self.attn(x)))


def transformer(batch_size, seq_len):
    return build(Transformer), torch.zeros(batch_size, seq_len, WIDTH, device="meta")


def test_the_sequence_length_at_which_attention_passes_the_rest_of_a_transformer():
    workload = Workload("transformer", batch_size=2, seq_len=32)
    found = explain_workload(workload, builders={"transformer": transformer})
    # q, k and v: 6 N D^2; scores and their product with v: 4 N^2 D; D = 64
    attention = "256 * batch_size * seq_len^2 + 24,576 * batch_size * seq_len"
    assert str(found.of("forward", "attn")) == attention
    # up and down: 16 N D^2 = 65,536 N; 256 N^2 + 24,576 N is more from N > 160 on
    overtaking = found.overtaking("seq_len", "forward")
    assert (overtaking.components, overtaking.size) == (("attn",), 161)
