"""`Measurement.lines`: which line of somebody's own code a metric's value comes from."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter import attribution
from pytest_flops.counting.meter.lines import is_own

ROWS, INSIDE, OUT = 4, 8, 2
PRODUCT = 2 * ROWS * INSIDE * OUT
X = torch.linspace(-1, 1, ROWS * INSIDE).view(ROWS, INSIDE)


class Reading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(INSIDE, OUT)

    def forward(self, x: Tensor) -> Tensor:
        if x.isnan().any():
            raise ValueError
        y: Tensor = self.inner(x)
        return y


def line_of(function: Callable[..., Any], after: int) -> str:
    """The line that stands so many lines after a function's `def`, told from this folder."""
    return f"{Path(__file__).name}:{function.__code__.co_firstlineno + after}"


@pytest.fixture(autouse=True)
def _in_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)


def train(model: nn.Module) -> None:
    for _ in range(3):
        loss = model(X).sum()
        loss.item()
        loss.backward()


def measured(metrics: list[str], run: Callable[[], Any]) -> Measurement:
    with FLOPsMeter(metrics=metrics, lines=True) as meter:
        run()
    return meter.measurement()


def test_syncs_are_told_by_the_line_that_waits_and_how_often() -> None:
    found = measured(["syncs"], lambda: train(Reading()))
    assert found.lines == {"syncs": {line_of(Reading.forward, 1): 3, line_of(train, 3): 3}}
    assert list(found.lines["syncs"]) == sorted(found.lines["syncs"])  # ties in a fixed order


def test_the_line_of_a_backward_is_the_one_that_began_it() -> None:
    found = measured(["full_precision"], lambda: train(Reading()))
    # Forward a product; backward the gradient of the weight, since the input requires none.
    lines = {line_of(Reading.forward, 3): 3 * PRODUCT, line_of(train, 4): 3 * PRODUCT}
    assert found.lines == {"full_precision": lines}
    assert sum(lines.values()) == found.of("full_precision total")


def test_a_model_on_fakes_has_lines_too() -> None:
    found = count_flops(Reading().inner, X, metrics=["full_precision"], lines=True)
    here = line_of(test_a_model_on_fakes_has_lines_too, 1)
    assert found.lines == {"full_precision": {here: 2 * PRODUCT}}


def test_where_no_line_is_anybodys_own_it_is_the_module() -> None:
    model = nn.Sequential(nn.Linear(INSIDE, OUT), nn.ReLU())

    def run() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(model, X).result()

    assert measured(["full_precision"], run).lines == {"full_precision": {"in 0": PRODUCT}}


def test_a_file_elsewhere_has_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (line, _) = measured(["syncs"], lambda: train(Reading())).lines["syncs"]
    assert line.rpartition(":")[0] == __file__


def test_lines_are_looked_up_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(attribution, "line_here")
    with FLOPsMeter(metrics=["full_precision"]) as meter:
        train(Reading())
    assert meter.measurement().of("full_precision total")
    assert not meter.measurement().lines


def test_lines_of_syncs_which_are_few_are_always_looked_up() -> None:
    with FLOPsMeter(metrics=["syncs", "full_precision"]) as meter:
        train(Reading())
    assert list(meter.measurement().lines) == ["syncs"]
    assert sum(meter.measurement().lines["syncs"].values()) == 6


def test_lines_survive_json() -> None:
    found = measured(["syncs", "full_precision"], lambda: train(Reading()))
    again = Measurement.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.lines == found.lines
    assert set(again.lines) == {"syncs", "full_precision"}


def test_the_scripts_of_packages_are_nobodys_own() -> None:
    assert not is_own(str(Path(sysconfig.get_path("scripts")) / "pytest"))
    assert is_own(__file__)
