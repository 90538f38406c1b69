"""Llama 3, its builder for budgets, and what torchtitan does to train it on many GPUs.

Written from the papers of both; nothing is downloaded.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts


class Attention(nn.Module):
    """Causal attention, `(B, N, D)` to `(B, N, D)`; `heads / kv_heads` queries share a key."""

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.size = width // heads
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, kv_heads * self.size, bias=False)
        self.wv = nn.Linear(width, kv_heads * self.size, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotations: Tensor) -> Tensor:
        """Each position sees itself and those before it."""
        q, k, v = (w(x).unflatten(-1, (-1, self.size)) for w in (self.wq, self.wk, self.wv))
        q, k = rotated(q, rotations), rotated(k, rotations)
        shared = q.shape[2] // k.shape[2]
        k, v = (each.repeat_interleave(shared, dim=2) for each in (k, v))
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.wo(mixed.transpose(1, 2).flatten(2))
        return out


def rotated(x: Tensor, rotations: Tensor) -> Tensor:
    """Pairs of features, turned by their position; computed in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotations[:, None]).flatten(-2).type_as(x)


class FeedForward(nn.Module):
    """SwiGLU, `(B, N, D)` to `(B, N, D)`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """A gated hidden layer."""
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Block(nn.Module):
    """Attention and feed-forward, pre-norm, residual."""

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.attention = Attention(width, heads, kv_heads)
        self.ffn_norm = nn.RMSNorm(width, eps=1e-5)
        self.feed_forward = FeedForward(width, hidden)

    def forward(self, x: Tensor, rotations: Tensor) -> Tensor:
        """`(B, N, D)` to `(B, N, D)`."""
        x = x + self.attention(self.attention_norm(x), rotations)
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class Llama(nn.Module):
    """Tokens and labels `(B, N)` to the loss. The defaults are those of Llama 3.1 8B."""

    def __init__(
        self,
        *,
        seq_len: int,
        layers: int = 32,
        width: int = 4096,
        heads: int = 32,
        kv_heads: int = 8,
        hidden: int = 14336,
        vocabulary: int = 128256,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(width, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.output = nn.Linear(width, vocabulary, bias=False)
        angles = torch.outer(
            torch.arange(seq_len), 500000.0 ** -torch.arange(0, 1, 2 * heads / width)
        )
        rotations = torch.polar(torch.ones_like(angles), angles)
        self.register_buffer("rotations", rotations, persistent=False)

    def forward(self, tokens: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss is computed in float32."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.rotations)
        logits = self.output(self.norm(x)).flatten(0, 1).float()
        return {"loss": F.cross_entropy(logits, labels.flatten())}


def build(*, batch_size: int, seq_len: int, **sizes: int) -> tuple[Llama, tuple[Tensor, Tensor]]:
    """The model without its weights, and its inputs."""
    with torch.device("meta"):
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.int64)
        return Llama(seq_len=seq_len, **sizes), (tokens, tokens.clone())


def parallelize(model: Llama, mesh: DeviceMesh) -> Llama:
    """Selective checkpointing of each layer; FSDP2 of each, and of the rest."""
    how: dict[str, Any] = {
        "mesh": mesh["dp_shard"],
        "mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32),
    }
    last = len(model.layers) - 1
    for number, block in enumerate(model.layers):
        layer = checkpoint_wrapper(block, context_fn=every_second_product, preserve_rng_state=False)
        # The last is needed again at once.
        model.layers[number] = fully_shard(layer, **how, reshard_after_forward=number < last)
    return fully_shard(model, **how)


def every_second_product() -> Any:
    """Keeps the outputs of attention and of every second matrix product; repeats the rest."""
    aten = torch.ops.aten
    attention = (
        aten._scaled_dot_product_flash_attention.default,  # noqa: SLF001 - what CUDA runs
        aten._scaled_dot_product_efficient_attention.default,  # noqa: SLF001
    )
    products: Counter[bool] = Counter()

    def policy(context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        if operator is aten.mm.default:
            products[context.is_recompute] += 1
            keep = products[context.is_recompute] % 2 == 1
        else:
            keep = operator in attention
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)
