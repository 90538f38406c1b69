"""`--flops-metrics`: count other metrics in every entry, whether or not a budget limits them."""

from __future__ import annotations

import json
from typing import Any

import pytest

BUDGET = """\
version: 1
budgets:
  net:
    workload: {model: "model:build", batch_size: 3, optimizer: none}
    limits: {total: 1 MFLOP}
"""
MODEL = """\
import torch

def build(batch_size):
    return torch.nn.Linear(4, 8, bias=False), torch.ones(batch_size, 4)
"""
MARKED = """\
import pytest, torch

@pytest.mark.flops_budget(total="1 kFLOP")
def test_step():
    torch.ones(2, 5) @ torch.ones(5, 3)

def test_free(flops):
    with flops.measure(total=100):
        torch.ones(2, 5) @ torch.ones(5, 3)
"""
SUBJECTS = ("budgets/model.yaml::net", "test_model.py::test_step", "test_model.py::test_free")
ALL = {
    *("bytes", "peak_memory", "launches", "syncs"),
    *("full_precision", "communication", "collectives", "parameters", "trainable_parameters"),
}


@pytest.fixture
def small(project: Any) -> Any:
    """A project with a budget in YAML, a marked test and one that measures by itself."""
    project.write("model.py", MODEL)
    project.budgets(BUDGET)
    project.ini("pythonpath = .")
    project.test(MARKED)
    return project


def counted(project: Any) -> dict[str, dict[str, Any]]:
    entries = project.report()["entries"]
    return {entry["subject"]: entry["measurement"].get("metrics", {}) for entry in entries}


def test_without_it_only_what_budgets_ask_for_is_counted(small: Any, mode: tuple[str, ...]) -> None:
    small.run(*mode).assert_outcomes(passed=3)
    assert counted(small) == {subject: {} for subject in SUBJECTS}


def test_every_entry_holds_what_it_names(small: Any, mode: tuple[str, ...]) -> None:
    small.run("--flops-metrics", "bytes, parameters", *mode).assert_outcomes(passed=3)
    found = counted(small)
    assert {*found} == {*SUBJECTS}
    assert [{*metrics} for metrics in found.values()] == [{"bytes", "parameters"}] * 3
    # The two tensors of ones are written, 10 and 15 elements of 4 bytes; the product reads them
    # and writes 2 x 3.
    of_test = found["test_model.py::test_step"]["bytes"]["whole"]
    assert of_test == {"forward": 4 * (2 * (10 + 15) + 6)}
    assert found["budgets/model.yaml::net"]["parameters"]["whole"] == {"total": 4 * 8}


def test_all_are_all(small: Any, mode: tuple[str, ...]) -> None:
    small.run("--flops-metrics=all", *mode).assert_outcomes(passed=3)
    assert [{*metrics} for metrics in counted(small).values()] == [ALL] * 3


def test_what_it_names_is_recorded_and_held_from_then_on(small: Any) -> None:
    small.run("--flops-metrics=bytes", "--flops-update").assert_outcomes(passed=4)
    lock = json.loads((small.root / "test_model.lock.json").read_text())
    assert lock["tests"]["test_step"]["bytes"]["count"] == {"forward": 224}
    small.write("test_model.py", MARKED.replace("5, 3)", "5, 3).clone()", 1))
    result = small.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*bytes*344 B, recorded 224 B*"])  # clone: 2 x 15 x 4 more


def test_the_ini_twin(small: Any, mode: tuple[str, ...]) -> None:
    small.ini("pythonpath = .\nflops_metrics = syncs")
    small.run(*mode).assert_outcomes(passed=3)
    assert [[*metrics] for metrics in counted(small).values()] == [["syncs"]] * 3
    small.run("--flops-metrics=launches", *mode).assert_outcomes(passed=3)
    assert [[*metrics] for metrics in counted(small).values()] == [["launches"]] * 3


def test_of_a_builder_that_counts_by_itself_they_are_those_of_its_model(project: Any) -> None:
    project.budgets()
    assert project.run("--flops-metrics=parameters").ret == 0
    (entry,) = project.report()["entries"]
    assert entry["measurement"]["source"] == "analytic"
    assert entry["measurement"]["metrics"]["parameters"]["whole"] == {"total": 4_146_120}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("byte", "--flops-metrics: there is no metric 'byte'; did you mean 'bytes'?"),
        ("bytes;syncs", "--flops-metrics: there is no metric 'bytes;syncs'; *"),
        ("xyz", "--flops-metrics: there is no metric 'xyz'; there are flops, bytes, *"),
        ("bytes,", "--flops-metrics: there is no metric ''; there are flops, bytes, *"),
        ("", "--flops-metrics has an empty value: is a variable unset?"),
    ],
)
def test_an_unknown_name_is_a_usage_error(
    small: Any, mode: tuple[str, ...], given: str, told: str
) -> None:
    small.refuses(f"--flops-metrics={given}", *mode, told=[f"ERROR: {told}"])


def test_an_unknown_name_in_the_ini_file_is_a_usage_error_even_without_budgets(
    project: Any,
) -> None:
    project.ini("flops_metrics = peak_memmory")
    project.test("def test_nothing(): pass\n")
    project.refuses(told=["ERROR: *'peak_memmory'; did you mean 'peak_memory'?"])
