"""What Inductor fuses: its kernels, and the bytes that they move, by hand arithmetic."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.compiler import CompilerEvents
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import METRICS, OF_INDUCTOR

ROWS, COLUMNS = 64, 32
N = 4 * ROWS * COLUMNS  # bytes of a matrix in float32
WEIGHT = 4 * COLUMNS * COLUMNS


def compiled(function: Callable[..., Tensor], training: bool, backend: str) -> CompilerEvents:
    x, w = torch.randn(ROWS, COLUMNS, requires_grad=training), torch.randn(COLUMNS, COLUMNS)
    with CompilerEvents([METRICS[name] for name in OF_INDUCTOR]) as events:
        out = torch.compile(function, backend=backend)(x, w)
        if training:
            out.backward(torch.ones_like(out))
        with torch.no_grad():
            torch.testing.assert_close(out, function(x, w))
    return events


def found(
    function: Callable[..., Tensor], *, training: bool = False, backend: str = "inductor"
) -> Measurement:
    with FLOPsMeter() as meter:
        pass
    return compiled(function, training, backend).added_to(meter.measurement())


def figures(function: Callable[..., Tensor], **how: Any) -> tuple[int, int]:
    measurement = found(function, **how)
    kernels, moved = (measurement.of(f"{name} total") for name in OF_INDUCTOR)
    return kernels, moved


def fused(x: Tensor, _: Tensor) -> Tensor:
    return (x + 1).relu() * 2


def two_graphs(x: Tensor, _: Tensor) -> Tensor:
    x = x.sin() + 1
    print(end="")
    return x.cos() + 1


def broken(x: Tensor, _: Tensor) -> Tensor:
    x = (x + 1).relu()
    print(end="")
    return x * 2


@torch.library.custom_op("test_inductor::opaque", mutates_args=())
def opaque(x: Tensor) -> Tensor:
    return x.clone()


@opaque.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.compiler.nested_compile_region
def region(x: Tensor, w: Tensor) -> Tensor:
    return (x + 1).relu() @ w


@pytest.mark.parametrize(
    ("function", "kernels", "moved"),
    [
        (fused, 1, 2 * N),
        (lambda x, _: (x + x.sin()).relu(), 1, 2 * N),  # `x` is read once
        (lambda x, _: x.softmax(-1), 1, 2 * N),
        (lambda x, w: x @ w, 0, 2 * N + WEIGHT),  # a library's kernel
        # A chain, the product, another chain.
        (lambda x, w: ((x + 1).relu() @ w).sigmoid() * 2, 2, 2 * N + (2 * N + WEIGHT) + 2 * N),
        (broken, 2, 4 * N),
        (lambda x, _: opaque((x + 1).relu()) * 2, 2, 2 * N + 2 * N + 2 * N),
        # A region is compiled once and called twice.
        (lambda x, w: region(region(x, w), w).sin(), 3, 2 * (2 * N + (2 * N + WEIGHT)) + 2 * N),
    ],
    ids=["fused", "once", "reduced", "product", "chains", "broken", "opaque", "regions"],
)
def test_what_is_fused_is_one_kernel_which_reads_and_writes_once(
    function: Callable[..., Tensor], kernels: int, moved: int
) -> None:
    assert figures(function) == (kernels, moved)


def test_a_backward_is_of_other_kernels() -> None:
    """It reads the gradient and `x`, and writes one; the forward reads `x` and writes."""
    assert figures(lambda x, _: x.sin() * 2, training=True) == (2, 2 * N + 3 * N)


def test_a_kernel_is_told_by_the_lines_that_it_is_fused_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    first = broken.__code__.co_firstlineno + 1
    lines = found(broken).lines
    assert lines["kernels"] == {f"test_inductor.py:{first + after}": 1 for after in (0, 2)}
    assert lines["fused_bytes"] == {f"test_inductor.py:{first + after}": 2 * N for after in (0, 2)}


def test_another_backend_has_neither() -> None:
    assert not found(fused, backend="eager").metrics


def test_a_graph_that_cannot_be_lowered_leaves_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs uncompiled, and its kernels are not those of the other graph alone."""

    def fails(*_: object) -> None:
        raise ValueError("no cosine here")

    lowering = import_module("torch._inductor.lowering")
    monkeypatch.setitem(lowering.lowerings, torch.ops.aten.cos.default, fails)
    with torch._dynamo.config.patch(suppress_errors=True):
        measurement = found(two_graphs)
    assert not any(measurement.counts(f"{name} total") for name in OF_INDUCTOR)
    assert "no cosine here" in str(measurement.lines_of("graph_breaks"))


@pytest.fixture
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process is started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.mark.usefixtures("_no_processes")
def test_no_compiler_runs_and_no_cache_hides_a_graph() -> None:
    assert figures(fused) == figures(fused) == (1, 2 * N)


class Products(torch.nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.bmm(x, y).relu()


@pytest.mark.usefixtures("_no_processes")
@pytest.mark.parametrize("mode", ["default", "max-autotune", "max-autotune-no-cudagraphs"])
def test_no_kernel_is_timed_in_any_mode(mode: str) -> None:
    """A library's product reads two operands and writes one; the ReLU reads and writes."""
    x = torch.ones(8, 64, 64)
    found = count_flops(
        Products(), x, x + 1, training=False, metrics=OF_INDUCTOR, compile={"mode": mode}
    )
    figures = [found.of(f"{name} total") for name in OF_INDUCTOR]
    assert figures == [1, 5 * x.untyped_storage().nbytes()]


@pytest.mark.parametrize("switched_on", ["by the environment", "by the code"])
def test_what_is_not_built_comes_into_no_cache(
    switched_on: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A later process would take it for code, and could not run it."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    options = {"fx_graph_cache": True}
    if switched_on == "by the environment":  # which is read once, at the import
        settings = import_module("torch._inductor.config")._config
        monkeypatch.setattr(settings["fx_graph_cache"], "env_value_force", True)
        options = {}

    def told() -> int:
        with FLOPsMeter() as meter:
            pass
        x, w = torch.ones(ROWS, COLUMNS), torch.ones(COLUMNS, COLUMNS)
        with CompilerEvents([METRICS[name] for name in OF_INDUCTOR]) as events:
            torch.compile(fused, options=options)(x, w)
        return events.added_to(meter.measurement()).of("kernels total")

    assert told() == told() == 1
    assert not [*tmp_path.iterdir()]


def test_the_machine_decides_nothing() -> None:
    """With several threads, Inductor would leave a scatter to a library."""

    def scatters(x: Tensor, _: Tensor) -> Tensor:
        rows = torch.zeros(ROWS, COLUMNS, dtype=torch.int64)
        return torch.zeros_like(x).scatter_add(0, rows, x + 1)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = figures(scatters)
        torch.set_num_threads(8)
        assert figures(scatters) == alone
    finally:
        torch.set_num_threads(threads)


def test_inductor_is_left_as_it_was() -> None:
    figures(fused)
    configs = torch._inductor.config, torch._functorch.config
    build = torch._inductor.graph.GraphLowering.compile_to_module
    before = [config.save_config() for config in configs]
    figures(fused)
    assert before == [config.save_config() for config in configs]
    assert torch._inductor.graph.GraphLowering.compile_to_module is build


def test_a_step_is_compiled_by_inductor_unless_it_says_by_what() -> None:
    """2 layers of 4 rows, 8 wide: a kernel for the activation, and some in backward."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
    step = [
        count_flops(
            model, torch.ones(4, 8), training=False, metrics=[*OF_INDUCTOR, "graphs"], compile=how
        )
        for how in (True, {"backend": "eager"})
    ]
    assert [each.of("graphs total") for each in step] == [1, 1]
    assert step[0].of("kernels total") == 1
    assert OF_INDUCTOR[0] not in step[1].metrics


@pytest.mark.parametrize("missing", ["compile_to_module", "_update_scheduler"])
def test_what_another_version_does_not_tell_is_an_error(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = logging.getLogger("torch.__trace")
    figures(fused)
    before = [*trace.handlers], {**vars(trace)}
    monkeypatch.delattr(torch._inductor.graph.GraphLowering, missing)
    with pytest.raises(Exception, match="fused_bytes cannot be counted with torch 2") as raised:
        figures(fused)
    assert missing in str(raised.value)
    assert ([*trace.handlers], {**vars(trace)}) == before
