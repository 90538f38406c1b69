"""Every example runs, and says what it is there to say."""

from __future__ import annotations

import importlib.util
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))

# A figure that each script's table must have: of the reference page, or worked out here.
FIGURES = {
    "basic_count": "16,287,760,384",
    "breakdown": "139,386,880",
    "compare_models": "48,917,969,080",
    "compare_optimizers": "62,191,800",
    "sample_report": "flops.html",
    "scaling_batch_size": "48.918",
    "scaling_model_size": "48.918",
    "scaling_sequence_length": "48.918",
}


def test_every_script_has_a_figure_to_show() -> None:
    assert {script.stem for script in SCRIPTS} == set(FIGURES)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may be written to, and no arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example"])


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_prints_its_table(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(script), run_name="__main__")
    assert FIGURES[script.stem] in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_does_nothing_when_imported(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(script), run_name="imported")
    assert capsys.readouterr().out == ""


def copy_example(name: str, project: Any) -> None:
    shutil.copytree(EXAMPLES / name, project.root, dirs_exist_ok=True)


@pytest.mark.long
@pytest.mark.parametrize("name", ["gate_a_convnet", "gate_a_transformer"])
def test_an_example_project_is_within_its_budgets(name: str, project: Any) -> None:
    copy_example(name, project)
    assert project.run().ret == 0
    assert project.report()["passed"] is True


def test_the_example_plugin_registers_its_builder_and_its_costs(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_example("plugin_example", project)
    monkeypatch.syspath_prepend(str(project.root / "src"))  # as if it were installed
    result = project.run("-p", "my_library.flops")
    has_triton = importlib.util.find_spec("triton") is not None
    result.assert_outcomes(passed=5 + has_triton, skipped=1 - has_triton)
    report = project.report()
    assert report["passed"] is True
    assert "my_library" in report["environment"]


class Regression(NamedTuple):
    project: str
    file: str
    old: str
    new: str
    told: str


REGRESSIONS = [
    # A depthwise convolution that lost its groups.
    Regression(
        "gate_a_convnet",
        "src/convnet.py",
        "groups=wide",
        "groups=1",
        "stages.0..2.depthwise x 3 grew by *",
    ),
    # A wider feed-forward network.
    Regression(
        "gate_a_transformer",
        "src/gpt.py",
        "nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)",
        "nn.Linear(width, 5 * width), nn.GELU(), nn.Linear(5 * width, width)",
        "write * to allow it: blocks.[*].mlp forward, *",
    ),
]


@pytest.mark.long
@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda regression: regression.project)
def test_an_example_project_is_red_after_a_regression(regression: Regression, project: Any) -> None:
    copy_example(regression.project, project)
    text = (project.root / regression.file).read_text("utf-8")
    assert text.count(regression.old) == 1
    project.write(regression.file, text.replace(regression.old, regression.new))
    result = project.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{regression.told}"])


def test_the_hugging_face_gate_holds_or_says_why_it_is_skipped(project: Any) -> None:
    copy_example("gate_hugging_face", project)
    result = project.run("-rs")
    if importlib.util.find_spec("transformers"):
        result.assert_outcomes(passed=3)
    else:
        result.stdout.fnmatch_lines(["SKIPPED*needs Hugging Face's transformers*"])


# Elements of a layer, and of the embedding, the last norm and the output.
LAYER = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
ROOT = 2 * 128256 * 4096 + 4096
MODEL = 32 * LAYER + ROOT
TOKENS = 2 * 8192


def memory_of_llama(ranks: int) -> int:
    """At the peak, which is that of the loss's backward."""
    shards = MODEL * 4 // ranks
    gathered = 2 * (ROOT + LAYER)  # the last layer is needed again at once
    # Of each token, of a layer: its input, and the outputs of wq, attention, w2; of wv; of w1; and
    # of each head of attention, a number in float32.
    kept = 2 * (4 * 4096 + 1024 + 14336) + 4 * 32
    norm, loss = 2 * 2 * 4096 + 4, 4 * 128256  # a norm keeps its input, its output and one number
    activations = TOKENS * (32 * kept + norm + loss)
    return shards + gathered + 2 * shards + activations + 2 * TOKENS * loss


@pytest.mark.long
def test_one_rank_of_llama_comes_to_what_hand_arithmetic_says(project: Any) -> None:
    copy_example("one_rank_of_many", project)
    assert project.run().ret == 0
    for entry in project.report()["entries"]:
        ranks = entry["workload"]["mesh"]["dp_shard"]
        metrics = entry["measurement"]["metrics"]
        peak = max(metrics["peak_memory"]["whole"].values())
        # Not in the arithmetic: tokens, rotations, and what is rounded up to 512 bytes.
        assert 0 <= peak - memory_of_llama(ranks) < 10_000_000
        # All are gathered in the forward, 31 of the layers again in the backward.
        gathers, scatters = 2 * (MODEL + 31 * LAYER), 4 * MODEL
        assert sum(metrics["communication"]["whole"].values()) == gathers + scatters
