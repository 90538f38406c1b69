"""The CUDA kernels without a GPU: interpreted against the CPU, and compiled for Hopper.

Triton decides at import whether it interprets, so both happen in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed; the `test` extra brings it on Linux")

LARGEST_ERROR = {
    "halo-1": 4e-7,
    "halo-2": 4e-7,
    "halo-tile": 4e-7,
    "halo-tiles": 4e-7 / 1.2,
    "scan-1": 4e-7 / 0.1,
    "scan-3": 4e-7 / 0.1,
    "scan-tile": 4e-7 / 0.01,
    "scan-tiles": 4e-7 / 0.3,
    "scan-float64": 5e-10,
}


def _run(*arguments: str, interpret: bool) -> Any:
    script = Path(__file__).with_name("triton_cases.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpret else "0"}
    result = subprocess.run(
        [sys.executable, script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def interpreted() -> dict[str, dict[str, float]]:
    errors: dict[str, dict[str, float]] = _run("interpret", interpret=True)
    return errors


@pytest.mark.parametrize("case", LARGEST_ERROR)
@pytest.mark.long
def test_an_interpreted_kernel_gives_the_features_of_the_cpu(interpreted, case):
    assert interpreted[case]["features"] <= LARGEST_ERROR[case]


@pytest.mark.parametrize("case", LARGEST_ERROR)
@pytest.mark.long
def test_an_interpreted_kernel_gives_the_gradients_of_the_cpu(interpreted, case):
    slopes = {name: error for name, error in interpreted[case].items() if name != "features"}
    assert slopes["he_diag"] <= 5 * LARGEST_ERROR[case]
    assert max(slopes.values()) <= 10 * LARGEST_ERROR[case]


def test_interpreted_kernels_agree_with_the_cpu_on_short_rows():
    for case, errors in _run("interpret", "halo-2", "scan-3", interpret=True).items():
        assert errors["features"] <= LARGEST_ERROR[case]
        assert errors["he_diag"] <= 5 * LARGEST_ERROR[case]


def test_a_kernel_executes_what_its_source_says_to_the_flop():
    """The kernels' own formulas, which `triton_cases` counts by hand from their source.

    The operator, of which they are a part, counts 17 N + 27 (N - 1) per row, whatever runs. On each
    of its lanes x L elements, as many as the row has or more, `halo` executes 35 + 3 / L, and 22 in
    each pass after the first; `scan` 75 + (75 + 160 log2 lanes) / L, and 48 at every fourth.
    """
    cases = ("halo-1", "halo-tile", "scan-3", "scan-tile")
    for phases in _run("execute", *cases, interpret=True).values():
        for flops, by_formula, _, _ in phases.values():
            assert flops == by_formula


@pytest.mark.long
def test_the_code_of_a_kernel_tells_the_same():
    cases = ("halo-1", "halo-tile", "scan-3", "scan-tile")
    for phases in _run("read", *cases, interpret=False).values():
        assert {*phases} == {"plain", "dual"}
        for flops, by_formula in phases.values():
            assert flops == by_formula


def test_a_kernel_moves_the_operands_and_what_lanes_share():
    """2 rows of 128 elements of 4 bytes in one tile each, of 32 lanes of 4 elements."""
    phases = _run("execute", "scan-tile", interpret=True)["scan-tile"]
    row, couplings, shift = 4 * 128, 4 * 127, 16
    follow = 2 * 4 * 31  # of the lane behind, both couplings again
    entries = 2 * 4 * 2  # what enters the tile from both sides, complex
    *_, loaded, stored = phases["forward"]
    assert loaded == 2 * (row + 2 * couplings + shift + follow + entries)
    assert stored == 2 * 2 * row
    *_, loaded, stored = phases["backward"]  # the incoming gradient too; numbers are dual
    assert loaded == 2 * (3 * row + 2 * couplings + shift + follow + 2 * entries)
    assert stored == 2 * 2 * row


@pytest.mark.long
def test_every_kernel_compiles_for_hopper():
    assert _run("compile", interpret=False) == [
        "halo",
        "halo dual",
        "scan",
        "scan dual",
        "summarise",
        "summarise dual",
        "carry",
        "carry dual",
    ]


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 25), (torch.float64, 54)])
def test_at_i_a_pivot_forgets_its_start_as_fast_as_is_proven(dtype, steps):
    """`1 + ceil(ln(ln(1 + k/y^2) / u) / ln(1 + y^2/k))` at k = y = 1, u the unit roundoff."""
    from pytest_flops.resnet_bk.bk_core.triton import warm_up

    assert warm_up(1.0, 1.0, dtype) == steps
    assert warm_up(1.0, 0.0, dtype) == 1
    assert warm_up(1e-9, 1.0, dtype) > 10**9
