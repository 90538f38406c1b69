"""`pytest-flops count`: the table, the roofline on a device, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_flops import BASELINE_CONFIG, FLOPsCounter
from pytest_flops.cli import main
from pytest_flops.counting.metric import BUILT_IN, METRICS

# Two products of (8, 16) @ (16, 16): 2 x 8 x 16 x 16 FLOPs each; no backward, no optimizer.
MODEL = """
    import torch
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16, bias=False) for _ in "12")
        def forward(self, x):
            for layer in self.layers: x = layer(x)
            return {"loss": x.new_zeros((), requires_grad=True), "x": x}
    def build(): return Twice(), torch.ones(8, 16)
"""
FLOPS = 2 * 8 * 16 * 16  # 4,096
BYTES = 4 * (8 * 16 + 16 * 16 + 8 * 16)  # 2,048
ROUND = """
    name: Round
    source: made up
    gigabytes_per_second: 1 # 2,048 ns a product
    teraflops_per_second: {float32: 0.001, tf32: 0.002} # 4,096 ns a product
"""


@pytest.fixture
def target(project: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"twice_{project.root.name}"
    project.write(f"{name}.py", MODEL)
    project.write("round.yaml", ROUND)
    project.budget(
        "twice",
        "limits: {total: 1 TFLOP}",
        f"workload: {{model: '{name}:build', optimizer: none}}",
    )
    monkeypatch.chdir(project.root)
    return "budgets/model.yaml::twice"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    capsys.readouterr()
    assert main(["count", *arguments]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["count", *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert "Traceback" not in captured.err
    return captured.err


def test_without_a_device_it_prints_the_flops(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(capsys, target)
    head = ["component", "parameters", "forward", "backward", "optimizer", "total", "share"]
    assert lines[0] == head
    # Two matrices of 16 x 16 parameters.
    assert ["total", "512", "8,192", "0", "0", "8,192", "100.0", "%"] in lines
    assert ["layers.1", "256", "4,096", "0", "0", "4,096", "50.0", "%"] in lines
    assert not [line for line in told(capsys, target, "--depth", "0") if line[0] == "layers.1"]
    capsys.readouterr()
    main(["count", target, "--json"])
    assert json.loads(capsys.readouterr().out)["count"]["total"] == 2 * FLOPS


def test_a_builder_is_counted_without_a_budget(
    target: str, project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = f"twice_{project.root.name}:build"
    # Nothing has a gradient, so AdamW, which is the default, has nothing to do.
    row = ["total", "512", "8,192", "0", "0", "8,192", "100.0", "%"]
    assert row in told(capsys, builder)


def test_the_roofline_is_told_per_component(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(capsys, target, "--device", "round.yaml")
    assert lines[0] == ["component", "FLOPs", "bytes", "FLOP/B", "bound", "computing"]
    layer = ["layers.0", "4.096", "kFLOP", "2.048", "kB", "2.0", "4.096", "µs", "100", "%"]
    assert layer in lines
    assert layer not in told(capsys, target, "--device", "round.yaml", "--depth", "0")
    # Each layer is half of the bound, or a little less.
    assert layer not in told(capsys, target, "--device", "round.yaml", "--over", "60")
    assert layer in told(capsys, target, "--device", "round.yaml", "--over", "40")
    assert any("on Round this is not faster than" in " ".join(line) for line in lines)
    assert ["products:", "100.0", "%", "float32"] in lines
    halved = told(capsys, target, "--device", "round.yaml", "--tf32")
    assert ["products:", "100.0", "%", "tf32"] in halved
    assert ["layers.0", "2.048", "µs"] in [[line[0], *line[6:8]] for line in halved]


def test_a_step_time_tells_the_mfu(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    # 8,192 FLOPs of products at 10^9 in a second are 8.192 µs, a tenth of 81.92 µs.
    asked = (target, "--device", "round.yaml", "--step-time", "81.92us")
    (line,) = [line for line in told(capsys, *asked) if line[:2] == ["a", "step"]]
    assert line[:7] == ["a", "step", "of", "81.92", "µs:", "MFU", "10.0"]
    capsys.readouterr()
    assert main(["count", *asked, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["mfu"] == pytest.approx(0.1)
    assert record["step_seconds"] == pytest.approx(81.92e-6)
    assert record["components"]["layers"]["bytes"] == 2 * BYTES
    assert record["products"] == {"float32": 2 * FLOPS}
    assert record["source"] == "made up"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "h100_sxm"], "no device 'h100_sxm'; did you mean 'h100-sxm'?"),
        (["--device", "H100"], "no device 'H100'; did you mean 'h100-pcie' or 'h100-sxm'?"),
        (["--device", "zx"], "There are a100-40, a100-80, b200"),
        (["--device", "gone.yaml"], "gone.yaml: cannot be read"),
        (["--device", "round.yaml", "--step-time", "210"], "--step-time 210 has no unit"),
        (["--device", "round.yaml", "--step-time", "0ms"], "--step-time 0ms is no time"),
        (["--device", "round.yaml", "--step-time=-2ms"], "is negative"),
        (["--device", "round.yaml", "--step-time", "2min"], "has the unknown unit 'min'"),
        (["--device", "round.yaml", "--step-time", "soon"], "'soon' does not begin with a number"),
        (
            ["--device", "round.yaml", "--step-time", "1us"],
            "is faster than the bound",
        ),
        (["--step-time", "1ms"], "name it with --device"),
        (["--tf32"], "name it with --device"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_says_nothing_is_refused(
    target: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in refused(capsys, target, *arguments)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("source: made up", "sources: made up", "exactly the keys name, source"),
        ("0.001", "-1", "float32 is a number above 0, not -1"),
        ("float32:", "fp32:", "holds float32 and none but float64, float32"),
        ("name: Round", "name: [", "cannot be read as YAML"),
    ],
)
def test_a_device_file_that_says_too_little_is_refused(
    target: str,
    project: Any,
    capsys: pytest.CaptureFixture[str],
    *,
    old: str,
    new: str,
    words: str,
) -> None:
    project.write("round.yaml", ROUND.replace(old, new))
    assert words in refused(capsys, target, "--device", "round.yaml")


def test_other_metrics_have_tables_of_their_own(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["count", target, "--metrics", "bytes, parameters"]) == 0
    printed = capsys.readouterr().out
    of_bytes = [line.split() for line in printed.split("\n\n")[1].splitlines()]
    assert of_bytes[0] == ["bytes", "(B)", "forward", "backward", "optimizer", "total", "share"]
    assert ["layers.0", f"{BYTES:,}", "0", "0", f"{BYTES:,}", "49.8", "%"] in of_bytes  # of 4,112
    assert "parameters (elements)" not in printed  # a column beside the FLOPs
    assert main(["count", target, "--metrics", "all", "--json"]) == 0
    of_one_run = {name for name in BUILT_IN if not METRICS[name].of_compiler}
    assert {*json.loads(capsys.readouterr().out)["metrics"]} == of_one_run - {"flops"}
    words = "--metrics: there is no metric 'byte'; did you mean 'bytes'?"
    assert words in refused(capsys, target, "--metrics", "byte")


def test_of_a_builder_that_counts_by_itself_it_is_the_step_that_runs(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever rules its budget is counted by."""
    target = f"{project.budgets()}::baseline"
    assert main(["count", target, "--device", "h200", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sizes = {"batch_size": 32, "seq_len": 128}
    executed = FLOPsCounter.from_config(BASELINE_CONFIG, **sizes, rules="executed")
    assert found["whole"]["flops"] == executed.count_total_flops("adamw").total


@pytest.mark.parametrize(
    ("limits", "place"),
    [
        ("limits: {roofline: 200 ms}", "budgets/model.yaml:4:14: "),
        ("limits: {total: 1, components: {a: {mfu: 1}}}", "budgets/model.yaml:4:41: "),
    ],
)
def test_a_budget_cannot_limit_the_roofline(project: Any, limits: str, place: str) -> None:
    project.budget("twice", limits)
    project.refuses("budgets", told=[f"*{place}*is reported and never limited*"])


PRODUCTS = """
    import torch
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.norm = torch.nn.BatchNorm2d(64)
            self.heads = torch.nn.Linear(64, 30)
            self.rnn = torch.nn.LSTM(64, 8)
        def forward(self, x):
            x = self.norm(self.stem(x)).mean(-1).mT  # (2, 112, 64)
            q, k, v = self.heads(x).unsqueeze(1).chunk(3, -1)  # each (2, 1, 112, 10)
            self.rnn(x)
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)
    def build(batch_size): return Net(), torch.ones(batch_size, 3, 224, 224)
"""


def test_macs_are_those_of_the_forwards_products(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"products_{project.root.name}"
    project.write(f"{name}.py", PRODUCTS)
    monkeypatch.chdir(project.root)
    lines = told(capsys, f"{name}:build", "--batch-size", "2", "--macs")
    macs = {line[0]: line[2] for line in lines if line[0] in ("total", "stem", "norm", "heads")}
    assert lines[0][:5] == ["component", "parameters", "forward", "MACs", "forward"]
    # Of each of 2 images: 64 x 112 x 112 positions of 3 x 7 x 7 weights, as ResNets begin with;
    stem = 2 * 64 * 112 * 112 * 3 * 7 * 7
    heads = 2 * 112 * 64 * 30  # 112 rows of 64 features, 30 outputs each;
    attention = 2 * (112 * 112 * 10 + 112 * 112 * 10)  # scores, and their sums of values.
    assert macs == {
        "stem": f"{stem:,}",
        "norm": "0",
        "heads": f"{heads:,}",
        "total": f"{stem + heads + attention:,}",
    }
    words = [" ".join(line) for line in lines]
    assert "in no MACs: aten.mkldnn_rnn_layer, which is a product and more in one operator" in words
    # (236,027,904 + 430,080 + 501,760) / 2 = 118,479,872
    assert words[-1] == "forward MACs per sample: 118.48 MMAC"
    assert not any("MAC" in line for line in told(capsys, f"{name}:build", "--batch-size", "2"))


def test_macs_are_not_limited(project: Any) -> None:
    project.marked("macs='2 GMAC'", "pass")
    project.refuses(told=["*test_model.py*'macs' is told and never limited*"])


def test_a_marker_cannot_limit_the_roofline(project: Any) -> None:
    project.marked("roofline='200 ms'", "pass")
    project.refuses(told=["*test_model.py*'roofline' is reported and never limited*"])


def test_a_test_that_counts_the_roofline_holds_its_other_limits(project: Any) -> None:
    project.marked(
        "forward='1 kFLOP', bytes='1 kB'",
        """
        from pytest_flops import FLOPsMeter
        with FLOPsMeter(metrics=["roofline", "bytes"]) as meter:
            torch.ones(10) + 1
        flops.check(meter)
        """,
        "flops",
    )
    project.run("--flops-report", "reports").assert_outcomes(passed=1)
    (entry,) = project.report()["entries"]
    assert [*entry["measurement"]["metrics"]] == ["bytes"]


@pytest.mark.parametrize("option", ["--device", "--step-time"])
def test_an_empty_option_is_refused(
    target: str, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    refused(capsys, target, "--device", "round.yaml", option, "")


BREAKING = """
    import torch
    class Breaking(torch.nn.Linear):
        def forward(self, x):
            print(end="")
            return super().forward(x)
    def build(): return Breaking(4, 4), torch.ones(2, 4)
    def compiled(): return torch.compile(Breaking(4, 4), backend="eager"), torch.ones(2, 4)
"""


@pytest.mark.parametrize("builder", ["build", "compiled"])
def test_graph_breaks_are_told_with_their_lines(
    project: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    builder: str,
) -> None:
    name = f"breaking_{builder}_{project.root.name}"
    project.write(f"{name}.py", BREAKING)
    monkeypatch.chdir(project.root)
    lines = told(capsys, f"{name}:{builder}", "--metrics", "graph_breaks")
    assert ["graph_breaks", "(calls)", "total"] in lines
    assert ["total", "1"] in lines
    (why,) = (line for line in lines if line[:1] == ["graph_breaks:"])
    assert why[1:4] == [f"{name}.py:4", "in", "forward:"]
    assert why[-1] == "(1)"


LANGUAGE_MODEL = """
    import torch
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(16, 16, bias=False)
        def forward(self, x): return self.head(x)
    def build(batch_size, seq_len): return Net(), torch.ones(batch_size, seq_len, 16)
"""


@pytest.fixture
def language_model(project: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A builder in a `src/` layout."""
    name = f"lm_{project.root.name}"
    project.ini("pythonpath = src")
    project.write(f"src/{name}.py", LANGUAGE_MODEL)
    monkeypatch.chdir(project.root)
    return f"{name}:build"


def test_tokens_are_told_where_the_workload_knows_them(
    language_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--batch-size", "4", "--seq-len", "10", "--optimizer", "none"]
    lines = [" ".join(line) for line in told(capsys, language_model, *sizes)]
    # 2 x 40 x 256 forward, as many for the weight's gradient (the input needs none), and the sum of
    # 640 outputs for a loss: 41,600. By the rule 6 x 256 x 40 = 61,440.
    assert "per sample: 10.4 kFLOP" in lines
    assert "per token: 1.04 kFLOP" in lines
    assert (
        "6 x parameters x tokens: 61.44 kFLOP; forward and backward cost 0.677 times that" in lines
    )


def test_without_sizes_nothing_is_said_of_tokens(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not [line for line in told(capsys, target) if line[:1] in (["per"], ["6"])]


def test_a_builder_of_a_conftest_and_a_folder_of_the_ini_file_are_known(
    project: Any, language_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = language_model.partition(":")[0]
    project.write(
        "conftest.py",
        f"""
        def pytest_flops_register_builders():
            from {name} import build
            return {{"own-model": build}}
        """,
    )
    project.budget(
        "own",
        "limits: {total: 1 TFLOP}",
        "workload: {model: own-model, batch_size: 4, seq_len: 10}",
    )
    assert told(capsys, "own-model", "--batch-size", "4", "--seq-len", "10")
    assert told(capsys, "budgets/model.yaml")
    assert main(["explain", "budgets/model.yaml"]) == 0
    assert "forward = 528 * batch_size * seq_len" in capsys.readouterr().out.replace(" - 1", "")


def test_a_conftest_that_fails_is_told_as_pytest_tells_it(
    project: Any, language_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("conftest.py", "import no_such_module\n")
    assert main(["count", language_model]) == 2
    assert "No module named 'no_such_module'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "widht: 3"], "takes no keyword 'widht'; did you mean 'width'?"),
        (["--seq-len", "3"], "takes no keyword 'seq_len'; it takes batch_size, width"),
    ],
)
def test_a_keyword_that_the_builder_does_not_take_is_told_with_the_nearest(
    project: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    name = f"sized_{project.root.name}"
    project.write(
        f"{name}.py",
        """
        import torch
        def build(batch_size=1, width=2):
            return torch.nn.Linear(width, 2), torch.ones(batch_size, width)
        """,
    )
    monkeypatch.chdir(project.root)
    assert f"the builder '{name}:build' {words}" in refused(capsys, f"{name}:build", *arguments)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{}:biuld", "module '{}' has no attribute 'biuld'; did you mean 'build'?"),
        ("{}.py:build", "; write 'package.module:callable', as you import it, and not the file"),
        ("no_{}:build", "No module named 'no_{}'; is its folder on the path"),
    ],
)
def test_a_target_that_cannot_be_imported_is_told_with_what_can(
    project: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    words: str,
) -> None:
    name = f"there_{project.root.name}"
    project.write(f"{name}.py", "def build(): pass\n")
    monkeypatch.chdir(project.root)
    assert words.format(name) in refused(capsys, target.format(name))


def test_a_field_that_a_configuration_of_transformers_does_not_have_is_refused(
    project: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(project.root)
    told = refused(capsys, "transformers:GPT2Config", "--config", "n_layr: 2")
    assert "GPT2Config has no field 'n_layr'; did you mean 'n_layer'?" in told


def test_a_configuration_class_of_transformers_is_its_language_model(
    project: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(project.root)
    sizes = ["--batch-size", "2", "--seq-len", "8", "--optimizer", "none"]
    config = ["--config", "n_layer: 1, n_embd: 16, n_head: 2, vocab_size: 40, n_positions: 8"]
    lines = told(capsys, "transformers:GPT2Config", *sizes, *config, "--depth", "2")
    # The head: 2 x 16 tokens x 16 x 40, and twice that backward.
    row = next(line for line in lines if line[0] == "lm_head")
    assert row[2:5] == ["20,480", "40,960", "0"]
