"""The pluggy hooks by which other packages extend the gate, and what JUnit is told."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

PLUGIN = """\
import torch

@torch.library.custom_op('ext::double', mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2

@double.register_fake
def _(x):
    return torch.empty_like(x)

class Doubling(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, 5, bias=False)
    def forward(self, x):
        return self.linear(torch.ops.ext.double(x))

def pytest_flops_register_builders():
    def doubling(width, batch_size):
        return Doubling(width), torch.randn(batch_size, width)
    return {'doubling': doubling}

def pytest_flops_register_costs():
    return {'ext::double': lambda args, kwargs, out: 1000 * args[0].numel()}

def pytest_flops_report(config):
    return {'cluster': 'north <3>', 'root': config.rootpath.name}
"""
BUDGET = """\
version: 1
budgets:
  doubling:
    workload: {model: doubling, config: {width: 3}, batch_size: 7, optimizer: none}
    limits: {forward: 21245}
"""


def test_a_registered_builder_cost_and_context_reach_the_report(project: Any) -> None:
    project.write("ext_plugin.py", PLUGIN)
    project.write("conftest.py", "pytest_plugins = ['ext_plugin']\n")
    project.budgets(BUDGET)
    result = project.run_apart("budgets")
    result.assert_outcomes(passed=1)
    report = project.report()
    (entry,) = report["entries"]
    # 1,000 for each of 7 x 3 inputs of the operator, 2 x 7 x 3 x 5 of the product, and 35 of the
    # sum that stands for a loss.
    assert entry["measurement"]["count"]["forward"] == 1000 * 21 + 2 * 7 * 3 * 5 + 35
    assert report["environment"]["cluster"] == "north <3>"
    assert report["environment"]["root"] == project.root.name
    page = (project.root / "reports/flops.html").read_text()
    assert "north &lt;3&gt;" in page


def test_a_registered_cost_counts_in_marked_tests_and_one_flop_less_is_red(project: Any) -> None:
    project.write("ext_plugin.py", PLUGIN)
    project.write("conftest.py", "pytest_plugins = ['ext_plugin']\n")
    project.test(
        "import pytest, torch\n"
        "@pytest.mark.flops_budget(forward=2000)\n"
        "def test_fits(): torch.ops.ext.double(torch.ones(2))\n"
        "@pytest.mark.flops_budget(forward=1999)\n"
        "def test_over(): torch.ops.ext.double(torch.ones(2))\n"
    )
    project.run_apart().assert_outcomes(passed=1, failed=1)


def test_an_unknown_builder_names_those_there_are(project: Any) -> None:
    project.write(
        "conftest.py",
        "def pytest_flops_register_builders(): return {'doubling': None}\n",
    )
    project.budgets(BUDGET.replace("model: doubling", "model: dubbling"))
    result = project.run("budgets")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*dubbling*doubling*"])
    assert "Traceback" not in result.stdout.str()


def test_counts_are_properties_in_junit(project: Any, mode: tuple[str, ...]) -> None:
    project.budgets()
    project.test(
        "import pytest\n"
        "from pytest_flops import FLOPsCount\n"
        "@pytest.mark.flops_budget(total='1 kFLOP')\n"
        "def test_step(flops): flops.check(FLOPsCount(100, 200, 30))\n"
    )
    project.run("--junit-xml", "junit.xml", "-k", "step or limits", *mode)
    cases = {
        case.get("name"): {found.get("name"): found.get("value") for found in case.iter("property")}
        for case in ET.parse(project.root / "junit.xml").iter("testcase")
    }
    name = "flops.test_model.py::test_step"
    assert cases["test_step"] == {
        f"{name}.forward": "100",
        f"{name}.backward": "200",
        f"{name}.optimizer": "30",
        f"{name}.total": "330",
    }
    (limits,) = (found for case, found in cases.items() if "limits" in str(case))
    assert limits["flops.baseline.total"] == "48917969080"


def test_a_failing_test_has_its_counts_in_junit_too(project: Any) -> None:
    project.budgets(project.baseline.replace("16.3 GFLOP", "1 FLOP"))
    project.run("--junit-xml", "junit.xml", "budgets/model.yaml::baseline::limits")
    text = (project.root / "junit.xml").read_text()
    assert 'name="flops.baseline.forward" value="16287760384"' in text
    assert 'failures="1"' in text
