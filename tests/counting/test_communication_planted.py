"""Ordinary regressions of a step on many ranks, each red by name, on one rank of a fake group."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402

RANKS, WORDS, WIDTH, TOKENS = 8, 512, 64, 32


@dataclass(frozen=True)
class Step:
    """A training step of a fully sharded model, and what somebody may have done to it."""

    gathered_twice: bool = False
    in_bfloat16: bool = True
    forgotten: bool = False
    replicated: bool = False
    full: bool = False


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH))
            for _ in range(3)
        )
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, tokens: Tensor) -> Any:
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def after_a_step(step: Step) -> tuple[Net, Any, Tensor, Step]:
    """What `run` takes, when the optimizer's state exists."""
    if not dist.is_initialized():
        dist.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    mesh = init_device_mesh("cpu", (RANKS,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if step.in_bfloat16 else torch.float32,
        reduce_dtype=torch.float32,
    )
    how: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    model = Net()
    # The head's backward comes at once, so its parameters stay.
    fully_shard(model.head, **how, reshard_after_forward=step.gathered_twice)
    parts = [model.embed, *model.blocks]
    if step.forgotten:
        parts.remove(model.blocks[1])
    if step.replicated:
        parts.remove(model.embed)
    for part in parts:
        fully_shard(part, **how)
    fully_shard(model, **how, ignored_params={model.embed.weight} if step.replicated else None)
    parameters = [nn.Parameter(whole(p)) if step.full else p for p in model.parameters()]
    optimizer = torch.optim.AdamW(parameters)
    tokens = torch.arange(TOKENS).unsqueeze(0)
    run(model, optimizer, tokens, step)
    return model, optimizer, tokens, step


def run(model: Net, optimizer: Any, tokens: Tensor, step: Step) -> None:
    loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    loss.backward()
    if step.replicated:
        dist.all_reduce(model.embed.weight.grad)
    if step.full:
        (group,) = optimizer.param_groups
        for full, sharded in zip(group["params"], model.parameters(), strict=True):
            full.grad = whole(sharded.grad)
    optimizer.step()
    optimizer.zero_grad()
    model.zero_grad()


def whole(sharded: Any) -> Tensor:
    return sharded.full_tensor().detach()


# What each must move upward. `make mutants` plants them in a run of pytest.
PLANTED: dict[str, tuple[Step, tuple[str, ...]]] = {
    "parameters gathered a second time": (
        Step(gathered_twice=True),
        ("communication", "collectives"),
    ),
    "gathers in float32": (Step(in_bfloat16=False), ("communication", "peak_memory")),
    "a layer that is not sharded by itself": (Step(forgotten=True), ("peak_memory",)),
    "an embedding replicated, not sharded": (Step(replicated=True), ("bytes", "peak_memory")),
    "an optimizer on whole parameters": (
        Step(full=True),
        ("communication", "collectives", "peak_memory"),
    ),
}

# Elements: of the embedding, of each block, of the head.
EMBED, HEAD = WORDS * WIDTH, WORDS * WIDTH + WORDS
BLOCK = 2 * WIDTH * 4 * WIDTH + 4 * WIDTH + WIDTH
ALL = EMBED + 3 * BLOCK + HEAD
F32, BF16 = 4, 2
KEPT = BF16 * (BLOCK - WIDTH) + 512  # the second bias takes less than that


def kilo(amount: int, unit: str) -> str:
    return f"{amount / 1000:g} k{unit}"


TOLD: dict[str, tuple[str, ...]] = {
    "parameters gathered a second time": (
        f"head grew by {kilo(BF16 * HEAD, 'B')} in backward: all_gather bfloat16 x",
        "communication total: ",
    ),
    "gathers in float32": (
        "all_gather float32 x * (new, +*communication total: ",
        f"communication forward: {kilo(F32 * ALL, 'B')}, recorded {kilo(BF16 * ALL, 'B')}, ",
    ),
    # What it gathers stays to the end.
    "a layer that is not sharded by itself": (
        f"blocks.0..1.2 x 2*more alive at the peak, *parameters (+{kilo(KEPT, 'B')})",
        "peak_memory total: ",
        "(outside modules) communication backward: ",
    ),
    # AdamW computes 14 for each element, of which 7/8 were other ranks'.
    "an embedding replicated, not sharded": (
        # What forward costs more, backward costs less.
        f"embed grew by {kilo(14 * EMBED * 7 // 8, 'FLOP')} in ",
        f" optimizer: *, over by {kilo(14 * EMBED * 7 // 8, 'FLOP')} ",
    ),
    # Each of the parameters' gradients is gathered; a block has four, the head two.
    "an optimizer on whole parameters": (
        " optimizer: * (+700.0 %)",
        "more alive at the peak, optimizer state (+*peak_memory optimizer: ",
        f"all_gather float32 x 15 (new, +{kilo(F32 * ALL, 'B')})",
    ),
}
TEST = """\
import pytest
from planted import Step, after_a_step, run


@pytest.fixture
def prepared():
    return after_a_step(Step())


@pytest.mark.flops_budget
def test_step(prepared):
    run(*prepared)
"""


@pytest.fixture
def planted(project: Any) -> Iterator[Any]:
    """A project that has recorded the good step."""
    shutil.copy(__file__, project.root / "planted.py")
    project.ini("pythonpath = .\nfilterwarnings = ignore")
    project.test(TEST)
    recording = project.run("--flops-update", "--flops-metrics=all")
    recording.assert_outcomes(passed=1)
    yield project
    dist.destroy_process_group()


@pytest.mark.parametrize("name", PLANTED)
def test_a_regression_of_one_rank_is_red_by_name(planted: Any, name: str) -> None:
    step, metrics = PLANTED[name]
    planted.test(TEST.replace("Step()", repr(step)))
    planted.explains("-v", told=TOLD[name])
    (entry,) = planted.report()["entries"]
    red = {each["quantity"].split()[0] for each in entry["verdicts"] if not each["passed"]}
    assert {*metrics} <= red
