"""Other metrics than FLOPs in budgets: limited, recorded, compared and reported as FLOPs are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pytest_flops.budgets.schema import SCHEMA_FILE
from pytest_flops.counting.metric import BUILT_IN, METRICS
from pytest_flops.reports.read import SCHEMA as REPORT_SCHEMA

BUILDERS = """\
import torch
WIDE = True
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(8, 16), torch.nn.Linear(16, 2)
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16, enabled={autocast}):
            return self.last(self.first(x)).float()
def build(batch_size): return Net(), torch.ones(batch_size, 8)
"""
BUDGET = """\
version: 1
budgets:
  net:
    workload: {{model: 'builders:build', batch_size: 4, optimizer: sgd}}
    limits: {limits}
"""
# Of 4 rows: forward (4,8)x(8,16) and (4,16)x(16,2); backward the gradients of both weights and of
# the second's input.
FIRST, LAST = 2 * 4 * 8 * 16, 2 * 4 * 16 * 2
PRODUCTS = {"forward": FIRST + LAST, "backward": FIRST + 2 * LAST}
PARAMETERS = 8 * 16 + 16 + 16 * 2 + 2


def test_the_schemas_of_reports_and_budgets_know_every_metric() -> None:
    names = [name for name in METRICS if name in BUILT_IN - {"flops"}]
    report = json.loads(REPORT_SCHEMA.read_text(encoding="utf-8"))["$defs"]
    told = report["metric_name"]["description"]  # names that plugins register are accepted too
    assert told.startswith(", ".join(names))
    budgets = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))["$defs"]
    of_components = [name for name in names if not METRICS[name].of_compiler]
    for place, known in (("limits", names), ("quantities", of_components)):
        assert [key for key in budgets[place]["properties"] if key in names] == known


@pytest.fixture
def net(project: Any) -> Any:
    project.ini("pythonpath = .")
    project.write("builders.py", BUILDERS.format(autocast=False))
    return project


@pytest.mark.parametrize(
    ("limits", "red"),
    [
        (f"{{parameters: {PARAMETERS}}}", ""),
        (f"{{parameters: {PARAMETERS - 1}}}", "parameters total: 178 elements, limit 177 elements"),
        (f"{{full_precision: {sum(PRODUCTS.values())} FLOP}}", ""),
        ("{full_precision: 0}", "full_precision total: 2.816 kFLOP, limit 0 FLOP, over by 2.816"),
        (f"{{full_precision: {{forward: {PRODUCTS['forward'] - 1}}}}}", "full_precision forward"),
        ("{components: {last: {full_precision: {forward: 255}}}}", "last full_precision forward"),
        ("{components: {last: {parameters: 34, full_precision: 1 kFLOP}}}", ""),
        ("{components: {'*': {parameters: 100}}}", "first parameters total: 144 elements"),
    ],
)
def test_a_limit_on_a_metric_holds_it_in_yaml_and_in_a_marker(
    net: Any, limits: str, red: str
) -> None:
    net.budgets(BUDGET.format(limits=limits), "budgets/net.yaml")
    result = net.run("budgets")
    assert result.ret == int(bool(red))
    if red:
        result.stdout.fnmatch_lines([f"*{red}*"])
    as_python = limits.replace("{", "{'").replace(": ", "': ").replace(", ", ", '")
    as_python = as_python.replace("{''*''", "{'*'").replace(" FLOP", "").replace(" kFLOP", "000")
    net.test(f"""\
import pytest, torch
from builders import build
model, x = build(4)
@pytest.mark.flops_budget(**{as_python.replace("1 k000", "1000")})
def test_step():
    optimizer = torch.optim.SGD(model.parameters())
    model(x).sum().backward()
    optimizer.step()
""")
    marked = net.run("test_model.py")
    assert marked.ret == int(bool(red)), marked.stdout.str()


def test_metrics_are_held_in_every_way_to_run(net: Any, mode: tuple[str, ...]) -> None:
    limits = f"{{parameters: {PARAMETERS}, full_precision: 0}}"
    net.budgets(BUDGET.format(limits=limits), "budgets/net.yaml")
    net.fails("budgets", *mode, told=["*full_precision total: 2.816 kFLOP, limit 0 FLOP*"])


def test_a_forgotten_autocast_is_red_though_the_flops_are_the_same(net: Any) -> None:
    net.budgets(BUDGET.format(limits="{full_precision: 0}"), "budgets/net.yaml")
    net.write("builders.py", BUILDERS.format(autocast=True))
    assert net.run("budgets").ret == 0
    net.write("builders.py", BUILDERS.format(autocast=False))
    net.fails("budgets", told=["*full_precision total: 2.816 kFLOP, limit 0 FLOP*"])


def test_a_metric_is_recorded_beside_the_flops_and_held(net: Any) -> None:
    net.budgets(BUDGET.format(limits="{full_precision: 1 MFLOP}"), "budgets/net.yaml")
    net.write("builders.py", BUILDERS.format(autocast=True))
    assert net.run("budgets", "--flops-update").ret == 0
    text = (net.root / "budgets/net.lock.json").read_text(encoding="utf-8")
    assert '"full_precision": {' in text
    assert net.run("budgets").ret == 0
    net.write("builders.py", BUILDERS.format(autocast=False))
    net.fails("budgets", told=["*full_precision *recorded 0 FLOP, over by*"], passed=1)
    # What is recorded is counted, and so held, when the limit is gone.
    net.budgets(BUDGET.format(limits="{total: 1 MFLOP}"), "budgets/net.yaml")
    net.fails("budgets", told=["*full_precision *recorded 0 FLOP, over by*"], passed=1)
    result = net.run("budgets", "--flops-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*full_precision forward 0 FLOP -> 1.28 kFLOP*"])
    assert net.run("budgets").ret == 0


def test_a_metric_is_compared_with_the_base(net: Any) -> None:
    net.budgets(BUDGET.format(limits="{full_precision: 1 MFLOP}"), "budgets/net.yaml")
    net.write("builders.py", BUILDERS.format(autocast=True))
    assert net.run("budgets", "--flops-report=base").ret == 0
    net.write("builders.py", BUILDERS.format(autocast=False))
    result = net.run("budgets", "--flops-compare=base/flops.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*costs more than its base: *full_precision total*0 to 2,816 *"])
    for page in ("flops.json", "flops.html", "flops.md"):
        assert "full_precision" in (net.root / "reports" / page).read_text(encoding="utf-8")


def test_a_metric_that_nobody_counted_is_no_pass(project: Any) -> None:
    project.marked("full_precision=0", "flops.check(FLOPsCount(1))", "flops")
    project.fails(told=["*full_precision was not counted*held against nothing*"])


def test_pages_tell_metrics_in_their_units(net: Any) -> None:
    limits = "{parameters: 100, full_precision: {forward: 1 kFLOP}}"
    net.budgets(BUDGET.format(limits=limits), "budgets/net.yaml")
    result = net.run("budgets", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*parameters total: 178 elements, limit 100 elements, over by 78 elements*",
            "  parameters: total 178 elements",
            "  full_precision: forward 1.28 kFLOP, backward 1.536 kFLOP, optimizer 0 FLOP, total *",
        ]
    )
    page = (net.root / "reports/flops.html").read_text(encoding="utf-8")
    assert "What a step costs" in page
    assert "Other costs of the step" not in page
    assert "178 elements<small>178</small>" in page
    assert "178 FLOP" not in page
    assert "178 elements" in (net.root / "reports/flops.md").read_text(encoding="utf-8")


LOGGED = """\
import pytest, torch

model = torch.nn.Linear(8, 2)

@pytest.mark.flops_budget(syncs={limit})
def test_step():
    for _ in range(3):
        loss = model(torch.ones(4, 8)).sum()
        loss.backward()
        {log}
"""


@pytest.mark.parametrize(
    ("log", "limit", "red"),
    [("loss.item()", 0, True), ("loss.item()", 3, False), ("loss.detach()", 0, False)],
)
def test_a_red_limit_on_syncs_names_the_line_and_how_often(
    project: Any, log: str, limit: int, *, red: bool
) -> None:
    project.test(LOGGED.format(log=log, limit=limit))
    result = project.run()
    assert result.ret == int(red)
    if red:
        line = "syncs total: 3 calls, limit 0 calls, over by 3 calls"
        result.stdout.fnmatch_lines(["syncs at test_model.py:10 (3 calls)", line])


def test_one_call_is_told_in_the_singular(project: Any) -> None:
    project.test(LOGGED.format(log="loss.item()", limit=0).replace("range(3)", "range(1)"))
    told = ["syncs at *:10 (1 call)", "syncs total: 1 call, limit 0 calls, over by 1 call"]
    project.fails(told=told)


def test_a_sync_that_is_new_since_the_record_names_its_line(project: Any) -> None:
    project.test(LOGGED.format(log="loss.detach()", limit=9))
    assert project.run("--flops-update").ret == 0
    project.test(LOGGED.format(log="loss.item()", limit=9))
    told = ["syncs at test_model.py:10 (3 calls)", "syncs total: 3 calls, recorded 0 calls*"]
    project.fails(told=told)


def test_a_red_peak_names_what_was_alive_and_its_record_is_the_same_twice(net: Any) -> None:
    net.budgets(BUDGET.format(limits="{peak_memory: 1 B}"), "budgets/net.yaml")
    net.fails("budgets", told=["peak_memory total: *limit 1 B*", "*most of it *", "*first *"])
    net.budgets(BUDGET.format(limits="{peak_memory: 1 MiB, launches: 900}"), "budgets/net.yaml")
    assert net.run("budgets", "--flops-update").ret == 0
    again = net.run("budgets", "--flops-update")
    again.stdout.fnmatch_lines(["*holds these counts already; it was not changed"])
    assert net.run("budgets").ret == 0


def test_a_recorded_metric_that_nobody_counts_any_more_is_no_pass(net: Any) -> None:
    budget = BUDGET.format(limits="{total: 1 MFLOP}").replace("    limits: {total: 1 MFLOP}\n", "")
    net.budgets(budget, "budgets/net.yaml")
    assert net.run("budgets", "--flops-update").ret == 0
    lock = net.root / "budgets/net.lock.json"
    record = json.loads(lock.read_text(encoding="utf-8"))
    record["budgets"]["net"]["bytes"] = {"count": {"forward": 1}}
    lock.write_text(json.dumps(record), encoding="utf-8")
    net.test("""
        import pytest
        from builders import build
        from pytest_flops import FLOPsMeter
        @pytest.mark.flops_budget("net")
        def test_it(flops):
            model, x = build(4)
            with FLOPsMeter() as meter: model(x).sum().backward()
            flops.check(meter)
    """)
    net.fails("test_model.py", told=["*bytes was not counted*held against nothing*"])


STEP = """\
import torch
KEPT = []
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 8)
    def forward(self, x):
        y = self.first(x)
        {planted}
        return y
def build(batch_size): return Net(), torch.ones(batch_size, 8)
"""
IN_YAML = """\
version: 1
budgets:
  net:
    workload: {{model: 'model:build', batch_size: 4, optimizer: none}}
    limits: {limits}
"""
IN_PYTHON = """\
import pytest, torch
from model import Net

@pytest.mark.flops_budget({limits})
def test_step():
    net, x = Net(), torch.ones(4, 8)
    net(x).sum().backward()
"""
SINES = "for _ in range(3): y = y.sin()"
PRODUCT = "y = y @ self.first.weight"
KEPT = "KEPT.extend(self.first(x) for _ in range(4))"


class Planted:
    """A step of which one line is planted, held by a YAML budget or by a marked test."""

    def __init__(self, project: Any, where: str) -> None:
        self.project, self.in_yaml = project, where == "yaml"
        project.ini("pythonpath = .")

    def write(self, metric: str, limit: str, line: str = "pass") -> None:
        self.project.write("model.py", STEP.format(planted=line))
        if self.in_yaml:
            text = IN_YAML.format(limits=f"{{{metric}: {limit}}}")
            self.project.budgets(text, "budgets/net.yaml")
        else:
            self.project.test(IN_PYTHON.format(limits=f"{metric}={limit!r}"))

    def run(self, *options: str) -> Any:
        return self.project.run(*["budgets"] * self.in_yaml, *options)

    def is_red(self, *told: str) -> Any:
        return self.project.explains(*["budgets"] * self.in_yaml, told=["*".join(told)])


@pytest.fixture(params=["yaml", "marker"])
def step(project: Any, request: pytest.FixtureRequest) -> Planted:
    return Planted(project, request.param)


@pytest.mark.parametrize(
    ("metric", "line", "told"),
    [
        # The backward of the three sines is at the line that began it.
        ("launches", SINES, "model.py:9 (3 calls)"),
        # The forward of (4,8)x(8,8); its backward has other lines.
        ("full_precision", PRODUCT, f"model.py:9 ({2 * 4 * 8 * 8} FLOP)"),
    ],
)
def test_a_red_verdict_names_the_line_and_how_often(
    step: Planted, metric: str, line: str, told: str
) -> None:
    step.write(metric, "0", line)
    result = step.is_red(f"{metric} at *{told}", f"{metric} total: ")
    result.stdout.no_fnmatch_line("  (outside modules)*")
    result.stdout.no_fnmatch_line("*conftest.py*")  # which has run pytest


def test_lines_of_a_green_budget_are_not_looked_up(step: Planted) -> None:
    step.write("launches", "99", SINES)
    assert step.run().ret == 0
    (entry,) = step.project.report()["entries"]
    assert ("launches" in entry["measurement"]["found_at"]) == (not step.in_yaml)


def test_lines_are_those_of_the_operators_that_are_more_than_recorded(step: Planted) -> None:
    """Of the step's other lines, that of the linear among them, none is told."""
    step.write("launches", "999")
    assert step.run("--flops-update").ret == 0
    step.write("launches", "999", "for _ in range(3): x.sin()")
    step.is_red("aten.sin (new, +3 calls)", "launches at model.py:9 (3 calls) launches total: ")


def test_a_red_verdict_on_bytes_names_the_operators(step: Planted) -> None:
    """Each of three sines reads and writes 4 * 8 elements of 4 bytes: 3 * 256 B."""
    step.write("bytes", "1 MB")
    assert step.run("--flops-update").ret == 0
    step.write("bytes", "1 MB", SINES)
    step.is_red("aten.sin (new, +768 B)", "bytes total: ")
    step.project.root.joinpath(
        "budgets/net.lock.json" if step.in_yaml else "test_model.lock.json"
    ).unlink()
    step.write("bytes", "1 B", SINES)
    step.is_red("most by ", "aten.sin (768 B)", "bytes total: *limit 1 B")


def test_a_red_peak_names_the_moment_and_what_was_not_in_the_record(step: Planted) -> None:
    step.write("peak_memory", "1 MiB")
    assert step.run("--flops-update").ret == 0
    again = step.run("--flops-update")
    again.stdout.fnmatch_lines(["*holds these counts already; it was not changed"])
    step.write("peak_memory", "1 MiB", KEPT)
    step.is_red(
        "first*: * more alive at the peak, *activations (+*; at aten.* in ", "peak_memory total: "
    )


def test_a_record_without_what_was_alive_is_read_and_updated(step: Planted) -> None:
    """As an earlier version has written it."""
    step.write("peak_memory", "1 MiB")
    assert step.run("--flops-update").ret == 0
    name = "budgets/net.lock.json" if step.in_yaml else "test_model.lock.json"
    lock = step.project.root / name
    text = lock.read_text(encoding="utf-8")
    data = json.loads(text)
    section = "budgets" if step.in_yaml else "tests"
    for record in data[section].values():
        assert {*record["peak_memory"]} > {"kinds", "modules"}
        del record["peak_memory"]["kinds"], record["peak_memory"]["modules"]
    lock.write_text(json.dumps(data), encoding="utf-8")
    assert step.run().ret == 0
    step.write("peak_memory", "1 MiB", KEPT)
    step.is_red("alive at the peak, *activations (", "peak_memory total: *recorded ")
    page = (step.project.root / "reports/flops.html").read_text(encoding="utf-8")
    assert re.search(r'What makes up most of it</caption>.*?row">first<', page, re.DOTALL)
    step.write("peak_memory", "1 MiB")
    step.run("--flops-update").stdout.fnmatch_lines(["updated in *: the same in total"])
    assert lock.read_text(encoding="utf-8") == text


def test_launches_above_the_record_name_the_new_operators_and_the_lines(step: Planted) -> None:
    step.write("launches", "99")
    assert step.run("--flops-update").ret == 0
    step.write("launches", "99", SINES)
    step.is_red("aten.sin (new, +3 calls)", "at *model.py:9 (3 calls)", "launches total: ")


def test_the_page_draws_memory_over_the_step_and_the_lock_file_does_not_hold_it(net: Any) -> None:
    net.budgets(BUDGET.format(limits="{peak_memory: 1 MiB}"), "budgets/net.yaml")
    assert net.run("budgets", "--flops-update").ret == 0
    assert "curve" not in (net.root / "budgets/net.lock.json").read_text(encoding="utf-8")
    told = net.report()["entries"][0]["measurement"]["metrics"]["peak_memory"]
    levels = [sum(sizes) for sizes in zip(*told["details"]["curve"]["kinds"].values(), strict=True)]
    assert max(levels) == max(told["whole"].values())
    page = (net.root / "reports/flops.html").read_text(encoding="utf-8")
    assert "Memory over the step: the peak is" in page
