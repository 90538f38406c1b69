"""A metric that another package registers: limited, recorded, compared and shown like ours."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.long

# `copies` are the calls of `clone`, `widest` is the most elements of any product.
PLUGIN = """\
from pytest_flops import CALL, ELEMENT, Counter, Metric

class Copies(Counter):
    def of_operator(self, func):
        return (lambda call: 1) if func.name() == "aten::clone" else None

class Widest(Counter):
    def of_operator(self, func):
        return (lambda call: call.out.numel()) if func.name() == "aten::mm" else None

def pytest_flops_register_metrics():
    return [
        Metric("copies", CALL, phases=("forward", "backward"), counter=Copies),
        Metric("widest", ELEMENT, join="max", counter=Widest),
    ]
"""
MODEL = """\
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = torch.nn.Linear(4, 8, bias=False)
        self.narrow = torch.nn.Linear(8, 2, bias=False)

    def forward(self, x):
        return self.narrow(self.wide(x.clone()))

def build(batch_size):
    return Net(), torch.ones(batch_size, 4)
"""
BUDGET = """\
version: 1
budgets:
  net:
    workload: {model: "model:build", batch_size: 3, optimizer: none}
    limits:
      copies: 1
      widest: {forward: 24 elements, total: 0.032 k}
      components:
        narrow: {widest: 16}
"""
# A product of `wide` is 3 x 8 = 24 elements in forward. In backward its weight's gradient is
# 8 x 4 = 32; of `narrow`, the gradient of its input is 3 x 8 = 24 and that of its weight 2 x 8.
MARKED = """\
import pytest, torch

@pytest.mark.flops_budget(copies=1, widest={"forward": 6})
def test_step():
    x = torch.ones(2, 5).clone()
    x @ torch.ones(5, 3)
"""


@pytest.fixture
def registered(project: Any) -> Any:
    """A project whose plugin registers two metrics."""
    project.write("metrics_plugin.py", PLUGIN)
    project.write("conftest.py", "pytest_plugins = ['metrics_plugin']\n")
    project.write("pytest.ini", "[pytest]\npythonpath = .\n")
    project.write("model.py", MODEL)
    project.budgets(BUDGET.replace("widest: 16", "widest: 24"))
    project.test(MARKED)
    return project


def test_it_is_limited_counted_and_shown(registered: Any, mode: tuple[str, ...]) -> None:
    result = registered.run("-v", *mode)
    result.assert_outcomes(passed=2)
    by_subject = {entry["subject"]: entry for entry in registered.report()["entries"]}
    found = by_subject["budgets/model.yaml::net"]["measurement"]["metrics"]
    assert found["copies"]["whole"] == {"forward": 1}
    assert found["widest"]["whole"] == {"forward": 24, "backward": 32}
    assert found["widest"]["components"]["narrow"] == {"forward": 6, "backward": 24}
    page = (registered.root / "reports/flops.html").read_text()
    assert "copies" in page
    assert "32 elements" in page


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("model.py", "x.clone()", "x.clone().clone()", "copies total: 2 calls, limit 1 call*"),
        # 2 x 3 rows make products of 6 x 8 elements.
        ("model.py", ".clone()", ".repeat(2, 1)", "widest total: 48 elements, limit 32 elements*"),
        ("budgets/model.yaml", "widest: 24", "widest: 16", "*narrow*widest*24 elements*"),
        ("test_model.py", ".clone()", ".clone().clone()", "copies total: 2 calls, limit 1 call*"),
        ("test_model.py", "5, 3", "5, 4", "widest forward: 8 elements, limit 6 elements*"),
    ],
)
def test_a_planted_regression_is_red(
    registered: Any, file: str, old: str, new: str, told: str
) -> None:
    path = registered.root / file
    path.write_text(path.read_text().replace(old, new))
    result = registered.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*{told}"])


def test_it_is_recorded_and_more_than_the_record_is_red(registered: Any) -> None:
    registered.budgets(BUDGET[: BUDGET.index("    limits")] + "    limits: {copies: 9}\n")
    registered.run("--flops-update").assert_outcomes(passed=3)
    registered.run().assert_outcomes(passed=3)
    registered.write("model.py", MODEL.replace("x.clone()", "x.clone().clone()"))
    result = registered.run()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*copies*2 calls*"])


def test_it_is_compared_with_a_base_and_by_readers_that_do_not_know_it(registered: Any) -> None:
    registered.budgets(BUDGET[: BUDGET.index("    limits")] + "    limits: {widest: 100}\n")
    registered.run("--flops-report=base").assert_outcomes(passed=2)
    registered.write("model.py", MODEL.replace(".clone()", ".repeat(2, 1)"))
    result = registered.run("--flops-compare=base/flops.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*widest total from 32 to 48 elements*"])

    def told(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest_flops", *arguments]
        run = subprocess.run(
            command, cwd=registered.root, capture_output=True, text=True, check=False
        )
        return run.returncode, run.stdout + run.stderr

    code, output = told("compare", "base/flops.json", "reports/flops.json")
    assert code == 1
    assert "widest total from 32 to 48 elements" in output
    assert told("merge", "base/flops.json", "-o", "merged")[0] == 0
    assert told("html", "merged/flops.json")[0] == 0
    page = (registered.root / "merged/flops.html").read_text()
    assert "32 elements" in page


@pytest.mark.parametrize("kept", ["measurement", "verdicts"])
def test_a_report_with_a_metric_that_it_does_not_describe_is_told(project: Any, kept: str) -> None:
    project.marked("parameters=0", "torch.nn.Linear(2, 2)(torch.ones(1, 2))")
    project.run("--flops-report=base")
    record = project.report("base/flops.json")
    (entry,) = record["entries"]
    renamed = json.loads(json.dumps(entry[kept]).replace('"parameters', '"new_ones'))
    record["entries"] = [entry | {kept: renamed}]
    project.write("base/flops.json", json.dumps(record))
    told = "ERROR: *base/flops.json holds the metric 'new_ones', which this pytest-flops does not*"
    project.refuses("--flops-compare=base/flops.json", told=[told])


def test_a_metric_of_a_conftest_that_only_the_workers_meet(project: Any) -> None:
    project.write("tests/conftest.py", PLUGIN)
    project.test(MARKED, "tests/test_model.py")
    result = project.run("-n", "1")
    result.assert_outcomes(passed=1)
    assert "copies" in (project.root / "reports/flops.html").read_text()


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ("copys: 1", "*model.yaml:4:14:*unknown key 'copys'; did you mean 'copies'?"),
        (
            "copies: 1 GFLOP",
            "*model.yaml:4:22:*'1 GFLOP' is a number of FLOPs, not a number of calls*",
        ),
        ("copies: {optimizer: 1}", "*model.yaml:4:23:*unknown key 'optimizer'*forward*total*"),
        ("copies: {}", "*model.yaml:4:22:*expected a mapping of forward, backward or total*"),
        ("widest: 1.5", "*model.yaml:4:22:*1.5 is a decimal number without a unit*"),
    ],
)
def test_what_budgets_say_of_it_is_held_to_its_phases_and_unit(
    registered: Any, limits: str, told: str
) -> None:
    registered.budget("net", "limits: {" + limits + "}")
    result = registered.run("budgets")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {told}"])


def test_a_marker_suggests_it(registered: Any) -> None:
    registered.marked("copy=1", "pass")
    result = registered.run("test_model.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown keyword 'copy'; did you mean 'copies'?"])


GOOD = "Metric('good', CALL, counter=Counter)"
UNIT = "Unit('x', 'number of x', {'x': 1}, ('x',), 'x')"


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        ("{'good': 1}", "returns a dict, not a list of pytest_flops.Metric"),
        ("['good']", "'good' is no pytest_flops.Metric"),
        (f"[{GOOD}, {GOOD}]", "the name 'good' is taken by the plugin *conftest.py"),
        ("[Metric('bytes', CALL, counter=Counter)]", "the name 'bytes' is taken by pytest-flops*"),
        ("[Metric('total', CALL, counter=Counter)]", "the name 'total' is taken by pytest-flops*"),
        ("[Metric('a b', CALL, counter=Counter)]", "the name 'a b' is not of small letters*"),
        ("[Metric(7, CALL, counter=Counter)]", "the name 7 is not of small letters*"),
        ("[Metric('good', 'B', counter=Counter)]", "the unit of 'good' is 'B'; expected is *"),
        (f"[Metric('good', {UNIT.replace('1', '2')}, counter=Counter)]", "the unit of 'good' is *"),
        ("[Metric('good', CALL, join='min', counter=Counter)]", "the join of 'good' is 'min', *"),
        ("[Metric('good', CALL, phases=(), counter=Counter)]", "the phases of 'good' are (), *"),
        (
            "[Metric('good', CALL, phases=['forward'], counter=Counter)]",
            "the phases of 'good' are ['forward'], *",
        ),
        ("[Metric('good', CALL)]", "the counter of 'good' is None, not what makes a Counter"),
        ("[Metric('good', CALL, of_compiler=True)]", "'good' is no metric of the compiler: those*"),
    ],
)
def test_a_wrong_metric_is_a_usage_error_that_names_the_plugin(
    project: Any, offered: str, told: str
) -> None:
    project.write(
        "conftest.py",
        "from pytest_flops import CALL, Counter, Metric, Unit\n"
        f"def pytest_flops_register_metrics(): return {offered}\n",
    )
    project.counted("total=400")
    told = told.replace("[", "[[]")
    project.refuses(
        told=[f"ERROR: pytest_flops_register_metrics of the plugin *conftest.py*{told}"]
    )


def test_a_name_that_another_plugin_has_taken(registered: Any) -> None:
    registered.write("other_plugin.py", PLUGIN)
    registered.write("conftest.py", "pytest_plugins = ['metrics_plugin', 'other_plugin']\n")
    result = registered.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *the plugin other_plugin: the name 'copies' is taken by the plugin metrics_plugin"]
    )


@pytest.mark.parametrize("value", ["1.5", "-1"])
def test_a_price_that_is_no_whole_number_fails_the_test(registered: Any, value: str) -> None:
    registered.write("metrics_plugin.py", PLUGIN.replace("call: 1)", f"call: {value})"))
    result = registered.run("test_model.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"*the counter of 'copies' told {value}, which is no whole number*"]
    )


def test_a_run_without_budgets_does_not_ask_for_metrics(project: Any) -> None:
    project.write("conftest.py", "def pytest_flops_register_metrics(): raise SystemExit(9)\n")
    project.test("def test_nothing(): pass\n")
    project.run().assert_outcomes(passed=1)


def test_a_script_without_pytest_knows_what_installed_packages_register(registered: Any) -> None:
    info = "others-1.0.dist-info"
    registered.write(f"{info}/METADATA", "Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    registered.write(f"{info}/entry_points.txt", "[pytest11]\nothers = metrics_plugin\n")
    registered.write(
        "script.py",
        "import torch\n"
        "from pytest_flops import FLOPsMeter\n"
        "with FLOPsMeter(metrics=['copies']) as meter:\n"
        "    torch.ones(3).clone()\n"
        "assert meter.measurement().of('copies total') == 1\n"
        "try:\n"
        "    FLOPsMeter(metrics=['copis'])\n"
        "except ValueError as error:\n"
        "    assert str(error) == \"there is no metric 'copis'; did you mean 'copies'?\", error\n",
    )
    subprocess.run([sys.executable, "script.py"], cwd=registered.root, check=True)
