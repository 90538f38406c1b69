"""`values="real"`: a step that asks for values runs, on a copy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_flops import count_flops

ROWS, WIDTH = 4, 8


class Asking(nn.Module):
    """A product for each row, twice if the input says so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        y = self.layer(x)
        return self.layer(y) if x.sum() > 0 else y


PRODUCT = 2 * ROWS * WIDTH * WIDTH


@pytest.mark.parametrize(("value", "products"), [(1.0, 2), (-1.0, 1)])
def test_the_branch_that_the_values_choose_is_counted(value: float, products: int) -> None:
    found = count_flops(Asking(), torch.full((ROWS, WIDTH), value), values="real")
    assert found.operations["aten.mm"].forward == products * PRODUCT


def test_the_model_and_the_random_state_are_as_they_were() -> None:
    model, x = Asking(), torch.ones(ROWS, WIDTH)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    count_flops(model, x, values="real", metrics=["peak_memory"])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


class Holding(nn.Module):
    """A forward that holds its module, as a function that `torch.compile` has made of it does."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False)
        self.register_buffer("calls", torch.zeros(()))
        self.run = {
            "a function": lambda x: self.product(x) * 1,
            "a compiled function": torch.compile(lambda x: self.product(x) * 1, backend="eager"),
            "a compiled method": torch.compile(self.product, backend="eager"),
        }[how]

    def product(self, x: Tensor) -> Any:
        self.calls += 1
        return self.layer(x)

    def forward(self, x: Tensor) -> Any:
        return self.run(x)


@pytest.mark.parametrize("how", ["a function", "a compiled function", "a compiled method"])
def test_a_function_that_holds_its_module_runs_on_copies_too(how: str) -> None:
    model, x = Holding(how), torch.ones(ROWS, WIDTH)
    weight = model.layer.weight.clone()
    count = count_flops(model, x, optimizer="sgd", values="real").count
    scaled = 0 if how == "a compiled method" else ROWS * WIDTH
    assert (count.backward, count.optimizer) == (PRODUCT + scaled, 2 * WIDTH * WIDTH)
    assert model.layer.weight.grad is None
    assert torch.equal(model.layer.weight, weight)
    assert not model.get_buffer("calls")


NOTED: list[Tensor] = []


def test_closures_hold_the_same_tensors_afterwards_and_parameters_their_marks() -> None:
    model, scale, marks = nn.Linear(WIDTH, WIDTH), torch.ones(()), []
    vars(model.weight)["slow"] = True

    def loss(y: Tensor) -> Tensor:
        NOTED.append(scale)  # a copy, of which nothing may be left
        return (y * scale).sum()

    def optimizer(parameters: Any) -> Any:
        marks[:] = [getattr(each, "slow", False) for each in parameters]
        return torch.optim.SGD(model.parameters())

    count_flops(model, torch.ones(ROWS, WIDTH), loss=loss, optimizer=optimizer, values="real")
    assert loss.__closure__ is not None
    assert loss.__closure__[0].cell_contents is scale
    assert NOTED == []
    assert marks == [True, False]


def test_fakes_and_real_values_count_the_same_where_no_value_decides() -> None:
    model, x = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout()), torch.ones(ROWS, WIDTH)
    assert count_flops(model, x) == count_flops(model, x, values="real")


@pytest.mark.parametrize(
    ("given", "words"),
    [({"values": "true"}, "'fake' or 'real', not 'true'"), ({"values": "real"}, "meta device")],
)
def test_what_cannot_run_is_refused(given: dict[str, Any], words: str) -> None:
    with torch.device("meta"):
        model = Asking()
    with pytest.raises(ValueError, match=words):
        count_flops(model, torch.ones(ROWS, WIDTH), **given)


def test_a_workload_says_that_its_step_runs(project: Any) -> None:
    project.ini("pythonpath = .")
    project.write(
        "builders.py",
        """
        import torch
        class Net(torch.nn.Linear):
            def forward(self, x): return super().forward(x) if x.sum() > 0 else x
        def build(batch_size): return Net(8, 8, bias=False), torch.ones(batch_size, 8)
        """,
    )
    workload = "{{model: 'builders:build', batch_size: 4, optimizer: none{values}}}"
    budget = "version: 1\nbudgets:\n  net: {{workload: {}, limits: {{total: {} FLOP}}}}\n"
    # The product forward and for the gradient of the weight; the sums of the input and of the loss.
    most = 2 * PRODUCT + 2 * ROWS * WIDTH
    project.budgets(budget.format(workload.format(values=""), most))
    project.fails("budgets", told=['*values="real"*'])
    for limit, red in ((most, 0), (most - 1, 1)):
        project.budgets(budget.format(workload.format(values=", values: real"), limit))
        assert project.run("budgets").ret == red
