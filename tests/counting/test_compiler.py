"""Graph breaks, recompiles and graphs, as the compiler reports them; and what it leaves behind."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.compiler import CompilerEvents
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import METRICS

NAMES = ("graph_breaks", "recompiles", "graphs")
ASKED = [METRICS[name] for name in NAMES]
X = torch.ones(4)


@pytest.fixture(autouse=True)
def _in_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)


def compiled(function: Callable[..., Any], *calls: Tensor, **keywords: Any) -> CompilerEvents:
    run = torch.compile(function, **{"backend": "eager", **keywords})
    with CompilerEvents(ASKED) as events:
        for x in calls or (X,):
            run(x)
    return events


def found(events: CompilerEvents) -> Measurement:
    with FLOPsMeter() as meter:
        pass
    return events.added_to(meter.measurement())


def totals(measurement: Measurement) -> list[int]:
    return [measurement.of(f"{name} total") for name in NAMES]


def line_of(function: Callable[..., Any], after: int) -> str:
    """The line that stands so many lines after a function's `def`, told from this folder."""
    return f"{Path(__file__).name}:{function.__code__.co_firstlineno + after}"


def clean(x: Tensor) -> Tensor:
    return x + 1


def prints(x: Tensor) -> Tensor:
    x = x + 1
    print(end="")
    return x + 1


def calls_what_prints(x: Tensor) -> Tensor:
    return prints(x) + 1


def branches_on_an_item(x: Tensor) -> Tensor:
    if x.sum().item() > 0:
        x = x * 2
    return x + 1


def branches_on_a_tensor(x: Tensor) -> Tensor:
    y = x * 2
    if x.sum() > 0:
        y = y + 1
    return y - 1


def calls_what_nobody_can_trace(x: Tensor) -> Tensor:
    x = x + 1
    sys.getrefcount(x)
    return x + 1


def breaks_in_a_loop(x: Tensor) -> Tensor:
    for _ in range(3):
        x = x + 1
        print(end="")
    return x


@pytest.mark.parametrize(
    ("function", "breaks", "graphs", "after", "why"),
    [
        (prints, 1, 2, 2, "Dynamo does not know how to trace builtin operator `print`"),
        (branches_on_an_item, 1, 2, 1, "Dynamo does not support tracing `Tensor.item()`"),
        # The compiler's own counter has no break of these two.
        (branches_on_a_tensor, 1, 2, 2, "Detected data-dependent branching"),
        (breaks_in_a_loop, 1, 0, 3, "Dynamo does not know how to trace builtin operator `print`"),
        (calls_what_nobody_can_trace, 1, 2, 2, "Dynamo does not know how to trace the builtin"),
    ],
)
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace the builtin:UserWarning")
def test_a_graph_break_is_told_by_the_line_that_it_is_in(
    function: Callable[..., Any], breaks: int, graphs: int, after: int, why: str
) -> None:
    measurement = found(compiled(function))
    assert totals(measurement) == [breaks, 0, graphs]
    (told,) = measurement.lines["graph_breaks"]
    assert told.startswith(f"{line_of(function, after)} in {function.__name__}: {why}")


def test_a_break_in_an_inlined_function_breaks_both_functions() -> None:
    """The outer function has nothing to compile before the call; the inner one has two graphs."""
    measurement = found(compiled(calls_what_prints))
    assert totals(measurement) == [2, 0, 3]
    ((told, times),) = measurement.lines["graph_breaks"].items()
    assert (told.partition(":")[2].partition(":")[0], times) == (
        f"{line_of(prints, 2).partition(':')[2]} in prints",
        2,
    )


def test_a_break_inside_a_library_is_told_by_the_line_that_calls_it() -> None:
    def logs(x: Tensor) -> Tensor:
        logging.getLogger("here").debug("")
        return x + 1

    told = [*found(compiled(logs)).lines["graph_breaks"]]
    assert told
    assert all(line.startswith(f"{line_of(logs, 1)} in logs") for line in told)
    assert ", inside " in told[0]


def test_clean_code_is_one_graph() -> None:
    measurement = found(compiled(clean, X, X))
    assert totals(measurement) == [0, 0, 1]
    call = f"called at {line_of(compiled, 4)}"
    assert [*measurement.lines["graphs"]] == [f"{line_of(clean, 0)} in clean, {call}"]
    version = torch.__version__.partition("+")[0]
    assert [measurement.metrics[name].details for name in NAMES] == [{"torch": version}] * 3


def test_a_second_function_is_a_second_graph() -> None:
    with CompilerEvents(ASKED) as events:
        for function in (clean, lambda x: x * 2):
            torch.compile(function, backend="eager")(X)
    assert totals(found(events)) == [0, 0, 2]


def test_a_recompile_is_told_by_the_call_and_the_guard() -> None:
    measurement = found(compiled(clean, torch.ones(4), torch.ones(5), dynamic=False))
    assert totals(measurement) == [0, 1, 2]
    (told,) = measurement.lines["recompiles"]
    assert told == (
        f"{line_of(clean, 0)} in clean, called at {line_of(compiled, 4)}: "
        "tensor 'x' size mismatch at index 0. expected 4, actual 5"
    )


def test_an_earlier_process_of_the_job_changes_no_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The compiler keeps for a job which sizes change, and would not compile for the first one."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with torch.compiler.config.patch(job_id="test"):
        for _ in range(2):
            measurement = found(compiled(clean, torch.ones(4), torch.ones(5)))
            assert totals(measurement) == [0, 1, 2]
    assert not [*tmp_path.iterdir()]


def test_what_the_compiler_gives_up_is_a_break() -> None:
    """It compiles a function 8 times, and leaves it alone when that is not enough."""
    assert torch._dynamo.config.recompile_limit == 8
    measurement = found(compiled(clean, *(torch.ones(2 + n) for n in range(12)), dynamic=False))
    assert totals(measurement) == [1, 8, 8]
    (told,) = measurement.lines["graph_breaks"]
    assert told.startswith(f"{line_of(clean, 0)} in clean, called at ")
    assert ", which runs uncompiled: " in told
    assert "exceeding the recompile_limit" in told


def test_an_error_that_is_suppressed_is_a_break() -> None:
    def broken(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("out of order")

    with torch._dynamo.config.patch(suppress_errors=True):
        measurement = found(compiled(clean, backend=broken))
    assert [*measurement.metrics] == ["graph_breaks"]  # no graph, so the others say nothing
    (told,) = measurement.lines["graph_breaks"]
    assert told.startswith(f"{line_of(clean, 0)} in clean, called at ")
    assert ", which runs uncompiled: " in told
    assert "out of order" in told


def test_the_same_again_is_the_same() -> None:
    first, second = (found(compiled(calls_what_prints, X, torch.ones(5))) for _ in "12")
    assert first.metrics == second.metrics
    assert first.lines == second.lines


def test_nothing_compiled_is_nothing_found() -> None:
    with CompilerEvents(ASKED) as events:
        clean(X)
    assert not found(events).metrics


def test_logging_may_be_disabled() -> None:
    logging.disable(logging.CRITICAL)
    try:
        assert totals(found(compiled(prints))) == [1, 0, 2]
    finally:
        logging.disable(logging.NOTSET)


def test_the_compiler_is_left_as_it_was() -> None:
    trace = logging.getLogger("torch.__trace")
    compiled(clean)  # PyTorch's own handler leaves with the first record
    ran: list[int] = []
    torch._dynamo.callback.on_compile_start(begun := lambda _: ran.append(1))
    counters.clear()
    config = torch._dynamo.config.save_config()
    before = [*trace.handlers], {**vars(trace)}
    random = torch.random.get_rng_state()
    compiled(lambda x: x + torch.rand(4))
    assert torch.equal(torch.random.get_rng_state(), random)
    compiled(prints, X, torch.ones(5))
    assert ([*trace.handlers], {**vars(trace)}) == before
    assert torch._dynamo.config.save_config() == config
    assert counters["stats"]["unique_graphs"] == 5  # it counts on, as for any code
    compiled(clean)
    torch._dynamo.callback.callback_handler.remove_start_callback(begun)
    assert len(ran) > 4
    graphs = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    torch.compile(clean, backend=backend)(X)
    assert len(graphs) == 1


class Net(nn.Module):
    """Two layers, a line between them, and what changes from call to call."""

    def __init__(self, between: str = "") -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)
        self.between, self.calls = between, 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.between == "break":
            print(end="")
        if self.between == "attribute":
            self.calls += 1
            x = x * self.calls
        out: Tensor = self.second(x)
        return out


STEP = torch.ones(3, 4)


def step(model: nn.Module, compile_: bool | Mapping[str, Any] = True, **keywords: Any) -> Any:
    return count_flops(model, STEP, metrics=NAMES, compile=compile_, **keywords)


@pytest.mark.parametrize("values", ["fake", "real"])
@pytest.mark.parametrize(
    ("between", "expected"),
    # An integer of a module is a guard: the second step compiles again, for any number.
    [("", [0, 0, 1]), ("break", [1, 0, 2]), ("attribute", [0, 1, 2])],
)
def test_a_step_is_compiled_and_run_twice(between: str, expected: list[int], values: str) -> None:
    measurement = step(Net(between), values=values)
    assert totals(measurement) == expected
    assert "of another run, which took" in measurement.assumptions[-1]


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # as Inductor is imported
@pytest.mark.parametrize("values", ["fake", "real"])
@pytest.mark.parametrize("compile_it", [torch.compile, compiled_in_place])
def test_a_model_that_its_author_compiles_for_inductor_builds_nothing(
    compile_it: Callable[[nn.Module], nn.Module], values: str
) -> None:
    """A break between two layers. What Inductor builds would end the process on fake tensors."""

    class Broken(nn.Sequential):
        def forward(self, x: Tensor) -> Any:
            between = self[0](x)
            torch._dynamo.graph_break()
            return self[1](between)

    model = compile_it(Broken(nn.Linear(4, 4), nn.Linear(4, 4)))
    step = count_flops(model, X, metrics=NAMES, values=values)
    assert totals(step) == [1, 0, 2]
    assert step.count.forward == 2 * (2 * 4 * 4 + 4) + 4  # the bias of each, and the loss


def test_the_other_metrics_are_those_of_the_uncompiled_step() -> None:
    model = Net()
    metrics = ["bytes", "peak_memory", "launches"]
    plain = count_flops(model, STEP, metrics=metrics)
    measurement = count_flops(model, STEP, metrics=[*metrics, *NAMES], compile=True)
    assert measurement.count == plain.count
    assert measurement.components == plain.components
    assert {name: measurement.metrics[name] for name in metrics} == plain.metrics
    assert all(type(each) is nn.Parameter for each in model.parameters())
    assert all(each.grad is None for each in model.parameters())


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def its_forward(model: nn.Module) -> nn.Module:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


@pytest.mark.parametrize(
    "compiling",
    [
        lambda model: torch.compile(model, backend="eager"),
        in_place,
        its_forward,
        lambda model: nn.Sequential(in_place(model)),
        lambda model: deepcopy(torch.compile(model, backend="eager")),
    ],
    ids=["wrapped", "in place", "its forward", "a part in place", "a copy of the wrapper"],
)
@pytest.mark.parametrize("values", ["fake", "real"])
@pytest.mark.parametrize("training", [True, False])
def test_a_model_may_come_compiled(compiling: Any, values: Any, training: bool) -> None:
    plain = count_flops(Net("break"), STEP, training=training)
    model = compiling(Net("break"))
    measurement = step(model, compile_=False, values=values, training=training)
    assert totals(measurement) == [1, 0, 2]
    assert measurement.count == plain.count
    assert all(each.grad is None for each in model.parameters())


def test_a_compiled_model_is_not_compiled_once_more() -> None:
    model = torch.compile(Net("break"), backend="eager")
    assert totals(step(model, {"fullgraph": True})) == [1, 0, 2]


def test_a_model_that_nobody_compiles_has_none_of_them() -> None:
    assert not step(Net(), compile_=False).metrics


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_keywords_are_those_of_the_compiler(backend: str) -> None:
    assert totals(step(Net(), {"backend": backend, "dynamic": True})) == [0, 0, 1]
    with pytest.raises(torch._dynamo.exc.Unsupported, match="print"):
        step(Net("break"), {"backend": backend, "fullgraph": True})


def test_a_mode_of_inductors_is_not_for_the_backend_that_has_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert totals(step(Net(), {"mode": "max-autotune"})) == [0, 0, 1]
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_meter_refuses_them() -> None:
    with pytest.raises(ValueError, match="does not count graph_breaks, graphs: what is compiled"):
        FLOPsMeter(metrics=["graph_breaks", "launches", "graphs"])


def test_who_does_not_ask_does_not_import_the_compiler() -> None:
    program = """
import sys, torch
from pytest_flops import FLOPsMeter, count_flops
model, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
with FLOPsMeter(metrics=["launches"]):
    model(x).sum().backward()
assert "torch._dynamo" not in sys.modules
count_flops(model, x, metrics=["launches"], compile=True)
assert "pytest_flops.counting.compiler" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


@pytest.mark.parametrize("values", ["fake", "real"])
def test_the_model_is_left_as_it_was(values: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    before = [{*vars(part)} for part in model.modules()]
    count_flops(model, X, compile=True, values=values, metrics=NAMES)
    assert [{*vars(part)} for part in model.modules()] == before
