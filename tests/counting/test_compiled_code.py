"""Compiled code costs what it costs uncompiled, whenever it is compiled."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter.meter import FLOPsMeter

X = torch.ones(3, 4)
LINEAR = FLOPsCount(2 * 3 * 4 * 2 + 3 * 2, 2 * 3 * 4 * 2 + 3 * 2)


@pytest.mark.parametrize("whole_graph", [False, True])
def test_a_compiled_model_costs_what_it_costs_uncompiled(whole_graph):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    compiled = torch.compile(model, backend="eager", fullgraph=whole_graph)
    compiled(X).sum().backward()
    model.zero_grad(set_to_none=True)
    with FLOPsMeter() as plain:
        model(X).sum().backward()
    model.zero_grad(set_to_none=True)
    with FLOPsMeter() as meter:
        compiled(X).sum().backward()
    assert meter.components == plain.components


@pytest.mark.parametrize("whole_graph", [False, True])
def test_a_model_may_be_compiled_inside_the_meter(whole_graph):
    model = nn.Linear(4, 2)
    with FLOPsMeter() as meter:
        compiled = torch.compile(model, backend="eager", fullgraph=whole_graph)
        compiled(X).backward(torch.ones(3, 2))
    assert meter.count == LINEAR


@pytest.mark.parametrize(
    ("run", "flops"),
    [
        pytest.param(
            "torch.cond(torch.tensor(True), lambda x: x @ x, lambda x: x + 1, (x,))",
            2 * 4 * 4 * 4,
            marks=pytest.mark.long,
        ),
        ("torch.compile(lambda x: x @ x, backend='eager', fullgraph=True)(x)", 2 * 4 * 4 * 4),
    ],
)
def test_a_meter_may_begin_before_the_compiler_is_imported(run, flops):
    program = f"""
import sys, torch
from pytest_flops import FLOPsMeter

compile, x = torch.compile, torch.ones(4, 4)
with FLOPsMeter() as meter:
    assert "torch._dynamo" not in sys.modules
    {run}
assert meter.count.total == {flops} and not meter.uncounted, meter
assert torch.compile is compile

graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph
torch.compile(lambda x: x @ x, backend=backend)(x)
assert len(graphs) == 1, "compiles again"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_meters_that_overlap_hold_the_compiler_off_until_the_last_one_ends():
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(lambda x: x @ x.T, backend=backend)
    second_counts, first_ended = threading.Event(), threading.Event()

    def count() -> int:
        with FLOPsMeter() as second:
            second_counts.set()
            first_ended.wait()
            compiled(X)
        return second.count.forward

    with ThreadPoolExecutor(1) as pool:
        with FLOPsMeter():
            counted = pool.submit(count)
            second_counts.wait()
        first_ended.set()
        assert counted.result() == 2 * 3 * 4 * 3
    assert not graphs
    compiled(X)
    assert len(graphs) == 1
