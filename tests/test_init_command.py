"""`pytest-flops init`: the budget file that it writes is green, and red when the model grows."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from pytest_flops.cli import main

# A product of (8, 64) @ (64, 64), of (8, 64) @ (64, width): 65,536 and 1,024 x width forward.
MODEL = """
    import torch
    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.body = torch.nn.Linear(64, 64, bias=False)
            self.head = torch.nn.Linear(64, width, bias=False)
        def forward(self, x): return self.head(self.body(x))
    def build_small_net(batch_size, width=WIDTH): return Net(width), torch.ones(batch_size, 64)
"""


@pytest.fixture
def src(project: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project in a `src/` layout; the name of its module."""
    name = f"net_{project.root.name}"
    project.write("pytest.ini", "[pytest]\npythonpath = src\ntestpaths = tests\n")
    project.write(f"src/{name}.py", MODEL.replace("WIDTH", "100"))
    monkeypatch.chdir(project.root)
    return name


@pytest.mark.long
def test_what_it_writes_is_green_and_goes_red_beyond_its_margin(
    project: Any, src: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", f"{src}:build_small_net", "--batch-size", "8"]) == 0
    told = capsys.readouterr().out
    file = project.root / "budgets/small_net.yaml"
    written = file.read_text(encoding="utf-8")
    # The head's 102,400 and the body's 65,536, and the sum of 8 x 100 outputs that stands for a
    # loss. With 5 % these are 177,172.8, rounded up to three digits.
    assert "forward: 178 kFLOP  # counted 168,736" in written
    assert '"head": {total: ' in written
    for line in (
        "wrote budgets/small_net.yaml: ",
        "addopts = --strict-markers",
        "required_plugins = pytest-flops",
        "testpaths = tests budgets",
        "commit:               budgets/small_net.yaml, and the small_net.lock.json",
    ):
        assert line in told
    assert project.run_apart("budgets").ret == 0
    # 103 is 3 % of the head more; 110 is 10 %, over its margin and over the forward's.
    module = project.root / f"src/{src}.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace("100", "103"), encoding="utf-8")
    assert project.run_apart("budgets").ret == 0
    module.write_text(text.replace("100", "110"), encoding="utf-8")
    result = project.run_apart("budgets")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*head*"])


def test_what_is_given_stands_in_the_file(
    project: Any, src: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--batch-size", "8", "--config", "width: 5", "--optimizer", "sgd", "--margin", "0%"]
    where = ["--name", "tiny net", "-o", "gates/tiny.yaml"]
    assert main(["init", f"{src}:build_small_net", *asked, *where]) == 0
    written = (project.root / "gates/tiny.yaml").read_text(encoding="utf-8")
    for line in ('config: {"width": 5}', "batch_size: 8", 'optimizer: "sgd"', '"tiny net":'):
        assert line in written
    assert project.run("gates").ret == 0


def test_a_builder_of_no_name_of_its_own_has_its_modules_and_toml_is_told_as_toml(
    project: Any, src: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "pytest.ini").unlink()
    options = '[tool.pytest.ini_options]\npythonpath = ["src"]\ntestpaths = ["tests"]\n'
    project.write("pyproject.toml", options)
    module = project.root / f"src/{src}.py"
    text = module.read_text(encoding="utf-8").replace("build_small_net", "build")
    module.write_text(text, encoding="utf-8")
    assert main(["init", f"{src}:build", "--batch-size", "8"]) == 0
    told = capsys.readouterr().out
    assert f"wrote budgets/{src}.yaml: " in told
    proposed = told[told.index("  [tool.pytest.ini_options]") :]
    assert 'testpaths = "tests budgets"' in proposed
    # pytest takes what is proposed, and alone it holds the budget.
    project.write("pyproject.toml", f'{dedent(proposed)}pythonpath = ["src"]\n')
    project.write("tests/test_nothing.py", "def test_nothing(): pass\n")
    project.run_apart().assert_outcomes(passed=2)


def test_nothing_is_overwritten(project: Any, src: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = project.write("budgets/small_net.yaml", "mine")
    assert main(["init", f"{src}:build_small_net", "--batch-size", "8"]) == 2
    assert "is there already and was left as it is" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["budgets/a.yaml::a"], "is a budget already"),
        (["BUILDER", "--margin", "lots"], "lots"),
        (["BUILDER", "--config", "width"], "--config width is not of the form"),
        (["BUILDER"], "raised TypeError"),  # without a batch_size
        (["no_such:builder"], "cannot import 'no_such:builder'"),
        (["BUILDER", "--batch-size", "8", "-o", "pytest.ini/x.yaml"], "cannot be written"),
    ],
)
def test_what_cannot_be_proposed_is_said_and_nothing_written(
    project: Any,
    src: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    given = [each.replace("BUILDER", f"{src}:build_small_net") for each in arguments]
    assert main(["init", *given]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert not list(project.root.rglob("*.yaml"))


def test_a_cost_that_nobody_knows_gets_no_limit(
    project: Any, src: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(
        f"src/odd_{src}.py",
        """
        import torch
        @torch.library.custom_op("proposed::odd", mutates_args=())
        def odd(x: torch.Tensor) -> torch.Tensor: return x.clone()
        odd.register_fake(torch.empty_like)
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = torch.nn.Parameter(torch.ones(3))
            def forward(self, x): return odd(x) * self.scale
        def build(): return Net(), torch.ones(3)
        """,
    )
    assert main(["init", f"odd_{src}:build"]) == 2
    assert "proposed.odd" in capsys.readouterr().err
