"""Mixture of experts: a softmax gate, top-K routing, two-layer experts."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import ResNetBKConfig


class Expert(nn.Module):
    """`Linear D->2D, ReLU, dropout, Linear 2D->D`, both with bias; `(tokens, D)` both ways."""

    def __init__(self, config: ResNetBKConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.d_model, 2 * config.d_model)
        self.dropout = nn.Dropout(config.dropout_p)
        self.contract = nn.Linear(2 * config.d_model, config.d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens (t, D)`, t may be 0, to `(t, D)`."""
        output: Tensor = self.contract(self.dropout(torch.relu(self.expand(tokens))))
        return output


class MixtureOfExperts(nn.Module):
    """Sends each token to its K likeliest experts; adds their outputs, weighted by the gate.

    The weights are the softmax over all E experts and are not normalised again over the K
    chosen ones: with K = 1 that would leave the gate without a gradient. `top_k >= num_experts`
    is the dense mixture, every expert on every token, without routing.

    However tokens are routed, the experts visit T*K of T tokens in all, and every cost is linear in
    an expert's tokens, so that the totals do not depend on the routing (an expert without a token
    is called with an empty slice). `analytic/executed.py` says what each step costs.
    """

    def __init__(self, config: ResNetBKConfig) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.experts_per_token = config.experts_per_token
        self.gate = nn.Linear(config.d_model, config.num_experts)
        self.experts = nn.ModuleList(Expert(config) for _ in range(config.num_experts))

    def forward(self, x: Tensor) -> Tensor:
        """`x (B, N, D)` to `(B, N, D)`."""
        tokens = x.reshape(-1, x.shape[-1])
        probabilities = torch.softmax(self.gate(tokens), dim=-1)
        dense = self.experts_per_token == self.num_experts
        mixed = (self._every_expert if dense else self._chosen_experts)(tokens, probabilities)
        return mixed.reshape(x.shape)

    def _every_expert(self, tokens: Tensor, probabilities: Tensor) -> Tensor:
        weights = probabilities.unsqueeze(-1).unbind(1)
        answers = [w * expert(tokens) for w, expert in zip(weights, self.experts, strict=True)]
        mixed: Tensor = answers[0]
        for answer in answers[1:]:
            mixed = mixed + answer
        return mixed

    def _chosen_experts(self, tokens: Tensor, probabilities: Tensor) -> Tensor:
        weights, chosen = probabilities.topk(self.experts_per_token, dim=-1)
        by_expert = chosen.flatten().argsort(stable=True)
        every_token = torch.arange(tokens.shape[0], device=tokens.device)
        token = every_token.unsqueeze(1).expand_as(chosen).flatten().index_select(0, by_expert)
        loads = tokens_per_expert(chosen, self.num_experts)
        visits = torch.split(tokens.index_select(0, token), loads)
        answers = torch.cat([expert(t) for expert, t in zip(self.experts, visits, strict=True)])
        weighted = answers * weights.flatten().index_select(0, by_expert).unsqueeze(1)
        return weighted.new_zeros(tokens.shape).index_add(0, token, weighted)


def tokens_per_expert(chosen: Tensor, num_experts: int) -> list[int]:
    """How many of the choices `chosen` (T, K) fell on each expert; the sum is always T*K.

    Reading them is the one time that the host waits for the device: how an eager step splits its
    tokens is a matter of values. (`bincount` would wait once more.)

    Meta and fake tensors carry no choice to read: there the tokens are spread evenly, the first
    experts taking one more where T*K does not divide by E; the totals are those of any routing.
    A fake step copies what it would read, so that `syncs` sees the wait of the real one.
    """
    experts = torch.arange(num_experts, device=chosen.device)
    ends = torch.searchsorted(chosen.flatten().sort().values, experts, right=True)
    if ends.is_meta or isinstance(ends, FakeTensor):
        if isinstance(ends, FakeTensor):
            ends.cpu()
        each, rest = divmod(chosen.numel(), num_experts)
        return [each + (expert < rest) for expert in range(num_experts)]
    return [end - start for start, end in pairwise([0, *ends.tolist()])]
