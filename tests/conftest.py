"""What every test may use: a temporary project with budgets, and a real pytest to run in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hypothesis import settings

from pytest_flops.counting.metric import BUILT_IN, METRICS
from pytest_flops.session.settings import CI_VARIABLES

pytest_plugins = ["pytester"]

# The threads of one operator wait for each other in a loop that takes a whole core. With a worker
# of xdist on every core, they take the time of the others: 76 seconds for what takes 6.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The figures of the reference page: B=32, N=128, AdamW.
BASELINE_BUDGET = """\
version: 1
budgets:
  baseline:
    workload:
      model: resnet_bk
      config: {d_model: 64, n_layers: 4, n_seq: 128, vocab_size: 30000, num_experts: 4, top_k: 1}
      batch_size: 32
      seq_len: 128
      optimizer: adamw
      rules: published
    limits:
      forward: 16.3 GFLOP
      total: 49 GFLOP
      components:
        lm_head: {forward: 15.8 GFLOP}
        "layer_*": {forward: 140 MFLOP, backward: 280 MFLOP}
"""
BASELINE_COUNT = (16287760384, 32568016896, 62191800)

# `make test` draws fewer examples than `make test-all`. No deadline: machines of CI stall.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=50, deadline=None)
settings.load_profile("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    """Keep libraries imported when `pytester` forgets what its test imported."""
    imported = dict(sys.modules)
    yield
    keep_libraries(imported)


class LibraryKeeper:
    """A plugin of an in-process run, which keeps libraries imported when the run is over."""

    def __init__(self) -> None:
        self.imported: dict[str, ModuleType] = {}

    def pytest_unconfigure(self) -> None:
        self.imported = dict(sys.modules)


def keep_libraries(imported: dict[str, ModuleType]) -> None:
    """Put back what was forgotten: torch and its operators can be imported once in a process."""
    for name, module in imported.items():
        of_a_test = "pytest-of-" in str(getattr(module, "__file__", None))
        if not of_a_test:
            sys.modules.setdefault(name, module)


ONE_TEST = """\
{imports}
from pytest_flops import FLOPsCount


@pytest.mark.flops_budget({limits})
def test_step({fixtures}):
{body}
"""


def block(text: str) -> str:
    """Text as it is or, where it begins with a line break, without that and its indentation."""
    return dedent(text[1:]) if text.startswith("\n") else text


@dataclass
class Project:
    """A project of somebody who uses the plugin."""

    pytester: pytest.Pytester

    baseline: ClassVar[str] = BASELINE_BUDGET
    baseline_count: ClassVar[tuple[int, int, int]] = BASELINE_COUNT

    @property
    def root(self) -> Path:
        return self.pytester.path

    def write(self, path: str, text: str) -> Path:
        """Write a file; text that begins with a line break loses that and its indentation."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block(text), encoding="utf-8")
        return file

    def budgets(self, text: str = BASELINE_BUDGET, path: str = "budgets/model.yaml") -> Path:
        return self.write(path, text)

    def records(
        self, path: str = "budgets/model.lock.json", **budgets: tuple[int, int, int]
    ) -> Path:
        """Write a lock file with the counts of forward, backward and optimizer, by budget."""
        phases = ("forward", "backward", "optimizer")
        entries = {
            name: {"flops": {"count": dict(zip(phases, count, strict=True))}}
            for name, count in budgets.items()
        }
        data = {"format": "pytest-flops lock file", "version": 1, "budgets": entries}
        return self.write(path, json.dumps(data))

    def recorded(self, name: str, path: str = "budgets/model.lock.json") -> dict[str, int]:
        """What a lock file says of a budget or test: the FLOPs of its phases."""
        data = json.loads((self.root / path).read_text(encoding="utf-8"))
        count: dict[str, int] = (data.get("budgets", {}) | data.get("tests", {}))[name]["flops"][
            "count"
        ]
        return count

    def test(self, source: str, path: str = "test_model.py") -> Path:
        return self.write(path, source)

    def budget(self, name: str, *lines: str, path: str = "budgets/model.yaml") -> Path:
        """Write a budget file of one budget, given by its lines of YAML."""
        return self.budgets(
            f"version: 1\nbudgets:\n  {name}:\n    " + "\n    ".join(lines) + "\n", path
        )

    def ini(self, line: str) -> Path:
        """Write a `pytest.ini` of this line."""
        return self.write("pytest.ini", f"[pytest]\n{line}\n")

    def marked(
        self, limits: str, body: str, fixtures: str = "", imports: str = "import pytest, torch"
    ) -> Path:
        """Write one test: the arguments of its marker, its body, and the fixtures it asks for."""
        body = indent(block(body), "    ")
        return self.test(
            ONE_TEST.format(imports=imports, limits=limits, fixtures=fixtures, body=body)
        )

    def counted(self, limits: str, count: str = "100, 200, 30") -> Path:
        """Write one marked test that checks a `FLOPsCount(count)` and does not import torch."""
        return self.marked(limits, f"flops.check(FLOPsCount({count}))", "flops", "import pytest")

    def fails(self, *arguments: str, told: Sequence[str] = (), **outcomes: int) -> pytest.RunResult:
        """Run pytest, of which one test fails unless `outcomes` say otherwise, with these lines."""
        result = self.run(*arguments)
        result.assert_outcomes(**{"failed": 1, **outcomes})
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(told)
        return result

    def explains(self, *arguments: str, told: Sequence[str]) -> pytest.RunResult:
        """Run pytest, of which a test fails, with each of these words, wherever lines break."""
        result = self.run(*arguments)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        text = " ".join(result.stdout.str().split())
        for words in told:
            assert fnmatchcase(text, f"*{words}*"), words
        return result

    def refuses(self, *arguments: str, told: Sequence[str]) -> pytest.RunResult:
        """Run pytest, which ends with a usage error, these lines and no traceback."""
        result = self.run(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(told)
        for word in ("Traceback", "INTERNALERROR"):
            assert word not in result.stdout.str() + result.stderr.str()
        return result

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process, as a user would from the project's root."""
        keeper = LibraryKeeper()
        result = self.pytester.runpytest_inprocess(*arguments, plugins=[keeper])
        keep_libraries(keeper.imported)
        return result

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in a process of its own, for what one process can do only once."""
        return self.pytester.runpytest_subprocess(*arguments)

    def report(self, path: str = "reports/flops.json") -> dict[str, Any]:
        """The JSON report of the last run."""
        report: dict[str, Any] = json.loads((self.root / path).read_text(encoding="utf-8"))
        return report


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    return Project(pytester)


@pytest.fixture(
    params=[
        pytest.param((), id="plain"),
        pytest.param(("-n", "1"), id="xdist", marks=pytest.mark.long),
        pytest.param(("-p", "no:xdist"), id="no-xdist", marks=pytest.mark.long),
    ]
)
def mode(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The ways in which every option must do the same."""
    arguments: tuple[str, ...] = request.param
    return arguments


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of what POSIX alone has say what it is, and are skipped on Windows."""
    marker = item.get_closest_marker("posix")
    if marker and os.name == "nt":
        pytest.skip(f"Windows has no {marker.args[0]}")


@pytest.fixture(autouse=True)
def _own_metrics() -> Iterator[None]:
    """What the plugin of one test registers is not there in the next, which has another process."""
    yield
    for name in {*METRICS} - BUILT_IN:
        del METRICS[name]


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run inside a test is a developer's own, wherever the tests themselves run."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)
    for name in (
        *CI_VARIABLES,
        "GITHUB_ACTIONS",
        "GITHUB_STEP_SUMMARY",
        "GITHUB_OUTPUT",
        "GITHUB_SHA",
    ):
        monkeypatch.delenv(name, raising=False)
