"""CI shards, each with a report of its own, and the one that `pytest-flops merge` makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_flops import cli

BUDGETS = """\
version: 1
budgets:
  one: {limits: {total: 100 FLOP}}
  two: {limits: {total: 100 FLOP}}
  never: {limits: {total: 100 FLOP}}
"""
SUITE = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('one')
def test_one(flops): flops.check(FLOPsCount(10))
@pytest.mark.flops_budget('two')
def test_two(flops): flops.check(FLOPsCount(20))
"""
# As pytest-split and its like do it.
SPLIT = """\
import os
def pytest_collection_modifyitems(config, items):
    mine = os.environ.get('SHARD')
    if mine:
        others = [item for item in items if not item.name.endswith(mine)]
        items[:] = [item for item in items if item.name.endswith(mine)]
        config.hook.pytest_deselected(items=others)
"""
# As pytest-shard does it: without a word.
SPLIT_SILENTLY = SPLIT.replace("        config.hook.pytest_deselected(items=others)\n", "")


@pytest.fixture
def split(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    project.budgets(BUDGETS.replace("  never: {limits: {total: 100 FLOP}}\n", ""))
    project.test(SUITE)
    project.write("conftest.py", SPLIT)
    monkeypatch.chdir(project.root)
    return project


def run_shard(project: Any, monkeypatch: pytest.MonkeyPatch, shard: str, *options: str) -> Any:
    monkeypatch.setenv("SHARD", shard)
    result = project.run("--flops-report", shard, *options)
    monkeypatch.delenv("SHARD")
    return result


def merge(*shards: str) -> int:
    return cli.main(["merge", *(f"{shard}/flops.json" for shard in shards), "-o", "merged"])


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    del report["environment"]["time"]
    return report


@pytest.mark.parametrize("plugin", [SPLIT, SPLIT_SILENTLY], ids=["deselecting", "silent"])
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_merged_shards_are_the_report_of_a_single_run(
    split: Any, monkeypatch: pytest.MonkeyPatch, plugin: str, workers: tuple[str, ...]
) -> None:
    split.write("conftest.py", plugin)
    assert run_shard(split, monkeypatch, "one", *workers).ret == 0
    assert run_shard(split, monkeypatch, "two", *workers).ret == 0
    assert merge("one", "two") == 0
    assert split.run().ret == 0
    assert timeless(split.report("merged/flops.json")) == timeless(split.report())
    assert {file.name for file in (split.root / "merged").iterdir()} == {
        "flops.json",
        "flops.html",
        "flops.md",
    }


def test_a_red_shard_makes_the_merge_red(split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    split.test(SUITE.replace("FLOPsCount(20)", "FLOPsCount(101)"))
    assert run_shard(split, monkeypatch, "one").ret == 0
    assert run_shard(split, monkeypatch, "two").ret == 1
    assert merge("one", "two") == 1


def test_a_stale_budget_is_judged_after_the_merge(
    split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    split.budgets(BUDGETS)
    assert run_shard(split, monkeypatch, "one").ret == 0
    assert run_shard(split, monkeypatch, "two").ret == 0
    assert merge("one", "two") == 1
    (error,) = split.report("merged/flops.json")["errors"]
    assert error["location"] == "budgets/model.yaml:5:3"
    assert "'never' is named by no test" in error["message"]


def test_a_shard_that_is_left_out_of_the_merge_is_seen(
    split: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_shard(split, monkeypatch, "one")
    assert merge("one") == 1
    (error,) = split.report("merged/flops.json")["errors"]
    assert error["message"].endswith(
        "left to another shard, whose report is not here: test_model.py::test_two"
    )


def test_one_shard_given_twice_is_refused(
    split: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_shard(split, monkeypatch, "one")
    capsys.readouterr()
    assert merge("one", "one") == 2
    assert "test_model.py::test_one" in capsys.readouterr().err
    assert not (split.root / "merged").exists()


def test_shards_of_different_commits_are_refused(
    split: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in ("one", "two"):
        run_shard(split, monkeypatch, shard)
        report = split.report(f"{shard}/flops.json")
        report["environment"]["commit"] = shard * 8
        split.write(f"{shard}/flops.json", json.dumps(report))
    capsys.readouterr()
    assert merge("one", "two") == 2
    assert "different commits" in capsys.readouterr().err


def test_a_conflict_between_shards_is_refused(
    split: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = split.baseline.replace("d_model: 64", "d_model: 8").partition("    limits:")[0]
    run = ("budgets/small.yaml", "--flops-report")
    split.budgets(small + "    limits: {total: 1 TFLOP}\n", path="budgets/small.yaml")
    split.run(*run, "one", "-k", "limits")
    split.budgets(
        small.replace("n_layers: 4", "n_layers: 3") + "    scaling: {n_layers: {sizes: [1, 2, 3], "
        "max_exponent: 1}}\n",
        path="budgets/small.yaml",
    )
    split.records("budgets/small.lock.json", baseline=(1, 1, 1))
    split.run(*run, "two", "-k", "recorded")
    capsys.readouterr()
    assert merge("one", "two") == 2
    assert "was measured with different results" in capsys.readouterr().err
