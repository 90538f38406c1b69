"""What `torch.export` made: programs, by the modules that their operators belonged to; packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from pytest_flops import FLOPsCount, FLOPsMeter, count_flops

# To export and to decompose warns of PyTorch's own code; to count does not.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


class Block(nn.Module):
    """A residual block of width 8; `gate` is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor, *, scale: Tensor | None = None) -> Tensor:
        x = x + self.gate(self.gate(self.layer(x)))
        return x if scale is None else x * scale


def program(*, strict: bool = False) -> ExportedProgram:
    return export(nn.Sequential(Block(), nn.Linear(8, 2)), (torch.ones(4, 8),), strict=strict)


# 4 rows. Forward: a product of 2 * 4 * 8 * 8 and a bias of 32, two gates of 32, an addition of 32;
# then a product of 2 * 4 * 8 * 2 and a bias of 8; a sum of 8 for the loss.
LAYER, HEAD = 512 + 32, 128 + 8
FORWARD = {"0": LAYER + 64 + 32, "0.layer": LAYER, "0.gate": 64, "1": HEAD}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("decomposed", [False, True])
def test_a_program_counts_by_the_modules_that_it_was_made_from(
    strict: bool, decomposed: bool
) -> None:
    exported = program(strict=strict)
    if decomposed:
        exported = exported.run_decompositions()
    counted = count_flops(exported, torch.ones(4, 8), optimizer="none")
    assert {path: counted.components[path].forward for path in FORWARD} == FORWARD
    assert counted.count.forward == FORWARD["0"] + FORWARD["1"] + 8
    assert not counted.not_called
    eager = count_flops(nn.Sequential(Block(), nn.Linear(8, 2)), torch.ones(4, 8), optimizer="none")
    assert counted.count == eager.count
    assert counted.components == eager.components


def test_without_inputs_it_is_counted_with_those_that_it_was_exported_with() -> None:
    exported = export(Block(), (torch.ones(4, 8),), {"scale": torch.ones(8)})
    counted = count_flops(exported, training=False, metrics=["bytes"])
    assert counted.count.forward == FORWARD["0"] + 32
    of_gate = counted.metrics["bytes"].components["gate"]["forward"]
    assert of_gate == 2 * (128 + 128)  # two calls, each reads and writes 4 x 8 of 4 bytes
    larger = count_flops(exported, torch.ones(4, 8), scale=torch.ones(8), training=False)
    assert larger.count == counted.count


def test_its_graph_is_compiled_whole() -> None:
    """Inductor makes one kernel of all that is between the two products."""
    found = count_flops(
        program(), training=False, compile=True, metrics=["graph_breaks", "graphs", "kernels"]
    )
    assert {name: costs.whole["total"] for name, costs in found.metrics.items()} == {
        "graph_breaks": 0,
        "graphs": 1,
        "kernels": 1,
    }
    assert found.components["0"].forward == FORWARD["0"]


def test_a_program_that_lost_its_inputs_needs_some() -> None:
    exported = program()
    exported.example_inputs = None
    with pytest.raises(ValueError, match="has lost its example inputs; give some"):
        count_flops(exported)
    assert count_flops(exported, torch.ones(4, 8), training=False).count.forward == 640 + 136


class Net(nn.Module):
    """Features of a picture of 8 x 8, and a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(18, 4), nn.GELU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x)).softmax(-1)


PICTURES = torch.ones(4, 1, 8, 8)
# The convolution has 4 x 2 x 6 x 6 = 288 elements, each a product of 9 and a bias; its norm is 4 of
# each and the ReLU 1. 72 maxima are each of 4. Then the products with their biases, a GELU of 16,
# and the softmax of 8 elements: maximum, difference, exponential, sum and quotient.
OF_NET = {
    "features.0": 2 * 288 * 9 + 288,
    "features.1": 4 * 288,
    "features.2": 288,
    "features.3": 4 * 72,
    "head.1": 2 * 4 * 18 * 4 + 16,
    "head.2": 16,
    "head.3": 2 * 4 * 4 * 2 + 8,
}
SOFTMAX = 5 * 8


def exported_to_onnx(net: nn.Module) -> Any:
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs it")
    return torch.onnx.export(net, (PICTURES,), dynamo=True, verbose=False)


def held_by_onnx(net: nn.Module) -> Any:
    program = export(net, (PICTURES,)).run_decompositions()
    nothing: Any = None  # in the place of the graph of ONNX, which takes its packages
    return torch.onnx.ONNXProgram(nothing, program)


@pytest.mark.parametrize(
    "made",
    [
        held_by_onnx,
        pytest.param(exported_to_onnx, marks=pytest.mark.long),
        pytest.param(lambda net: exported_to_onnx(net).exported_program, marks=pytest.mark.long),
    ],
    ids=["held by onnx", "exported to onnx", "its program"],
)
def test_what_is_bound_for_onnx_counts_as_the_model_does(made: Any) -> None:
    net = Net().eval()
    counted = count_flops(made(net), training=False)
    assert {path: counted.components[path].forward for path in OF_NET} == OF_NET
    assert counted.count == FLOPsCount(forward=sum(OF_NET.values()) + SOFTMAX)
    assert not counted.uncounted
    eager = count_flops(net, PICTURES, training=False)
    assert counted.count == eager.count
    assert counted.components.keys() == eager.components.keys()


@pytest.mark.parametrize(
    ("no_model", "shown"),
    [
        ("model.onnx", "'model.onnx'"),
        (Path("model.pt2"), "'model.pt2'"),
        (lambda x: x, "function"),
        (nn.Linear, "type"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_model_is_told_what_would_be(no_model: Any, shown: str) -> None:
    told = f"what torch.onnx.export returns, not {shown}: a file has no graph of PyTorch's, so"
    with pytest.raises(ValueError, match=told):
        count_flops(no_model, PICTURES)


def test_the_program_is_left_as_it_was() -> None:
    exported = program()
    notes, graph = dict(exported.graph_module.meta), str(exported.graph)
    weights = {name: tensor.clone() for name, tensor in exported.state_dict.items()}
    count_flops(exported, compile=True, metrics=["graphs"])
    assert dict(exported.graph_module.meta) == notes
    assert str(exported.graph) == graph
    assert all(type(each) is nn.Parameter for each in exported.state_dict.values())
    assert all(torch.equal(weights[name], each) for name, each in exported.state_dict.items())


BUILDER = """\
import torch
from torch import nn

def program():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    return torch.export.export(model, (torch.ones(4, 8),))

def held_by_onnx():
    return torch.onnx.ONNXProgram(None, program())

def with_inputs(batch_size):
    sizes = ({0: torch.export.Dim("batch")},)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    exported = torch.export.export(model, (torch.ones(4, 8),), dynamic_shapes=sizes)
    return exported, torch.ones(batch_size, 8)
"""


def test_a_builder_may_return_a_program(project: Any) -> None:
    """4 rows: a product of 512 and a bias of 32, a ReLU of 32; the loss's sum is of 32."""
    project.ini("pythonpath = .")
    project.write("models.py", BUILDER)
    limits = "limits: {forward: 608 FLOP, components: {'0': {forward: 544}, '1': {forward: 32}}}"
    project.budget("step", "workload: {model: 'models:program', optimizer: none}", limits)
    project.run("budgets", "-W", "error").assert_outcomes(passed=1)
    project.budget("step", "workload: {model: 'models:held_by_onnx', optimizer: none}", limits)
    project.run("budgets").assert_outcomes(passed=1)
    project.budget("step", "workload: {model: 'models:program'}", limits.replace("544", "543"))
    project.fails("budgets", told=["*0 forward: 544 FLOP, limit 543*"])
    workload = "workload: {model: 'models:with_inputs', batch_size: 8}"
    project.budget("step", workload, limits)
    project.fails("budgets", told=["*forward: 1.216 kFLOP, limit 608 FLOP*"])


def test_a_check_of_a_program_says_what_to_do_instead(project: Any) -> None:
    project.write("models.py", BUILDER)
    project.marked(
        "forward='1 kFLOP'",
        """
        import models
        flops.check(models.program())
        """,
        "flops",
    )
    project.ini("pythonpath = .")
    project.fails(told=["*not ExportedProgram; to count another model*flops.measure()*"])


@pytest.mark.long
def test_a_package_of_compiled_code_is_uncounted(tmp_path: Path, project: Any) -> None:
    exported = program()
    path = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "a.pt2"))
    package: Any = torch._inductor.aoti_load_package(path)
    x = torch.ones(4, 8)
    with torch.no_grad(), FLOPsMeter() as meter:
        x + x
        package(x)
    assert meter.count == FLOPsCount(forward=32)
    assert meter.uncounted == {"aotinductor.package": 1}
    with pytest.raises(ValueError, match="count the exported program that it was made from"):
        count_flops(package, x)
    load = f"torch._inductor.aoti_load_package({str(path)!r})"
    project.write("models.py", f"import torch\ndef package(): return {load}\n")
    project.ini("pythonpath = .")
    project.budget("step", "workload: {model: 'models:package'}", "limits: {total: 1 GFLOP}")
    project.fails("budgets", told=["*a package of AOTInductor is compiled code, *"])
