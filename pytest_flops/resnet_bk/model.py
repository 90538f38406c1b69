"""ResNet-BK: a language model whose cost is linear in the sequence length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pytest_flops.resnet_bk.bk_core.operator import bk_core
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, ResNetBKConfig, config_of
from pytest_flops.resnet_bk.moe import MixtureOfExperts

_EMBEDDING_STD = 0.02


class TokenAndPosition(nn.Module):
    """The sum of a token's embedding and its position's: `(B, N)` to `(B, N, D)`."""

    def __init__(self, config: ResNetBKConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.d_model)
        self.position = nn.Embedding(config.n_seq, config.d_model)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=_EMBEDDING_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        """One addition per element of the output; looking up costs nothing."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        embedded: Tensor = self.token(tokens) + self.position(positions)
        return embedded


class BKCore(nn.Module):
    """Potential `(B, N)` to features `(B, N, 2)`: the diagonal of `(H - zI)^-1` at `z = i`.

    `H` is the discrete Laplacian (diagonal -2, off-diagonals 1) plus the potential clamped to
    `+-v_max`; the features, real and imaginary part, are clamped to `+-feature_clamp`.
    """

    h0_diag: Tensor
    h0_super: Tensor
    h0_sub: Tensor

    def __init__(self, config: ResNetBKConfig) -> None:
        super().__init__()
        self.config = config
        n = config.n_seq
        self.register_buffer("h0_diag", torch.full((n,), -2.0), persistent=False)
        self.register_buffer("h0_super", torch.ones(n - 1), persistent=False)
        self.register_buffer("h0_sub", torch.ones(n - 1), persistent=False)

    def forward(self, potential: Tensor) -> Tensor:
        """`potential (B, N)`, N at most `n_seq`, to `(B, N, 2)` of the same dtype."""
        n = potential.shape[1]
        config = self.config
        features = bk_core(
            self.h0_diag[:n] + potential.clamp(-config.v_max, config.v_max),
            self.h0_super[: n - 1],
            self.h0_sub[: n - 1],
            1j,
            gradient=config.gradient,
            grad_blend=config.grad_blend,
        )
        clamped = features.clamp(-config.feature_clamp, config.feature_clamp)
        return clamped.to(potential.dtype)


class ResNetBKLayer(nn.Module):
    """A pre-norm residual block: `x + layer(layernorm(x))`, shapes `(B, N, D)`.

    `layer(h)` is `ffn + bk_scale * output_proj(bk_core(v_proj(ffn)))` with `ffn = moe(h)`.
    """

    def __init__(self, config: ResNetBKConfig) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(config.d_model)
        self.moe = MixtureOfExperts(config)
        self.v_proj = nn.Linear(config.d_model, 1)
        self.bk_core = BKCore(config)
        self.output_proj = nn.Linear(2, config.d_model)
        self.bk_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """`x (B, N, D)` to `(B, N, D)`."""
        ffn = self.moe(self.layernorm(x))
        features = self.bk_core(self.v_proj(ffn).squeeze(-1))
        mixed: Tensor = x + (ffn + self.bk_scale * self.output_proj(features))
        return mixed


class ConfigurableResNetBK(nn.Module):
    """The language model: tokens `(B, N)` int64 to logits `(B, N, vocab_size)`.

    Embedding, `n_layers` blocks named `layer_0` onwards, a final LayerNorm, a Linear with bias.
    The names of the submodules are the component paths of every report.

    Args:
        config: Sizes and switches; the published baseline when left out.
    """

    def __init__(self, config: ResNetBKConfig = BASELINE_CONFIG) -> None:
        super().__init__()
        self.config = config = config_of(config)
        self.embedding = TokenAndPosition(config)
        for index in range(config.n_layers):
            self.add_module(f"layer_{index}", ResNetBKLayer(config))
        self.final_layernorm = nn.LayerNorm(config.d_model)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each position's next token.

        Raises:
            ValueError: `tokens` is not int64, not `(B, N)`, or N exceeds `config.n_seq`.
        """
        if tokens.dtype != torch.int64:
            raise ValueError(f"tokens must be int64, not {tokens.dtype}")
        if tokens.ndim != 2:
            raise ValueError(f"tokens must have shape (B, N), not {tuple(tokens.shape)}")
        if not 1 <= tokens.shape[1] <= self.config.n_seq:
            raise ValueError(
                f"tokens hold a sequence of {tokens.shape[1]} positions; this model takes 1 to "
                f"n_seq = {self.config.n_seq}"
            )
        x = self.embedding(tokens)
        for index in range(self.config.n_layers):
            x = self.get_submodule(f"layer_{index}")(x)
        logits: Tensor = self.lm_head(self.final_layernorm(x))
        return logits
