"""Devices: autograd has a thread for each, and kernels differ, not costs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from pytest_flops import BASELINE_CONFIG, ConfigurableResNetBK, bk_core
from pytest_flops.counting.meter.meter import FLOPsMeter
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.analytic.parity import compare

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@cache
def on_a_device_in_python(step: str):
    script = Path(__file__).with_name("python_device.py")
    command = [sys.executable, script, step]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def product(i: int, o: int) -> int:
    return 2 * 3 * i * o


@pytest.mark.parametrize(
    ("step", "repeated"), [("plain", []), ("checkpointed", [0]), ("reentrant", [0, 1])]
)
def test_a_backward_on_a_device_belongs_to_the_modules(step, repeated):
    found = on_a_device_in_python(step)["device"]
    assert (found["threads"], found["threads_after"]) == (1, 2)
    inner = [(6, 7), (7, 3)]
    # without reentrance, the last product of a checkpointed part is not needed again
    again = [product(*inner[layer]) if layer in repeated else 0 for layer in (0, 1)]
    assert found["recomputed"] == sum(again)
    forward = {"first": product(4, 5), "second": product(5, 6), "last": product(3, 2)}
    forward |= {f"inner.{layer}": product(*inner[layer]) for layer in (0, 1)}
    for path, flops in forward.items():
        assert found["components"][path][0] == flops
        repeat = again[int(path[-1])] if path.startswith("inner") else 0
        assert found["components"][path][1] == 2 * flops + repeat, path


@pytest.mark.parametrize("step", ["plain", "checkpointed", "reentrant", "twice"])
def test_a_step_on_a_device_costs_what_it_costs_on_the_cpu(step):
    found = on_a_device_in_python(step)
    device, cpu = found["device"], found["cpu"]
    for read in ("components", "recomputed", "uncounted", "child_processes"):
        assert device[read] == cpu[read]


class Block(nn.Module):
    """A layer of a language model, by parts that have kernels of their own on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rms_norm = nn.LayerNorm(32), nn.RMSNorm(32)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.grow, self.shrink = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.shrink(F.gelu(self.grow(self.rms_norm(x))))


class LanguageModel(nn.Module):
    def __init__(self, *, reentrant: bool | None = None) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 32), nn.Linear(32, 50)
        self.layers = nn.ModuleList([Block(), Block()])
        self._reentrant = reentrant

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            if self._reentrant is None:
                x = layer(x)
            else:
                x = checkpoint(layer, x, use_reentrant=self._reentrant)
        return self.head(x)


def train(device: str, **options) -> FLOPsMeter:
    model = LanguageModel(**options).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    tokens = torch.arange(2 * 16, device=device).reshape(2, 16)
    with FLOPsMeter() as meter, sdpa_kernel(SDPBackend.MATH):
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
    return meter


@needs_cuda
@pytest.mark.parametrize("reentrant", [None, False, True])
def test_a_training_step_on_cuda_costs_what_it_costs_on_the_cpu(reentrant):
    cpu, cuda = (train(device, reentrant=reentrant) for device in ("cpu", "cuda"))
    assert not cuda.uncounted
    assert cuda.components == cpu.components
    assert cuda.recomputed == cpu.recomputed


@needs_cuda
@pytest.mark.parametrize(
    "backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
)
def test_each_attention_kernel_of_cuda_costs_its_two_products(backend):
    q = torch.ones(2, 4, 16, 8, dtype=torch.bfloat16, device="cuda", requires_grad=True)
    with FLOPsMeter() as meter, sdpa_kernel(backend):
        F.scaled_dot_product_attention(q, q, q).sum().backward()
    products = 2 * (2 * 2 * 4 * 16 * 16 * 8)
    softmax = 5 * 2 * 4 * 16 * 16
    scale = 2 * (2 * 4 * 16 * 8)  # of query and key, by a root each
    assert meter.count.forward == products + softmax + scale + 2 * 4 * 16 * 8
    assert not meter.uncounted


@needs_cuda
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 9)),
        (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 9, 9)),
        (lambda: nn.BatchNorm2d(4), (2, 4, 9, 9)),
        (lambda: nn.GroupNorm(2, 4), (2, 4, 9, 9)),
        (lambda: nn.LSTM(4, 8, num_layers=2), (5, 2, 4)),
        (lambda: nn.GRU(4, 8, bidirectional=True), (5, 2, 4)),
    ],
    ids=["conv", "transposed", "batch norm", "group norm", "lstm", "gru"],
)
def test_a_layer_of_cudnn_costs_what_the_cpus_costs(layer, shape):
    def forward(device: str) -> FLOPsMeter:
        module, x = layer().to(device), torch.ones(shape, device=device)
        with FLOPsMeter() as meter:
            module(x)
        assert not meter.uncounted
        return meter

    assert forward("cuda").count == forward("cpu").count


@needs_cuda
@pytest.mark.parametrize("form", [{"foreach": True}, {"fused": True}])
def test_every_form_of_an_optimizer_on_cuda_costs_the_loops(form):
    def step(**options) -> int:
        weight = torch.ones(8, 8, device="cuda", requires_grad=True)
        weight.grad = torch.ones_like(weight)
        optimizer = torch.optim.AdamW([weight], **options)
        with FLOPsMeter() as meter:
            optimizer.step()
        assert not meter.uncounted
        return meter.count.optimizer

    assert step(**form) == step(foreach=False) == 14 * 64 + 1


@needs_cuda
def test_mixed_precision_with_a_gradient_scaler_is_counted():
    layer = nn.Linear(8, 4, device="cuda")
    optimizer, scaler = torch.optim.SGD(layer.parameters(), lr=0.1), torch.amp.GradScaler()
    with FLOPsMeter() as meter:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = layer(torch.ones(3, 8, device="cuda")).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert not meter.uncounted
    # the product, its bias, the sum; times the scale; each gradient over it; the next scale
    assert meter.count.forward == 2 * 3 * 8 * 4 + 3 * 4 + 3 * 4 + 1 + (1 + 8 * 4 + 4) + 1


@needs_cuda
def test_bk_core_and_its_model_cost_the_same_on_cuda():
    def cost(device: str) -> FLOPsMeter:
        v = torch.ones(3, 100, device=device, requires_grad=True)
        off = torch.ones(99, device=device)
        with FLOPsMeter() as meter:
            bk_core(v, off, off, 1j).sum().backward()
        return meter

    assert cost("cuda").count == cost("cpu").count
    config = replace(BASELINE_CONFIG, dropout_p=0.0)
    model = ConfigurableResNetBK(config).to("cuda")
    tokens = torch.zeros(2, 16, dtype=torch.int64, device="cuda")
    with FLOPsMeter() as meter:
        model(tokens).sum().backward()
    counter = FLOPsCounter.from_config(config, batch_size=2, seq_len=16, rules="executed")
    records = compare(counter.measurement("none"), meter.measurement())
    assert all(record.agrees for record in records)
