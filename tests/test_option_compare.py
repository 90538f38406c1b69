"""`--flops-compare`, and `pytest-flops compare`: what a run costs against an older one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pytest_flops import cli

BUDGET = """\
version: 1
budgets:
  step:
    limits: {total: 1 kFLOP}
"""
PARTS = "{'layer_0': FLOPsCount(60, 120, 10), 'layer_1': FLOPsCount(40, 80, 20)}"


def counted(count: str = "100, 200, 30", parts: str = PARTS) -> str:
    return (
        "import pytest\n"
        "from pytest_flops import FLOPsCount\n"
        "from pytest_flops.counting.measurement import Measurement\n"
        "@pytest.mark.flops_budget('step')\n"
        "def test_step(flops):\n"
        f"    flops.check(Measurement(FLOPsCount({count}), {parts}, 'meter', 'executed'))\n"
    )


@pytest.fixture
def based(project: Any) -> Any:
    """A project that was run once; its report is in the folder `base`."""
    project.budgets(BUDGET)
    project.test(counted())
    assert project.run("--flops-report", "base").ret == 0
    return project


def offline(project: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.chdir(project.root)
    return cli.main(["compare", "base/flops.json", "reports/flops.json", *options])


WIDER = counted("110, 200, 30", PARTS.replace("FLOPsCount(40", "FLOPsCount(50"))
SHIFTED = counted(parts=PARTS.replace("60", "59").replace("40", "41"))
CHEAPER = counted("90, 200, 30", PARTS.replace("60", "50"))
NEW_PART = counted("105, 200, 30", PARTS.replace("}", ", 'layer_2': FLOPsCount(5)}"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (WIDER, "layer_1 total from 140 to 150 FLOP (+7.1 %)"),
        (SHIFTED, "layer_1 total from 140 to 141 FLOP (+0.7 %)"),
        (NEW_PART, "total from 330 to 335 FLOP (+1.5 %)"),
    ],
    ids=["grown", "a-part-behind-an-equal-total", "a-new-part"],
)
def test_what_grew_is_red_with_its_part_and_its_line_in_the_run_and_offline(
    based: Any, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    based.test(source)
    result = based.run("--flops-compare", "base/flops.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    line = f"*budgets/model.yaml:3:3: the budget 'step' costs more than its base*{words}*"
    result.stdout.fnmatch_lines([line])
    assert offline(based, monkeypatch) == 1


def test_what_grew_is_told_of_the_deepest_component_and_not_of_its_parents(project: Any) -> None:
    parts = "{'block': FLOPsCount(N), 'block.mlp': FLOPsCount(N), 'block.mlp.0': FLOPsCount(N)}"
    project.budgets(BUDGET)
    project.test(counted("50", parts.replace("N", "40")))
    assert project.run("--flops-report", "base").ret == 0
    project.test(counted("60", parts.replace("N", "50")))
    result = project.run("--flops-compare", "base/flops.json")
    told = "block.mlp.0 total from 40 to 50 FLOP (+25.0 %); total from 50 to 60 FLOP (+20.0 %)"
    result.stdout.fnmatch_lines([f"*costs more than its base: {told}"])


def test_a_run_that_grew_is_red_in_every_mode(based: Any, mode: tuple[str, ...]) -> None:
    based.test(WIDER)
    assert based.run("--flops-compare", "base/flops.json", *mode).ret == 1
    assert based.report()["passed"] is False


@pytest.mark.parametrize("source", [counted(), CHEAPER], ids=["the-same", "fallen"])
def test_runs_that_are_the_same_or_fell_are_green(
    based: Any, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    based.test(source)
    assert based.run("--flops-compare", "base/flops.json").ret == 0
    assert offline(based, monkeypatch) == 0


def test_savings_are_told(
    based: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    based.test(CHEAPER)
    result = based.run("--flops-compare", "base/flops.json")
    result.stdout.fnmatch_lines(["*step: fell by 10 FLOP (-3.0 %)*"])
    capsys.readouterr()
    offline(based, monkeypatch)
    assert "step: fell by 10 FLOP (-3.0 %)" in capsys.readouterr().out


def test_a_budget_that_is_not_measured_any_more_is_red(based: Any) -> None:
    based.test(WIDER.replace("flops.check(", "(lambda _: None)("))
    result = based.run("--flops-compare", "base/flops.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'step' was measured in the base and is not any more*"])


def test_a_tolerance_of_the_budget_or_of_the_run_is_kept(
    based: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    based.test(SHIFTED)
    base = ("--flops-compare", "base/flops.json")
    # layer_1 forward rose from 40 to 41: 2.5 %.
    assert based.run(*base, "--flops-tolerance", "2.4%").ret == 1
    assert based.run(*base, "--flops-tolerance", "2.5%").ret == 0
    assert offline(based, monkeypatch, "--tolerance", "2.4%") == 1
    assert offline(based, monkeypatch, "--tolerance", "2.5%") == 0
    based.budgets(f"{BUDGET}    tolerance: 2.5%\n")
    assert based.run(*base).ret == 0
    assert offline(based, monkeypatch) == 0


GROWN = counted("120, 240, 36", "{'layer_0': FLOPsCount(120, 240, 36)}")
REGRESSION = re.compile("regress|costs? more than", re.IGNORECASE)


@pytest.mark.parametrize(("tolerance", "red"), [((), True), (("--flops-tolerance", "50%"), False)])
def test_every_output_says_what_the_exit_code_says(
    project: Any, monkeypatch: pytest.MonkeyPatch, tolerance: tuple[str, ...], *, red: bool
) -> None:
    project.budgets(BUDGET)
    project.test(counted("100, 200, 30", "{'layer_0': FLOPsCount(100, 200, 30)}"))
    assert project.run("--flops-report", "base").ret == 0
    project.test(GROWN)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = project.run("--flops-compare", "base/flops.json", "--junit-xml=junit.xml", *tolerance)
    assert result.ret == int(red)
    assert project.report()["passed"] is not red
    told = {
        name: (project.root / name).read_text(encoding="utf-8")
        for name in ("reports/flops.json", "reports/flops.html", "reports/flops.md", "junit.xml")
    }
    told["terminal"] = result.stdout.str()
    told["annotations"] = "".join(
        line for line in told["terminal"].splitlines() if line.startswith("::error")
    )
    for name, text in told.items():
        assert bool(REGRESSION.search(text)) == red, name
    assert f'name="flops.passed" value="{str(not red).lower()}"' in told["junit.xml"]
    assert "20.0 %" in told["terminal"]
    assert "20.0 %" in told["reports/flops.html"]


@pytest.mark.parametrize(("tolerance", "red"), [((), True), (("--tolerance", "50%"), False)])
def test_a_page_rendered_again_with_a_base_tells_the_same(
    based: Any, monkeypatch: pytest.MonkeyPatch, tolerance: tuple[str, ...], *, red: bool
) -> None:
    based.test(WIDER)
    assert based.run().ret == 0
    assert offline(based, monkeypatch, *tolerance) == int(red)
    cli.main(["html", "reports/flops.json", "--base", "base/flops.json", *tolerance])
    page = (based.root / "reports/flops.html").read_text(encoding="utf-8")
    assert ("1 budget is red against its base" in page) == red
    assert bool(REGRESSION.search(page)) == red


def test_an_increase_that_is_newly_recorded_is_accepted_and_told(
    based: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    based.records(step=(110, 200, 30))
    based.test(WIDER)
    assert based.run("--flops-compare", "base/flops.json").ret == 0
    capsys.readouterr()
    assert offline(based, monkeypatch) == 0
    assert "step: grew, as newly recorded" in capsys.readouterr().out


def test_a_record_that_the_base_had_already_accepts_nothing(project: Any) -> None:
    project.budgets(BUDGET)
    project.records(step=(110, 200, 30))
    project.test(counted())
    assert project.run("--flops-report", "base").ret == 0
    project.test(WIDER)
    assert project.run("--flops-compare", "base/flops.json").ret == 1


def test_a_new_record_that_is_too_low_accepts_nothing(
    based: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    based.records(step=(109, 200, 30))
    based.test(WIDER)
    assert based.run("--flops-compare", "base/flops.json").ret == 1
    assert offline(based, monkeypatch) == 1


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("text", "layer_1 total from 140 to 150 FLOP (+7.1 %)"),
        ("markdown", "`layer_1 total from 140 to 150 FLOP (+7.1 %)`"),
        ("json", '"component": "layer_1"'),
        ("github", "::error file=budgets/model.yaml,line=3,col=3,"),
    ],
)
def test_every_format_names_the_part(
    based: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    words: str,
) -> None:
    based.test(WIDER)
    based.run()
    capsys.readouterr()
    assert offline(based, monkeypatch, "--format", form) == 1
    text = capsys.readouterr().out
    assert words in text
    if form == "json":
        assert json.loads(text)["regressed"] is True


def test_annotations_of_a_project_in_a_subfolder_name_files_as_the_repository_does(
    based: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    based.test(WIDER)
    based.run()
    monkeypatch.setenv("GITHUB_WORKSPACE", str(based.root.parent))
    capsys.readouterr()
    offline(based, monkeypatch, "--format", "github")
    assert f"::error file={based.root.name}/budgets/model.yaml," in capsys.readouterr().out


def test_the_ini_twin(based: Any) -> None:
    based.write("pytest.ini", "[pytest]\nflops_compare = base/flops.json\n")
    based.test(WIDER)
    assert based.run().ret == 1


def test_a_budget_whose_test_is_renamed_is_still_compared(project: Any) -> None:
    project.budgets("version: 1\nbudgets:\n  step:\n    limits: {total: 1 TFLOP}\n")
    source = (
        "import pytest\n"
        "from pytest_flops import FLOPsCount\n"
        "@pytest.mark.flops_budget('step')\n"
        "def test_step(flops): flops.check(FLOPsCount(7))\n"
    )
    project.test(source)
    assert project.run("--flops-report", "base").ret == 0
    project.test(source.replace("test_step", "test_other_name").replace("(7)", "(8)"))
    result = project.run("--flops-compare", "base/flops.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*step*8 FLOP*"])


def test_a_base_that_did_not_come_to_its_end_is_refused(project: Any) -> None:
    project.test(
        "from pytest_flops import FLOPsCount\n"
        "def test_one(flops): flops.check(FLOPsCount(1), total=1)\n"
        "def test_two(): raise OSError\n"
        "def test_three(flops): flops.check(FLOPsCount(1), total=1)\n"
    )
    project.run("-x", "--flops-report", "base")
    project.test("def test_one(): pass\n")
    result = project.run("--flops-compare", "base/flops.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*base/flops.json is no base*did not come to its end*"])


def test_a_budget_whose_test_is_skipped_is_no_longer_measured_and_red(project: Any) -> None:
    project.budgets("version: 1\nbudgets:\n  step:\n    limits: {total: 1 TFLOP}\n")
    source = (
        "import pytest\n"
        "from pytest_flops import FLOPsCount\n"
        "@pytest.mark.flops_budget('step')\n"
        "def test_step(flops): flops.check(FLOPsCount(1))\n"
        "def test_other(flops): flops.check(FLOPsCount(1), total=1)\n"
    )
    project.test(source)
    assert project.run("--flops-report", "base").ret == 0
    project.test(source.replace("def test_step", "@pytest.mark.skip\ndef test_step"))
    result = project.run("--flops-compare", "base/flops.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'step'*measured*"])


def test_a_test_of_growth_alone_has_no_count_that_could_be_the_same(project: Any) -> None:
    growth = """\
import torch
def build(rows):
    return torch.nn.Linear(WIDTH, 4), torch.ones(rows, WIDTH)
def test_grows(flops):
    flops.scaling(build, rows=[2, 4, 8], max_exponent=1)
"""
    project.test(growth.replace("WIDTH", "4"))
    assert project.run("--flops-report", "base").ret == 0
    project.test(growth.replace("WIDTH", "8"))
    assert project.run("--flops-compare", "base/flops.json").ret == 0
    page = (project.root / "reports/flops.html").read_text()
    assert "1 budget holds growth alone" in page
    assert "to the last FLOP" not in page


def test_a_limit_of_growth_alone_that_is_raised_is_told(project: Any) -> None:
    growth = """\
import torch
def build(rows):
    x = torch.ones(rows, 4)
    return SquareOrNot(), x
class SquareOrNot(torch.nn.Linear):
    def __init__(self): super().__init__(4, 4)
    def forward(self, x): return super().forward(PRODUCT)
def test_grows(flops):
    flops.scaling(build, rows=[2, 4, 8], max_exponent=MOST)
"""
    project.test(growth.replace("PRODUCT", "x").replace("MOST", "1"))
    assert project.run("--flops-report", "base").ret == 0
    project.test(growth.replace("PRODUCT", "(x @ x.T) @ x").replace("MOST", "3"))
    result = project.run("--flops-compare", "base/flops.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*allows more: limit of total over rows 1 -> 3*"])
