"""Workloads that are a whole step, counted as it is; and those of a forward alone."""

from __future__ import annotations

from typing import Any

import pytest

# Two halves of (4, 4) @ (4, 2), each 2 x 4 x 4 x 2 = 64 FLOPs, and a sum over 8 outputs: 144. Of
# each half the weight's gradient is a product, 64, and the second half's is added to it, 8:
# backward 136. SGD costs 2 for each of 8 parameters: 16. Together 296.
STEPS = """
    import torch
    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.head = torch.nn.Linear(width, 2, bias=False)
        def forward(self, x): return self.head(x)
    def accumulating(batch_size, width):
        net = Net(width)
        optimizer = torch.optim.SGD(net.parameters())
        x = torch.ones(batch_size, width)
        def step():
            for half in x.chunk(2): net(half).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return step
    def broken(batch_size):
        def step(): raise ValueError("no data")
        return step
    def no_step(batch_size): return Net(4), torch.ones(batch_size, 4)
    def idle(batch_size): return lambda: torch.ones(batch_size)
"""


@pytest.fixture
def steps(project: Any) -> Any:
    project.write("steps.py", STEPS)
    return project


def workload(name: str, *keys: str) -> str:
    return f"workload: {{{', '.join((name, 'batch_size: 8', *keys))}}}"


def test_a_step_is_counted_as_it_is(steps: Any) -> None:
    step = workload("step: 'steps:accumulating'", "config: {width: 4}")
    limits = "limits: {forward: 144, backward: 136, optimizer: 16, total: 296, peak_memory: 1 MiB}"
    steps.budget("step", step, limits)
    steps.run("budgets").assert_outcomes(passed=1)
    (entry,) = steps.report()["entries"]
    count = {"forward": 144, "backward": 136, "optimizer": 16, "total": 296}
    assert entry["measurement"]["count"] == count
    assert entry["workload"]["step"]
    assert entry["workload"]["model"] == "steps:accumulating"
    assert "adamw" not in (steps.root / "reports/flops.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("phase", "most"), [("forward", 143), ("backward", 135), ("optimizer", 15), ("total", 295)]
)
def test_a_step_over_its_limit_is_red(steps: Any, phase: str, most: int) -> None:
    step = workload("step: 'steps:accumulating'", "config: {width: 4}")
    steps.budget("step", step, f"limits: {{{phase}: {most}}}")
    steps.fails("budgets", told=[f"*{phase}*over by 1 FLOP*"])


@pytest.mark.long
def test_a_step_is_recorded_and_swept(steps: Any) -> None:
    steps.budget(
        "step",
        workload("step: 'steps:accumulating'", "config: {width: 4}"),
        "scaling: {batch_size: {sizes: [8, 16, 32], max_exponent: 1.0}}",
    )
    steps.run("budgets", "--flops-update").assert_outcomes(passed=2)
    assert steps.recorded("step") == {"forward": 144, "backward": 136, "optimizer": 16}
    steps.write("steps.py", STEPS.replace("chunk(2)", "chunk(4)"))
    # Two more gradients are added up: 16 more in backward.
    result = steps.run("budgets/model.yaml::step::recorded")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["head grew by 16 FLOP in backward: aten.add_*"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken", "*the step of 'steps:broken' raised ValueError: no data*"),
        ("no_step", "*'steps:no_step' returns a function without arguments*not a tuple*"),
        ("idle", "*the step of 'steps:idle' computes nothing (0 FLOP)*"),
    ],
)
def test_a_step_that_cannot_be_counted_is_red(steps: Any, name: str, told: str) -> None:
    steps.budget("step", workload(f"step: 'steps:{name}'"), "limits: {total: 1 GFLOP}")
    steps.fails("budgets", told=[told])


COMPILED = """
import torch

def compiled(batch_size):
    net, x = torch.nn.Linear(4, 4, bias=False), torch.ones(batch_size, 4)

    @torch.compile(backend="eager")
    def loss(x):
        y = net(x)
        BETWEEN
        return y.sum()

    return lambda: loss(x).backward()
"""


@pytest.mark.long
def test_a_step_tells_what_the_compiler_makes_of_it(steps: Any) -> None:
    steps.write("compiled.py", COMPILED.replace("BETWEEN", ""))
    # Two products of 8 x 4 and 4 x 4, forward and backward; a sum of 32.
    limits = "limits: {graph_breaks: 0, recompiles: 0, graphs: 1, total: 544}"
    steps.budget("step", workload("step: 'compiled:compiled'"), limits)
    steps.run("budgets").assert_outcomes(passed=1)
    steps.write("compiled.py", COMPILED.replace("BETWEEN", "print(end='')"))
    steps.fails("budgets", told=["graph_breaks at compiled.py:9 in loss: *", "graphs total: 2 *"])
    step = workload("step: 'steps:accumulating'", "config: {width: 4}")
    steps.budget("step", step, "limits: {graph_breaks: 0}")
    steps.fails("budgets", told=["nothing was compiled, so what the budget says of graph_breaks *"])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["optimizer: sgd"], "*unknown key 'optimizer'; accepted here: step, config*"),
        (["model: resnet_bk"], "*unknown key 'model'*"),
        (["values: real"], "*unknown key 'values'*"),
    ],
)
def test_a_step_has_no_keys_of_a_training_step(steps: Any, keys: list[str], told: str) -> None:
    steps.budget("step", workload("step: 'steps:accumulating'", *keys))
    steps.refuses("budgets", told=[told])


def test_a_step_is_a_function_of_a_module(steps: Any) -> None:
    steps.budget("step", workload("step: accumulating"))
    steps.refuses("budgets", told=["*expected \"package.module:function\", found 'accumulating'*"])


def test_without_training_the_forward_is_counted_alone(steps: Any) -> None:
    # (8, 4) @ (4, 2), without a loss.
    steps.budget(
        "forward", workload("model: 'steps:no_step'", "training: false"), "limits: {total: 128}"
    )
    steps.run("budgets").assert_outcomes(passed=1)
    assert steps.report()["entries"][0]["measurement"]["count"]["total"] == 128


@pytest.mark.parametrize(
    ("returned", "count"),
    [
        # A product of (8, 4) @ (4, 2), 128, and the sum over 16 outputs; the gradient's product;
        # AdamW at 14 for each of 8 parameters and 1 for the tensor.
        ("Net(4), x", (144, 128, 113)),
        # Doubling 16 outputs costs 16 each way.
        ("Net(4), x, lambda y: (y * 2).sum()", (160, 144, 113)),
        ("Net(4), x, lambda y: (y * 2).sum(), torch.optim.SGD", (160, 144, 16)),
        ("Net(4), x, None, torch.optim.SGD", (144, 128, 16)),
    ],
)
def test_a_builder_may_bring_its_loss_and_its_optimizer(
    steps: Any, returned: str, count: tuple[int, int, int]
) -> None:
    steps.write(
        "steps.py",
        f"{STEPS}    def own(batch_size):\n        x = torch.ones(batch_size, 4)\n"
        f"        return {returned}\n",
    )
    steps.budget("own", workload("model: 'steps:own'"), "limits: {total: 1 kFLOP}")
    steps.run("budgets").assert_outcomes(passed=1)
    found = steps.report()["entries"][0]["measurement"]["count"]
    assert tuple(found[phase] for phase in ("forward", "backward", "optimizer")) == count


def test_without_training_a_reference_model_is_not_counted_by_its_rules(project: Any) -> None:
    sizes = "batch_size: 2, seq_len: 8"
    project.budget(
        "forward", f"workload: {{model: resnet_bk, {sizes}, training: false, rules: executed}}"
    )
    project.run("budgets", "--flops-update")
    assert project.recorded("forward").keys() == {"forward"}
