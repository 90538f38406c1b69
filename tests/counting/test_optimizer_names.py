"""The optimizer of a step, by its name in `torch.optim`, with its keywords or without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_flops import FLOPsMeter, budgets, count_flops

SCHEMA = Path(budgets.__file__).with_name("schema.json")
NAMES = json.loads(SCHEMA.read_text("utf-8"))["$defs"]["optimizer_name"]["enum"]


def of_real_step(optimizer: type[torch.optim.Optimizer], **keywords: Any) -> int:
    """What a step costs in real life, of a model like that of `counted`."""
    model = torch.nn.Linear(4, 2)
    model(torch.ones(3, 4)).sum().backward()
    stepping = optimizer(model.parameters(), **keywords)
    with FLOPsMeter() as meter:
        stepping.step()
    return meter.count.optimizer


def counted(optimizer: Any, **asked: Any) -> int:
    model, x = torch.nn.Linear(4, 2), torch.ones(3, 4)
    return count_flops(model, x, optimizer=optimizer, **asked).count.optimizer


# Muon takes matrices alone, and SparseAdam gradients that are sparse.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"none", "muon", "sparseadam"}))
def test_each_name_of_the_schema_is_an_optimizer_of_pytorch(name: str) -> None:
    by_name = {each.lower(): found for each, found in vars(torch.optim).items()}
    asked = {"values": "real"} if name == "adafactor" else {}  # whose code asks for values
    assert counted(name, **asked) == of_real_step(by_name[name]) > 0


def test_the_schema_knows_every_optimizer_of_pytorch_that_steps_alone() -> None:
    known = {
        name.lower()
        for name, found in vars(torch.optim).items()
        if isinstance(found, type) and found not in (torch.optim.Optimizer, torch.optim.LBFGS)
    }
    assert known <= {*NAMES}


def test_keywords_are_the_optimizers() -> None:
    # Of 10 parameters, in the first step: the update is 2 each, weight decay 2 more.
    assert counted("sgd") == 20
    assert counted({"name": "sgd", "weight_decay": 0.1}) == 40
    assert counted({"name": "sgd", "weight_decay": 0.1}) == of_real_step(
        torch.optim.SGD, weight_decay=0.1
    )


def test_what_pytorch_refuses_is_said(project: Any) -> None:
    project.write(
        "net.py", "import torch\ndef build(): return torch.nn.Linear(4, 2), torch.ones(3, 4)\n"
    )
    workload = "workload: {{model: 'net:build', optimizer: {}}}"
    limit = "limits: {total: 1 kFLOP}"
    project.budget("net", workload.format("{name: sgd, weight_decay: 0.1}"), limit)
    project.run("budgets").assert_outcomes(passed=1)
    assert project.report()["entries"][0]["measurement"]["count"]["optimizer"] == 40
    project.budget("net", workload.format("{name: sgd, wight_decay: 0.1}"), limit)
    project.fails(
        "budgets",
        told=["*the optimizer 'sgd' takes no keyword 'wight_decay'; did you mean 'weight_decay'?*"],
    )
    for wrong in ("rmsprob", "{name: rmsprob}", "{momentum: 0.9}"):
        project.budget("net", workload.format(wrong), limit)
        project.refuses("budgets", told=["*optimizer*"])


def test_the_rules_of_the_reference_model_know_four(project: Any) -> None:
    project.budgets(project.baseline.replace("adamw", "rmsprop"))
    told = ["*unknown optimizer 'rmsprop'; the counting rules know none, sgd, adam, adamw*"]
    result = project.run("budgets")
    result.stdout.fnmatch_lines(told)
    assert result.ret == 1
