"""The pluggy hooks by which other packages extend the gate, and what JUnit is told."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

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
    result = project.run("budgets")
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
    project.run().assert_outcomes(passed=1, failed=1)


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


KNOWING = """\
from pytest_flops import FLOPsCount
from pytest_flops.counting.builder import Accepted, Builder
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.parity import compare
from pytest_flops.counting.workload import Workload

class Net:
    def __init__(self, width): self.width = width

def build(**sizes): raise AssertionError('nothing has to be built')

def measure(workload):
    width, depth = workload.config['width'], workload.config['depth']
    count = FLOPsCount(width * depth * workload.batch_size, 2 * width, 0)
    return Measurement(count, {'net': count}, source='analytic', rules='published')

def problems(workload):
    if 'batch_size' not in workload:
        yield ('batch_size',), 'a net needs a batch_size'
    if workload['config'].get('width', 8) % 8:
        yield ('config', 'width'), 'the width is a multiple of 8'

def at(workload, dimension, size):
    changed = workload.at(dimension, size)
    return changed.at('width', size) if dimension == 'depth' else changed

def accepts(counted):
    if isinstance(counted, Net):
        workload = Workload('net', {'width': counted.width, 'depth': 2}, batch_size=1)
        return Accepted(workload, measure)

NET = Builder(
    build, measure=measure, problems=problems, defaults={'width': 8, 'depth': 2}, at=at,
    parity=lambda workload: compare(measure(workload), measure(workload)),
    accepts=accepts, default_rules='published',
)

def pytest_flops_register_builders():
    return {'net': NET}
"""
NET = """\
version: 1
budgets:
  net:
    workload: {model: net, config: {width: 8, depth: 2}, batch_size: 3}
    limits: {forward: 48}
    scaling:
      depth: {sizes: [2, 4, 8], max_exponent: 2.0}
"""


def test_a_builder_that_counts_by_itself_holds_its_own_parity_and_growth(project: Any) -> None:
    project.write("conftest.py", KNOWING)
    project.budgets(NET)
    result = project.run("budgets", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*::net::scaling?depth?*", "*::net::parity*"])
    (depth,) = [entry["scaling"] for entry in project.report()["entries"] if entry["scaling"]]
    # The depth moves the width: 3 * 2 * 2, 3 * 4 * 4, 3 * 8 * 8
    growth = next(found for found in depth[0]["growth"] if found["quantity"] == "forward")
    assert growth["counts"] == [12, 48, 192]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("width: 8", "width: 9", "4:44: budgets.net.workload.config.width: the width is a multi"),
        (
            "width: 8",
            "widht: 8",
            "4:37: budgets.net.workload.config.widht: unknown key 'widht'; di",
        ),
        ("batch_size: 3", "seq_len: 3", "4:5: budgets.net.workload: a net needs a batch_size"),
        ("      depth", "      dept", "7:7: budgets.net.scaling.dept: unknown key 'dept'; did you"),
    ],
)
def test_what_a_builder_finds_wrong_is_told_at_its_line_and_column(
    project: Any, old: str, new: str, told: str
) -> None:
    project.write("conftest.py", KNOWING)
    project.budgets(NET.replace(old, new))
    result = project.run("budgets")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: budgets/model.yaml:{told}*"])


def test_a_registered_builder_tells_what_check_may_be_given(project: Any) -> None:
    project.write("conftest.py", KNOWING)
    project.budgets(NET)
    project.test(
        "import pytest\n"
        "from conftest import Net\n"
        "@pytest.mark.flops_budget('net')\n"
        "def test_fits(flops): assert flops.check(Net(8)).count.forward == 48\n"
        "@pytest.mark.flops_budget('net')\n"
        "def test_smaller(flops): flops.check(Net(4))\n"
        "def test_without_sizes(flops): flops.check(Net(4), total=1)\n"
        "def test_built(flops):\n"
        "    flops.scaling(lambda width: Net(width), width=[8, 16, 32], max_exponent=1)\n"
    )
    result = project.run("test_model.py")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*another workload than the budget's: width 4, not 8"])
    result.stdout.fnmatch_lines(["*check() of a Net needs batch_size=*"])


def test_a_builder_named_by_its_module_counts_by_itself_too(project: Any) -> None:
    project.write("nets.py", KNOWING)
    project.budgets(NET.replace("model: net", "model: 'nets:NET'"))
    project.run("budgets").assert_outcomes(passed=2)


def test_another_package_may_take_the_name_of_the_reference_model(project: Any) -> None:
    project.write("conftest.py", KNOWING.replace("'net': NET", "'resnet_bk': NET"))
    project.budgets(NET.replace("model: net", "model: resnet_bk"))
    project.run("budgets").assert_outcomes(passed=3)


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
