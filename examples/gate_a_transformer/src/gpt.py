"""A small GPT, written by hand, and its builder for budgets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Causal self-attention, `(B, N, D)` to `(B, N, D)`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Each position sees itself and those before it."""
        batch, length, width = x.shape
        split = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind()
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        projected: Tensor = self.project_out(mixed.transpose(1, 2).reshape(x.shape))
        return projected


class Block(nn.Module):
    """Attention and a feed-forward network of four times the width, pre-norm, residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, D)` to `(B, N, D)`."""
        x = x + self.attention(self.attention_norm(x))
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class GPT(nn.Module):
    """Tokens `(B, N)` to logits `(B, N, vocabulary)`."""

    def __init__(
        self, vocabulary: int = 1000, width: int = 64, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each position's next token."""
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(tokens))))
        return logits


def build(
    batch_size: int, seq_len: int, width: int = 64, layers: int = 2
) -> tuple[nn.Module, Tensor]:
    """What `budgets/gpt.yaml` counts."""
    with torch.device("meta"):
        model = GPT(width=width, layers=layers)
        return model, torch.zeros(batch_size, seq_len, dtype=torch.int64)
