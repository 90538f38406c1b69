"""Twelve ordinary regressions of a training step that its FLOPs do not show, and what does."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_flops import FLOPsMeter
from pytest_flops.counting.measurement import Measurement

METRICS = ["bytes", "peak_memory", "launches", "syncs", "full_precision"]
BATCH, LENGTH, WIDTH, HEADS, WORDS = 2, 16, 32, 2, 64


@dataclass(frozen=True)
class Step:
    """A training step of a small GPT, and what somebody may have done to it."""

    log: bool = False
    clip: bool = False
    how: str = "fused"
    set_to_none: bool = True
    logits_in_full: bool = False
    autocast: bool = True
    island: bool = False
    copies: bool = False
    mask: bool = False
    kept: bool = False
    apart: bool = False


class Block(nn.Module):
    def __init__(self, step: Step, kept: list[Tensor]) -> None:
        super().__init__()
        self.step, self.kept = step, kept
        self.norm, self.inner = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        if step.apart:
            self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        else:
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attention(self.norm(x)))
        with torch.autocast("cpu", enabled=False) if self.step.island else nullcontext():
            inner = self.inner(x.float() if self.step.island else x)
            x = x + self.down(nn.functional.gelu(self.up(inner)))
        if self.step.kept:
            self.kept.append(x.sin())
        return x

    def attention(self, x: Tensor) -> Tensor:
        if self.step.apart:
            parts: Any = self.q(x), self.k(x), self.v(x)
        else:
            parts = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in parts)
        if self.step.copies:
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        return (
            nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            .transpose(1, 2)
            .flatten(2)
        )


class GPT(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(Block(step, self.kept) for _ in range(2))
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, tokens: Tensor) -> Any:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def after_a_step(step: Step) -> tuple[GPT, Any, Tensor, Step]:
    """What `run` takes, when the optimizer's state exists."""
    torch.manual_seed(0)
    model = GPT(step)
    optimizer = torch.optim.AdamW(model.parameters(), **{step.how: True} if step.how else {})
    tokens = torch.randint(WORDS, (BATCH, LENGTH))
    run(model, optimizer, tokens, step)
    model.kept.clear()
    return model, optimizer, tokens, step


@cache
def measured(step: Step) -> Measurement:
    prepared = after_a_step(step)
    with FLOPsMeter(metrics=METRICS) as meter:
        run(*prepared)
    return meter.measurement()


def run(model: GPT, optimizer: Any, tokens: Tensor, step: Step) -> None:
    optimizer.zero_grad(set_to_none=step.set_to_none)
    with torch.autocast("cpu", torch.bfloat16, enabled=step.autocast):
        logits = model(tokens)
        if step.logits_in_full:
            logits = logits.float().clone()
        logits, targets = logits.flatten(0, 1), tokens.flatten()
        if step.mask:
            logits, targets = logits[targets >= 0], targets[targets >= 0]
        loss = nn.functional.cross_entropy(logits, targets)
    loss.backward()
    if step.log:
        loss.item()
    if step.clip:
        norm = sum(float(p.grad.norm()) ** 2 for p in model.parameters() if p.grad is not None)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(min(1.0, 1.0 / norm**0.5))
    optimizer.step()


# What each must move upward. `make mutants` plants them in a run of pytest.
PLANTED: dict[str, tuple[Step, tuple[str, ...]]] = {
    "loss.item() for a log": (Step(log=True), ("syncs",)),
    "clipping through Python floats": (Step(clip=True), ("syncs", "launches", "bytes")),
    "an optimizer's loop, not fused": (Step(how=""), ("launches", "bytes")),
    "foreach for fused": (Step(how="foreach"), ("launches", "bytes")),
    "gradients zeroed, not dropped": (
        Step(set_to_none=False),
        ("launches", "bytes", "peak_memory"),
    ),
    "logits copied to float32": (Step(logits_in_full=True), ("bytes",)),
    "autocast forgotten": (Step(autocast=False), ("full_precision", "peak_memory")),
    "a float32 island around the MLP": (Step(island=True), ("full_precision",)),
    "copies of the layout in each block": (Step(copies=True), ("launches", "bytes")),
    "a boolean mask on the loss": (Step(mask=True), ("syncs", "launches", "bytes")),
    "activations kept in a list": (Step(kept=True), ("peak_memory",)),
    "q, k and v projected apart": (Step(apart=True), ("launches", "bytes")),
}


@pytest.mark.parametrize(("step", "metrics"), PLANTED.values(), ids=PLANTED)
def test_what_flops_do_not_show_another_metric_does(step: Step, metrics: tuple[str, ...]) -> None:
    base, planted = measured(Step()), measured(step)
    assert (
        planted.of("total") <= base.of("total") * 1.03
    )  # a small model: little arithmetic is a lot
    grown = {name for name in METRICS if planted.of(f"{name} total") > base.of(f"{name} total")}
    assert set(metrics) <= grown


def test_a_good_step_has_no_sync_and_no_product_in_full_precision() -> None:
    good = measured(Step())
    assert good.of("syncs total") == 0
    assert good.of("full_precision total") == 0
