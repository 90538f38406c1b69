"""The same counts, bit for bit: however a run is made, on whatever device and in either precision.

Only which expert of a mixture a token goes to depends on the data, so that experts are compared
in sum, as the mixture that contains them.
"""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest
import torch

STEPS = """\
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pytest_flops import ConfigurableResNetBK, FLOPsMeter, ResNetBKConfig

CONFIG = {
    'vocab_size': 50, 'd_model': 8, 'n_layers': 2, 'n_seq': 16, 'num_experts': 3, 'top_k': 2,
}

def language_model(dtype):
    model = ConfigurableResNetBK(ResNetBKConfig.from_dict(CONFIG)).to(dtype)
    return model, torch.randint(50, (2, 16)), torch.randint(50, (32,))

def convnet(dtype):
    layers = (
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )
    images = torch.randn(4, 3, 16, 16, dtype=dtype)
    return nn.Sequential(*layers).to(dtype), images, torch.randint(5, (4,))

def transformer(dtype):
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.Sequential(encoder, nn.Linear(16, 5)).to(dtype)
    return model, torch.randn(4, 12, 16, dtype=dtype), torch.randint(5, (48,))

MODELS = [language_model, convnet, transformer]

def build(model, device='cpu', dtype=torch.float32):
    torch.seed()
    with torch.device(device):
        return model(dtype)

def train(model, inputs, targets):
    optimizer = torch.optim.AdamW(model.parameters())
    cross_entropy(model(inputs).flatten(0, -2), targets).backward()
    optimizer.step()

def metered(*how):
    step = build(*how)
    with FLOPsMeter() as meter:
        train(*step)
    return meter.measurement().to_dict()

def built_step(**sizes):
    return build(transformer)[:2]
"""
SUITE = """\
import pytest
import steps

@pytest.mark.flops_budget(total='1 GFLOP')
@pytest.mark.parametrize('model', steps.MODELS, ids=lambda model: model.__name__)
def test_step(model):
    step = steps.build(model)
    steps.train(*step)
"""
BUDGETS = """\
version: 1
budgets:
  analytic:
    workload:
      model: resnet_bk
      config: {d_model: 8, n_layers: 2, n_seq: 16, vocab_size: 50, num_experts: 3, top_k: 2}
      batch_size: 2
      seq_len: 16
    limits: {total: 1 GFLOP, components: {"layer_*": {forward: 1 FLOP}}}
    scaling: {seq_len: {sizes: [16, 32, 64], max_exponent: 1.0}}
  metered:
    workload: {model: "steps:built_step"}
    limits: {total: 1 GFLOP}
"""
CONFTEST = """\
import random

import torch

def pytest_addoption(parser):
    parser.addoption('--shuffle')
    parser.addoption('--threads', type=int)

def pytest_configure(config):
    if config.option.threads:
        torch.set_num_threads(config.option.threads)

def pytest_collection_modifyitems(config, items):
    if config.option.shuffle:
        random.Random(config.option.shuffle).shuffle(items)
"""


@pytest.fixture
def suite(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(project.root))
    monkeypatch.syspath_prepend(project.root)
    project.write("steps.py", STEPS)
    project.write("conftest.py", CONFTEST)
    project.budgets(BUDGETS)
    project.test(SUITE)
    return project


def without_experts(measurement: dict[str, Any]) -> dict[str, Any]:
    """A measurement as plain types, less what is of one expert."""
    components = {
        path: cost for path, cost in measurement["components"].items() if ".experts." not in path
    }
    own = [
        each
        for each in measurement["own_operations"]
        if not any(".experts." in path for path in each["components"])
    ]
    return measurement | {"components": components, "own_operations": own}


def found(suite: Any) -> str:
    """Every count, verdict and sweep of the last run, as text, so that not a digit is let pass."""
    entries = suite.report()["entries"]
    assert len(entries) == 5
    for entry in entries:
        entry["measurement"] = without_experts(entry["measurement"])
    return json.dumps(entries)


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(("-n", "2", "--shuffle", "1"), id="xdist", marks=pytest.mark.long),
        pytest.param(("--shuffle", "2"), id="shuffled"),
        pytest.param(("--threads", "2"), id="two-threads"),
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_a_run_finds_the_same_in_every_way(suite: Any, way: tuple[str, ...]) -> None:
    assert suite.run().ret == 1
    plain = found(suite)
    assert suite.run(*way).ret == 1
    assert found(suite) == plain


@pytest.mark.long
def test_a_run_finds_the_same_whatever_the_hash_seed(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert suite.run().ret == 1
    plain = found(suite)
    monkeypatch.setenv("PYTHONHASHSEED", "1234")
    assert suite.run_apart().ret == 1
    assert found(suite) == plain


MODELS = pytest.mark.parametrize("model", ["language_model", "convnet", "transformer"])


@MODELS
def test_counting_twenty_times_finds_the_same_each_time(suite: Any, model: str) -> None:
    steps = runpy.run_path(str(suite.root / "steps.py"))
    counts = {json.dumps(without_experts(steps["metered"](steps[model]))) for _ in range(20)}
    assert len(counts) == 1


@MODELS
def test_every_device_and_precision_costs_the_same(suite: Any, model: str) -> None:
    steps = runpy.run_path(str(suite.root / "steps.py"))
    plain, *others = (
        without_experts(steps["metered"](steps[model], device, dtype))
        for device in ("cpu", "meta")
        for dtype in (torch.float32, torch.bfloat16)
    )
    for other in others:
        assert other["count"] == plain["count"]
        assert other["components"] == plain["components"]
        assert other["uncounted"] == plain["uncounted"] == {}


CACHED = """\
import functools
import torch

@functools.lru_cache
def table(n):
    return torch.arange(n).float().cos()

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x) * table(x.shape[-1])

def build(batch_size):
    return Net(), torch.ones(batch_size, 8)
"""
USES_THE_CACHE = """\
import torch
from cached import Net

def test_plain():
    assert Net()(torch.ones(2, 8)).sum().item() != 0
"""


@pytest.mark.parametrize("order", [("budgets", "tests"), ("tests", "budgets")])
def test_a_workload_and_other_tests_share_a_cache_in_either_order(
    project: Any, order: tuple[str, ...]
) -> None:
    project.ini("pythonpath = .")
    project.write("cached.py", CACHED)
    project.test(USES_THE_CACHE, "tests/test_cached.py")
    project.budget(
        "net", "workload: {model: 'cached:build', batch_size: 4}", "limits: {total: 1 MFLOP}"
    )
    project.run(*order, "--flops-update").assert_outcomes(passed=3)
    # the product and its bias, the table, the product with it, the sum that stands for a loss
    assert project.recorded("net")["forward"] == 2 * 4 * 64 + 32 + 8 + 32 + 32
