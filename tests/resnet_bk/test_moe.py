"""The mixture of experts: routing, weights, gradients, and tensors without data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from pytest_flops import ResNetBKConfig
from pytest_flops.resnet_bk.moe import MixtureOfExperts, tokens_per_expert


def _mixture(num_experts: int, top_k: int, dropout_p: float = 0.0) -> MixtureOfExperts:
    config = ResNetBKConfig(
        d_model=8, num_experts=num_experts, top_k=top_k, dropout_p=dropout_p, vocab_size=10
    )
    return MixtureOfExperts(config)


def _token_by_token(mixture: MixtureOfExperts, x: Tensor, top_k: int) -> Tensor:
    answers = []
    for token in x.reshape(-1, x.shape[-1]):
        weights = torch.softmax(mixture.gate(token), dim=0)
        best = weights.argsort(descending=True)[:top_k].tolist()
        answers.append(sum(weights[e] * mixture.experts[e](token) for e in best))
    return torch.stack(answers).reshape(x.shape)


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 5, 9])
def test_each_token_gets_the_weighted_answers_of_its_likeliest_experts(top_k):
    torch.manual_seed(top_k)
    mixture, x = _mixture(5, top_k), torch.randn(3, 7, 8)
    torch.testing.assert_close(mixture(x), _token_by_token(mixture, x, top_k))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_gradients_are_those_of_the_mixture_written_out(top_k):
    torch.manual_seed(top_k)
    mixture, x = _mixture(4, top_k), torch.randn(2, 6, 8)
    parameters = list(mixture.parameters())
    ours = torch.autograd.grad(mixture(x).square().sum(), parameters, materialize_grads=True)
    loss = _token_by_token(mixture, x, top_k).square().sum()
    truth = torch.autograd.grad(loss, parameters, materialize_grads=True)
    torch.testing.assert_close(ours, truth)


def test_one_expert_per_token_still_teaches_the_gate():
    mixture = _mixture(4, 1)
    mixture(torch.randn(2, 6, 8)).square().sum().backward()
    assert mixture.gate.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("top_k", [1, 2])
def test_an_expert_without_tokens_gets_a_gradient_of_zeros(top_k):
    mixture = _mixture(4, top_k)
    with torch.no_grad():
        mixture.gate.weight.zero_()
        mixture.gate.bias.copy_(torch.tensor([3.0, -9.0, 2.0, 1.0]))
    mixture(torch.randn(2, 6, 8)).sum().backward()
    for parameter in mixture.experts[1].parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_a_single_expert_is_a_plain_feed_forward_layer():
    mixture, x = _mixture(1, 1), torch.randn(2, 3, 8)
    torch.testing.assert_close(mixture(x), mixture.experts[0](x))


def test_dropout_acts_in_training_only():
    mixture, x = _mixture(2, 1, dropout_p=0.5), torch.randn(2, 50, 8)
    assert not torch.equal(mixture(x), mixture(x))
    mixture.eval()
    assert torch.equal(mixture(x), mixture(x))


def test_real_choices_are_counted_as_they_fell():
    assert tokens_per_expert(torch.tensor([[0, 2], [2, 3], [0, 2]]), 5) == [2, 0, 3, 1, 0]


@pytest.mark.parametrize(("tokens", "experts", "each"), [(7, 3, [5, 5, 4]), (1, 4, [1, 1, 0, 0])])
def test_unknown_choices_are_spread_evenly_and_lose_none(tokens, experts, each):
    chosen = torch.empty(tokens, 2, dtype=torch.int64, device="meta")
    assert tokens_per_expert(chosen, experts) == each
    assert sum(each) == 2 * tokens


@pytest.mark.parametrize("top_k", [1, 3, 4])
def test_meta_tensors_pass_forward_and_backward(top_k):
    with torch.device("meta"):
        mixture, x = _mixture(4, top_k, dropout_p=0.1), torch.empty(2, 5, 8)
    mixture(x).sum().backward()
    assert all(parameter.grad is not None for parameter in mixture.parameters())


@pytest.mark.parametrize("top_k", [1, 3, 4])
def test_fake_tensors_pass_forward_and_backward(top_k):
    with FakeTensorMode():
        mixture = _mixture(4, top_k, dropout_p=0.1)
        mixture(torch.empty(2, 5, 8)).sum().backward()
        assert all(parameter.grad is not None for parameter in mixture.parameters())


def test_autocast_passes_forward_and_backward():
    mixture = _mixture(4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mixture(torch.randn(2, 5, 8))
    mixed.sum().backward()
    assert mixture.gate.weight.grad.dtype == torch.float32
