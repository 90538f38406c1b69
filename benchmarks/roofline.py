"""Step times that others published, beside the roofline of our count of the same step.

GPT-2 124M on one A100 80GB, 16 sequences of 1,024 tokens: the chapter titles of Andrej Karpathy's
"Let's reproduce GPT-2 (124M)" (https://github.com/karpathy/build-nanogpt). Llama 3.1 8B on eight
H100, 2 sequences of 8,192 tokens each: torchtitan's benchmarks/llama3_h100_202412_torchtitan.md.

The models are ours, in the same shapes; all is counted on fake tensors, as on CUDA. Of
Llama's eight ranks the communication and the optimizer are left out.

Run `python benchmarks/roofline.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from language_models import GPT, Attention, Llama
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from pytest_flops import count_flops
from pytest_flops.counting.roofline.device import Device, device
from pytest_flops.counting.roofline.roofline import roofline

A100 = device("a100-80")
# torchtitan's machines have H100 with HBM2e, of 2.4 TB/s.
H100 = replace(device("h100-sxm"), bandwidth=2.4e12)


class PlainAttention(Attention):
    """Causal self-attention in plain operators, before `scaled_dot_product_attention`."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, width)` both ways."""
        batch, length, width = x.shape
        parts = self.qkv(x).split(width, dim=2)
        q, k, v = (y.view(batch, length, self.heads, -1).transpose(1, 2) for y in parts)
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        scores = (q @ k.transpose(-2, -1)) * self.size**-0.5
        y = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class RotaryAttention(Attention):
    """Fused causal self-attention of queries and keys that are turned by their place."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, width)` both ways."""
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, -1, self.size)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=2)
        turns = torch.ones(length, 1, self.size // 2, dtype=torch.complex64, device=x.device)
        q, k, v = (y.transpose(1, 2) for y in (_turned(q, turns), _turned(k, turns), v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(3).type_as(x)


class Checkpointed(nn.Module):
    """A block that keeps its attention and every second product, and computes the rest again."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """As the block."""
        return checkpoint(self.block, x, use_reentrant=False, context_fn=_kept)


def _kept() -> Any:
    products = {False: 0, True: 0}  # in forward, and when it is computed again

    def policy(context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
        keeps = "attention" in str(operator)
        if operator is torch.ops.aten.mm.default:
            products[context.is_recompute] += 1
            keeps = products[context.is_recompute] % 2 == 1
        return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


class Loss(nn.Module):
    """A model and the loss of its logits, perhaps in bfloat16 as autocast has it."""

    def __init__(self, model: nn.Module, *, autocast: bool) -> None:
        super().__init__()
        self.model, self.autocast = model, autocast

    def forward(self, tokens: Tensor) -> Tensor:
        """The cross entropy of tokens `(B, N)`, in float32."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = self.model(tokens)
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten())


@dataclass(frozen=True)
class Published:
    """A step that somebody measured."""

    step: str
    milliseconds: float
    device: Device
    tf32: bool = False
    autocast: bool = False


STEPS = (
    Published("GPT-2 124M, A100, float32", 1000, A100),
    Published("GPT-2 124M, A100, TF32", 333, A100, tf32=True),
    Published("GPT-2 124M, A100, bfloat16", 300, A100, tf32=True, autocast=True),
    # 16,384 tokens of each GPU, at 5,762 tokens per second.
    Published("Llama 3.1 8B, 8 H100, bfloat16", 16_384 / 5.762, H100),
)


def gpt2() -> tuple[nn.Module, Tensor]:
    model = GPT(vocab=50_257, width=768, heads=12, layers=12, length=1024)
    model.head.weight = model.tokens.weight
    for block in model.blocks:
        block.attention = PlainAttention(768, 12, 12, bias=True)
    return model, torch.zeros(16, 1024, dtype=torch.long)


def llama() -> tuple[nn.Module, Tensor]:
    model = Llama(vocab=128_256, width=4096, heads=(32, 8), inner=14_336, layers=32)
    for block in model.blocks:
        block.attention = RotaryAttention(4096, 32, 8, bias=False)
    model.blocks = nn.ModuleList(map(Checkpointed, model.blocks))
    return model.to(torch.bfloat16), torch.zeros(2, 8192, dtype=torch.long)


def row(published: Published) -> str:
    is_llama = published.step.startswith("Llama")
    with torch.device("meta"):
        model, tokens = llama() if is_llama else gpt2()
    measurement = count_flops(
        Loss(model, autocast=published.autocast),
        tokens,
        optimizer="none" if is_llama else lambda given: torch.optim.AdamW(given, foreach=True),
        metrics=["roofline"],
        like="cuda",
    )
    found = roofline(measurement, published.device, tf32=published.tf32)
    bound, took = found.whole.seconds * 1e3, published.milliseconds
    figures = (
        f"{took:,.0f} ms",
        f"{bound:,.0f} ms",
        f"{bound / took:.2f}",
        f"{found.whole.compute_share:.0%}",
        f"{found.mfu(took / 1e3):.0%}",
    )
    return f"| {published.step} | {' | '.join(figures)} |"


if __name__ == "__main__":
    print("| step | measured | bound | bound / measured | computing | MFU |")
    print("|---|--:|--:|--:|--:|--:|")
    for published in STEPS:
        print(row(published), flush=True)
