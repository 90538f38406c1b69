"""Budgets of graph breaks, recompiles and graphs: in a marker, in YAML, recorded, and compared."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from typing import Any

import pytest

pytestmark = pytest.mark.long

NONE = "graph_breaks=0, recompiles=0, graphs=1"
MODEL = """\
import sys, torch
from torch import nn

class Net(nn.Module):
    def __init__(self, scale=1):
        super().__init__()
        self.inside, self.out, self.scale = nn.Linear(4, 8), nn.Linear(8, 2), scale

    def forward(self, x):
        x = self.inside(x)
        {line}
        return self.out(x) * self.scale

def build(batch_size=3):
    return Net(), torch.ones(batch_size, 4)
"""
LINE = 11
CLEAN = "x = x.relu()"
BREAK = "print(end='')"


@pytest.fixture
def net(project: Any) -> Any:
    """A project whose model is compiled without a break."""
    project.ini("pythonpath = .")
    project.write("model.py", MODEL.format(line=CLEAN))
    return project


def marked(project: Any, *body: str, limits: str = NONE) -> None:
    project.marked(limits, "\n".join(("from model import Net", *body)))


def red(project: Any, *told: str, arguments: tuple[str, ...] = ()) -> None:
    """Run one test, which fails and says all of this, however its lines are wrapped."""
    result = project.run(*arguments)
    result.assert_outcomes(failed=1)
    text = " ".join(result.stdout.str().split())
    assert [pattern for pattern in told if not fnmatch(text, f"*{pattern}*")] == [], text
    assert "torch.__trace" not in text  # which pytest would show as what the test has logged


ONCE = ("model = torch.compile(Net(), backend='eager')", "model(torch.ones(3, 4))")


def test_a_clean_test_is_green_and_says_what_the_second_run_took(net: Any) -> None:
    marked(net, *ONCE, "model(torch.ones(3, 4))")
    result = net.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*the compiler's metrics are of another run, which took *s"])
    (entry,) = net.report()["entries"]
    found = entry["measurement"]["metrics"]
    assert {name: costs["whole"]["total"] for name, costs in found.items()} == {
        "graph_breaks": 0,
        "recompiles": 0,
        "graphs": 1,
    }
    # Products of both calls, biases, and what else is computed; once, though the body ran twice.
    assert entry["measurement"]["operations"]["aten.addmm"]["forward"] == 2 * 2 * 3 * (32 + 16)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (BREAK, "Dynamo does not know how to trace builtin operator `print`*"),
        ("x = x * (2 if x.sum().item() > 0 else 3)", "*`Tensor.item()`*"),
        ("x = x * (2 if x.sum() > 0 else 3)", "Detected data-dependent branching*"),
        ("sys.getrefcount(x)", "Dynamo does not know how to trace the builtin `sys.getrefcount*"),
    ],
)
def test_a_planted_break_is_red_with_its_line_and_its_reason(net: Any, line: str, why: str) -> None:
    net.write("model.py", MODEL.format(line=line))
    marked(net, *ONCE)
    red(
        net,
        f"graph_breaks at model.py:{LINE} in forward: {why}",
        "graph_breaks total: 1 call, limit 0 calls, over by 1 call",
        # The break ends the first graph, and the second begins there.
        f"graphs at model.py:{LINE} in forward, resumed (1 call), model.py:9 in forward, called",
        "graphs total: 2 calls, limit 1 call",
        arguments=("-W", "ignore"),
    )


@pytest.mark.parametrize(
    ("again", "why"),
    [
        (
            "model(torch.ones(5, 4))",
            "tensor 'x' size mismatch at index 0. expected 3, actual 5",
        ),
        ("model.scale = 7; model(torch.ones(3, 4))", "*scale == 1*"),
    ],
)
def test_a_planted_recompile_is_red_with_the_call_and_the_guard(
    net: Any, again: str, why: str
) -> None:
    marked(net, *ONCE, again)
    red(
        net,
        f"recompiles at model.py:9 in forward, called at test_model.py:10: {why}",
        "recompiles total: 1 call, limit 0 calls",
    )


def test_a_second_graph_is_red_with_both(net: Any) -> None:
    marked(net, *ONCE, "torch.compile(Net(2).out, backend='eager')(torch.ones(3, 8))")
    first = "model.py:9 in forward, called at test_model.py:9 (1 call)"
    red(net, f"graphs at *called at test_model.py:10 (1 call), {first}", "graphs total: 2 calls")


def test_under_fullgraph_a_break_is_the_compilers_own_error(net: Any) -> None:
    net.write("model.py", MODEL.format(line=BREAK))
    marked(net, ONCE[0].replace("'eager'", "'eager', fullgraph=True"), ONCE[1])
    result = net.fails(
        told=[
            "in its second run, in which its code is compiled, the test raised Unsupported: *",
            f'*File "*model.py", line {LINE}, in forward',
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_an_error_that_the_compiler_suppresses_is_a_break(net: Any) -> None:
    marked(
        net,
        "def broken(graph, inputs): raise RuntimeError('out of order')",
        "with torch._dynamo.config.patch(suppress_errors=True):",
        "    torch.compile(Net(), backend=broken)(torch.ones(3, 4))",
    )
    nothing = "nothing was compiled, so what the budget says of recompiles, graphs is held against"
    gave_up = (
        "the compiler gave up at model.py:9 in forward, called at test_model.py:10, which runs"
    )
    net.fails(told=[f"{nothing} nothing: *; {gave_up} uncompiled: *out of order*"])


@pytest.mark.parametrize("limits", [NONE, "graph_breaks=0", "recompiles=2, total='1 GFLOP'"])
def test_where_nothing_is_compiled_nothing_is_held(net: Any, limits: str) -> None:
    marked(net, "Net()(torch.ones(3, 4))", limits=limits)
    net.fails(told=["nothing was compiled, so what the budget says of *"])


def test_another_backend_than_inductor_has_no_kernels(net: Any) -> None:
    told = "nothing was compiled by Inductor (the default backend), so what the budget says of k"
    marked(net, *ONCE, limits="kernels=9, graphs=1")
    net.fails(told=[f"{told}*"])
    net.budget("net", WORKLOAD + ", compile: {backend: eager}}", "limits: {kernels: 9}")
    net.fails("budgets", told=[f"*{told}*"])


def test_a_body_that_cannot_run_twice_is_told_so(net: Any) -> None:
    net.test(
        "import pytest, torch\n"
        "from model import Net\n"
        "@pytest.fixture\n"
        "def batches(): return iter([torch.ones(3, 4)])\n"
        f"@pytest.mark.flops_budget({NONE})\n"
        "def test_step(batches):\n"
        "    torch.compile(Net(), backend='eager')(next(batches))\n"
    )
    net.fails(
        told=[
            "in its second run, in which its code is compiled, the test raised StopIteration: *",
            "test_model.py:7",
        ]
    )


def test_a_block_cannot_run_twice(net: Any) -> None:
    net.test("def test_step(flops):\n    with flops.measure(graph_breaks=0): pass\n")
    net.fails(told=["graph_breaks: a `with` block cannot run a second time, *"])
    net.test(
        "import pytest\n@pytest.mark.flops_budget(graphs=1)\n"
        "def test_step(flops):\n    with flops.measure(): pass\n"
    )
    net.fails(told=["graphs: a `with` block cannot run a second time, *"])


def test_what_count_flops_finds_can_be_checked(net: Any) -> None:
    net.write("model.py", MODEL.format(line=BREAK))
    net.test(
        "from pytest_flops import count_flops\nfrom model import build\n"
        "def test_step(flops):\n"
        "    model, x = build()\n"
        "    found = count_flops(model, x, compile=True, metrics=['graph_breaks'])\n"
        "    flops.check(found, graph_breaks=0)\n"
    )
    red(net, f"graph_breaks at model.py:{LINE} in forward: ", "graph_breaks total: 1 call, ")


def test_a_method_of_unittest_runs_twice_too(net: Any) -> None:
    net.test(
        "import unittest, pytest, torch\nfrom model import Net\n"
        "class TestNet(unittest.TestCase):\n"
        f"    @pytest.mark.flops_budget({NONE})\n"
        "    def test_step(self):\n"
        "        torch.compile(Net(), backend='eager')(torch.ones(3, 4))\n"
    )
    net.run().assert_outcomes(passed=1)
    net.write("model.py", MODEL.format(line=BREAK))
    net.run().assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ("graph_breaks={'forward': 0}", "graph_breaks: *this has no phases*"),
        ("components={'*': {'graphs': 1}}", "*'graphs' is of the whole workload, and neither of*"),
        (
            "scaling={'seq_len': {'sizes': [1, 2, 3], 'metrics': {'recompiles': 1.0}}}",
            "*'recompiles' is of the whole workload, and neither of components nor of sizes*",
        ),
        ("graph_breaks='1 GB'", "*is a number of bytes, not a number of calls*"),
    ],
)
def test_limits_that_they_cannot_have_are_errors_at_once(net: Any, limits: str, told: str) -> None:
    marked(net, *ONCE, limits=limits)
    net.refuses(told=[f"*{told}"])


def test_what_the_second_run_prints_and_logs_is_captured(net: Any) -> None:
    net.test("""
        import logging

        import pytest
        import torch


        @pytest.mark.flops_budget(graphs=1)
        def test_step(capsys, caplog):
            torch.compile(lambda x: x @ x, backend="eager")(torch.ones(4, 4))
            print("printed")
            logging.getLogger().warning("logged")
            assert capsys.readouterr().out == "printed\\n"
            assert caplog.messages[-1] == "logged"
            caplog.clear()
    """)
    result = net.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*printed*")


def test_the_record_holds_within_one_version_of_pytorch(net: Any) -> None:
    marked(net, *ONCE, limits=NONE)
    net.run("--flops-update").assert_outcomes(passed=1)
    lock = net.root / "test_model.lock.json"
    record = json.loads(lock.read_text())["tests"]["test_step"]
    version = record["graphs"]["torch"]
    assert [record[name]["count"] for name in ("graph_breaks", "recompiles", "graphs")] == [
        {},
        {},
        {"total": 1},
    ]
    again = net.run("--flops-update")
    again.stdout.fnmatch_lines(["*holds these counts already; it was not changed"])
    assert json.loads(lock.read_text())["tests"]["test_step"] == record

    net.write("model.py", MODEL.format(line=BREAK))
    marked(net, *ONCE, limits="graphs=9")  # graph_breaks are of the record alone
    red(net, f"graph_breaks at model.py:{LINE} in ", "graph_breaks total: 1 call, recorded 0 calls")

    lock.write_text(lock.read_text().replace(f'"torch": "{version}"', '"torch": "2.10.0"'))
    net.run("--flops-ratchet").assert_outcomes(passed=1)
    assert '"torch": "2.10.0"' in lock.read_text()
    verdicts = net.report()["entries"][0]["verdicts"]
    remarks = {verdict["quantity"]: verdict["message"] for verdict in verdicts}
    assert remarks["graph_breaks total"] == (
        f"recorded with torch 2.10.0, and held against nothing with {version}: "
        "pytest --flops-update records it anew"
    )


@pytest.mark.parametrize("same", [True, False])
def test_the_base_holds_within_one_version_of_pytorch(net: Any, same: bool) -> None:
    marked(net, *ONCE, limits="graphs=9, graph_breaks=9")
    net.run().assert_outcomes(passed=1)
    base = (net.root / "reports/flops.json").read_text()
    if not same:
        version = net.report()["environment"]["torch"]
        base = base.replace(f'"torch": "{version.partition("+")[0]}', '"torch": "2.10.0')
    net.write("base.json", base)
    net.write("model.py", MODEL.format(line=BREAK))
    result = net.run("--flops-compare=base.json")
    assert (result.ret == pytest.ExitCode.OK) == (not same)
    told = "*graph_breaks total from 0 to 1 calls*"
    if not same:
        told = "*the base was counted with torch 2.10.0*; not compared: graph_breaks, graphs"
    result.stdout.fnmatch_lines([told])


WORKLOAD = "workload: {model: 'model:build', batch_size: 3"
LIMITS = "limits: {graph_breaks: 0, recompiles: 0, graphs: 1}"


@pytest.mark.parametrize(
    ("compiling", "told"),
    [
        (", compile: true}", [f"graph_breaks at model.py:{LINE} in forward: "]),
        (", compile: {dynamic: true}}", ["graphs total: 2 calls, limit 1 call, "]),
        (", compile: {fullgraph: true}}", ["counting * raised Unsupported: ", f"line {LINE}"]),
        ("}", ["nothing was compiled, so *or give the workload `compile: true`"]),
        (", compile: false}", ["nothing was compiled, so "]),
    ],
)
def test_a_workload_in_yaml(net: Any, compiling: str, told: list[str]) -> None:
    net.budget("net", WORKLOAD + compiling, LIMITS)
    clean = net.run("budgets")
    clean.assert_outcomes(passed=1) if "true" in compiling else clean.assert_outcomes(failed=1)
    net.write("model.py", MODEL.format(line=BREAK))
    red(net, *told, arguments=("budgets",))


def test_a_workload_runs_its_step_twice(net: Any) -> None:
    net.write("model.py", MODEL.format(line="self.scale += 1"))
    net.budget("net", WORKLOAD + ", compile: true}", LIMITS)
    red(net, "recompiles at model.py:9 in forward: *scale == 1", arguments=("budgets",))


@pytest.mark.parametrize(
    ("compiling", "told"),
    [
        ("{fulgraph: true}", "unknown key 'fulgraph'; did you mean 'fullgraph'?"),
        ("{fullgraph: 1}", "expected true or false, found 1"),
        ("eager", "expected true, or a mapping of keywords of torch.compile, found 'eager'"),
        ("{backend: 3}", "expected the name of a backend, found 3"),
    ],
)
def test_mistakes_of_its_keywords_are_told_with_their_place(
    net: Any, compiling: str, told: str
) -> None:
    net.budget("net", f"{WORKLOAD}, compile: {compiling}}}", LIMITS)
    net.refuses("budgets", told=[f"*budgets/model.yaml:4:*compile*: {told}*"])


def test_the_option_counts_them_where_something_is_compiled(net: Any) -> None:
    mark = "@pytest.mark.flops_budget(total='1 MFLOP')\n"
    compiled = "torch.compile(Net(), backend='eager')"
    net.test(
        "import pytest, torch\nfrom model import Net\n"
        f"{mark}def test_compiled():\n    {compiled}(torch.ones(3, 4))\n"
        f"{mark}def test_eager():\n    Net()(torch.ones(3, 4))\n"
    )
    net.run("--flops-metrics=graph_breaks").assert_outcomes(passed=2)
    of_compiled, of_eager = (each["measurement"]["metrics"] for each in net.report()["entries"])
    assert of_compiled["graph_breaks"]["whole"] == {"total": 0}
    assert not of_eager
    net.run("--flops-metrics=all").assert_outcomes(passed=2)
    for entry in net.report()["entries"]:
        assert "graph_breaks" not in entry["measurement"]["metrics"]


def test_warnings_may_be_errors(net: Any) -> None:
    net.budget("net", WORKLOAD + ", compile: true}", f"{LIMITS[:-1]}, kernels: 9}}")
    net.run_apart("-W", "error", "budgets").assert_outcomes(passed=1)


# 3 rows of 8 columns in float32, which is 96 bytes: one kernel reads and writes them.
FUSED = "x = (x + 1).relu() * 2"
FORWARD = (
    "model = torch.compile(Net(3), dynamic=False)",  # from 2.14 on, a product with 1 is none
    "with torch.no_grad(): model(torch.ones(3, 4))",
)
# A product with its weight and bias, the kernel, another product, and one that scales its result.
FUSED_BYTES = 4 * ((12 + 32 + 8 + 24) + (24 + 24) + (24 + 16 + 2 + 6) + (6 + 6))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (FUSED, []),
        (
            "x = (x + 1).relu(); print(end=''); x = x * 2",
            [
                f"kernels at model.py:{LINE} (2 calls), model.py:{LINE + 1} (1 call)",
                "kernels total: 3 calls, limit 2 calls",
                f"fused_bytes at model.py:{LINE} (384 B), model.py:{LINE - 1} (304 B), ",
                "fused_bytes total: 928 B, limit 736 B, over by 192 B",
            ],
        ),
        (
            "x = torch.cumsum((x + 1).relu(), 1) * 2",
            ["fused_bytes total: "],
        ),
    ],
    ids=["fused", "a break", "what cannot be fused"],
)
def test_planted_kernels_are_red_with_their_lines(net: Any, line: str, told: list[str]) -> None:
    net.write("model.py", MODEL.format(line=line))
    marked(net, *FORWARD, limits=f"kernels=2, fused_bytes='{FUSED_BYTES} B'")
    red(net, *told) if told else net.run().assert_outcomes(passed=1)
