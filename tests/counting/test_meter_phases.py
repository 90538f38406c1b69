"""Phases and attribution: which phase and which module every operator is charged to."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.checkpoint import checkpoint

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter.meter import FLOPsMeter

OUTSIDE = "(outside modules)"


def linear(rows: int, i: int, o: int) -> int:
    """A Linear layer's forward: the product and its bias."""
    return 2 * rows * i * o + rows * o


def weight_gradient(rows: int, i: int, o: int) -> int:
    """Its backward when the input needs no gradient: one product, and the bias's sum."""
    return 2 * rows * i * o + rows * o


def both_gradients(rows: int, i: int, o: int) -> int:
    return 2 * (2 * rows * i * o) + rows * o


def backward(out: torch.Tensor) -> None:
    """Backward without a loss, which would cost something itself."""
    out.backward(torch.ones_like(out))


def test_every_phase_is_charged_to_the_module_it_belongs_to():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with FLOPsMeter() as meter:
        loss = model(torch.ones(3, 4)).sum()
        loss.backward()
        optimizer.step()
    assert meter.components == {
        "0": FLOPsCount(linear(3, 4, 8), weight_gradient(3, 4, 8), 2 * (4 * 8 + 8)),
        "1": FLOPsCount(3 * 8, 3 * 8, 0),
        "2": FLOPsCount(linear(3, 8, 2), both_gradients(3, 8, 2), 2 * (8 * 2 + 2)),
        OUTSIDE: FLOPsCount(forward=3 * 2),
    }
    total = FLOPsCount()
    for cost in meter.components.values():
        total += cost
    assert meter.count == total


def test_components_are_a_tree_in_which_parents_contain_their_children():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

        def forward(self, x):
            return self.inner(x) * 2

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            return self.block(x) + 1

    with FLOPsMeter() as meter:
        Model()(torch.ones(3, 4))
    one = linear(3, 4, 4)
    forwards = {path: cost.forward for path, cost in meter.components.items()}
    assert forwards == {
        "block": 2 * one + 12,
        "block.inner": 2 * one,
        "block.inner.0": one,
        "block.inner.1": one,
        OUTSIDE: 0,
    }
    assert meter.count.forward == 2 * one + 12 + 12


def test_two_parallel_first_layers_keep_their_own_gradients():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Linear(4, 2), nn.Linear(4, 16)

        def forward(self, x):
            return self.narrow(x).sum() + self.wide(x).sum()

    with FLOPsMeter() as meter:
        Parallel()(torch.ones(3, 4)).backward()
    assert meter.components["narrow"].backward == weight_gradient(3, 4, 2)
    assert meter.components["wide"].backward == weight_gradient(3, 4, 16)


def test_a_shared_module_is_charged_for_every_call_under_its_first_path():
    layer = nn.Linear(4, 4)
    with FLOPsMeter() as meter:
        backward(nn.Sequential(layer, nn.ReLU(), layer)(torch.ones(3, 4)))
    # two calls; one of them with a gradient for its input; weight and bias are added up
    assert meter.components["0"] == FLOPsCount(
        2 * linear(3, 4, 4), weight_gradient(3, 4, 4) + both_gradients(3, 4, 4) + 16 + 4
    )
    assert "2" not in meter.components


def test_a_module_called_twice_is_charged_twice():
    layer = nn.Linear(4, 4)
    holder = nn.ModuleDict({"layer": layer})
    holder.forward = lambda x: layer(layer(x))
    with FLOPsMeter() as meter:
        holder(torch.ones(3, 4))
    assert meter.components["layer"].forward == 2 * linear(3, 4, 4)


def test_a_custom_function_is_charged_to_the_module_that_applies_it():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3 * x * x

    class Cubing(nn.Module):
        def forward(self, x):
            return Cube.apply(x)

    with FLOPsMeter() as meter:
        backward(nn.Sequential(nn.Linear(4, 4), Cubing())(torch.ones(3, 4)))
    assert meter.components["1"] == FLOPsCount(2 * 12, 3 * 12)
    assert meter.components["0"].backward == weight_gradient(3, 4, 4)


def test_accumulated_gradients_are_charged_to_the_parameters_module():
    model = nn.Sequential(nn.Linear(4, 2))
    with FLOPsMeter() as meter:
        for _ in range(3):
            backward(model(torch.ones(3, 4)))
    # the second and third pass add to the gradients of 4*2 weights and 2 biases
    assert meter.components["0"].backward == 3 * weight_gradient(3, 4, 2) + 2 * (8 + 2)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("as_module", [False, True])
def test_recomputation_counts_as_backward_and_is_shown_apart(reentrant, as_module):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            run = self.body if as_module else (lambda y: torch.tanh(y) * 2)
            return self.head(checkpoint(run, x, use_reentrant=reentrant))

    model, x = Checkpointed(), torch.ones(3, 4, requires_grad=True)
    with FLOPsMeter() as meter:
        backward(model(x))
    model.zero_grad()
    x.grad = None
    with FLOPsMeter() as plain:
        body = model.body(x) if as_module else torch.tanh(x) * 2
        backward(model.head(body))
    if as_module:
        # the last addmm need not be repeated: nothing saved it, and non-reentrant stops early
        products = linear(3, 4, 8) + 3 * 8
        repeated = products + linear(3, 8, 4) if reentrant else products
    else:
        repeated = 2 * 12 if reentrant else 12
    assert meter.recomputed == repeated
    assert meter.count.backward == plain.count.backward + repeated
    assert meter.count.forward == plain.count.forward
    head = FLOPsCount(linear(3, 4, 2), both_gradients(3, 4, 2))
    assert meter.components["head"] == head
    if as_module:
        assert meter.components["body.0"].backward == both_gradients(3, 4, 8) + linear(3, 4, 8)


def test_nothing_is_recomputed_without_checkpointing():
    model = nn.Linear(4, 1)
    x = torch.ones(3, 4, requires_grad=True)
    with FLOPsMeter() as meter:
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
    assert meter.recomputed == 0


@pytest.mark.parametrize("form", ["foreach", "fused", "for-loop"])
@pytest.mark.parametrize(
    ("optimizer", "per_parameter", "per_tensor"),
    [
        # moments 3 + (1 + 3), denominator 3, update 3; decay by one multiplication; its counter
        (torch.optim.AdamW, 14, 1),
        (torch.optim.Adam, 13, 1),
        (torch.optim.SGD, 2, 0),
    ],
)
def test_an_optimizer_costs_the_same_in_each_of_its_forms(
    form, optimizer, per_parameter, per_tensor
):
    switches = {
        "foreach": {"foreach": True},
        "fused": {"fused": True},
        "for-loop": {"foreach": False},
    }
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2, bias=False))
    steps = optimizer(model.parameters(), lr=0.1, **switches[form])
    backward(model(torch.ones(3, 4)))
    model(torch.ones(3, 4))
    for _ in range(2):  # the first step makes the states, the second finds them
        with FLOPsMeter() as meter:
            model(torch.ones(3, 4))
            steps.step()
        assert not meter.uncounted
        assert {path: cost.optimizer for path, cost in meter.components.items()} == {
            "0": per_parameter * (32 + 8) + 2 * per_tensor,
            "1": per_parameter * 16 + per_tensor,
            OUTSIDE: 0,
        }


def test_momentum_and_decay_are_counted_alike_in_each_form():
    costs = set()
    for switches in ({"foreach": True}, {"fused": True}, {"foreach": False}):
        parameter = nn.Parameter(torch.ones(5))
        optimizer = torch.optim.SGD(
            [parameter], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, **switches
        )
        parameter.grad = torch.ones(5)
        optimizer.step()
        with FLOPsMeter() as meter:
            optimizer.step()
        costs.add(meter.count.optimizer)
    # decay 2, momentum 1 + 1, Nesterov 2, update 2
    assert costs == {5 * (2 + 2 + 2 + 2)}


def test_an_optimizer_that_works_on_data_and_gradients_finds_their_modules():
    class OldFashioned(torch.optim.Optimizer):
        def step(self):
            for group in self.param_groups:
                for parameter in group["params"]:
                    gradient = parameter.grad.data.neg()
                    parameter.data.add_(gradient * 0.1)

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = OldFashioned(model.parameters(), {})
    backward(model(torch.ones(3, 4)))
    with FLOPsMeter() as meter:
        model(torch.ones(3, 4))
        optimizer.step()
    assert meter.components["0"].optimizer == 3 * 20
    assert meter.components["1"].optimizer == 3 * 10


def test_each_of_several_optimizers_is_charged_to_its_own_modules():
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 2)])
    model.forward = lambda x: model[1](model[0](x))
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.AdamW(model[1].parameters())
    with FLOPsMeter() as meter:
        backward(model(torch.ones(3, 4)))
        second.step()
        first.step()
    assert meter.components["0"].optimizer == 2 * 20
    assert meter.components["1"].optimizer == 14 * 10 + 2


def test_an_update_belongs_to_a_module_first_called_in_the_steps_closure():
    model = nn.Sequential(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure():
        loss = model(torch.ones(3, 4)).sum()
        loss.backward()
        return loss

    with FLOPsMeter() as meter:
        optimizer.step(closure)
    assert meter.components["0"].optimizer == 2 * (4 * 2 + 2)


def test_the_closure_of_a_step_is_forward_and_backward():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).sum()
        loss.backward()
        return loss

    with FLOPsMeter() as meter:
        optimizer.step(closure)
    assert meter.count == FLOPsCount(linear(3, 4, 1) + 3, weight_gradient(3, 4, 1), 2 * 5)


def test_a_step_that_raises_does_not_leave_the_optimizer_phase_behind():
    model = nn.Sequential(nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure():
        raise KeyError("no data")

    with FLOPsMeter() as meter:
        with pytest.raises(KeyError):
            optimizer.step(closure)
        model(torch.ones(3, 4))
    assert meter.count == FLOPsCount(linear(3, 4, 1))


def test_clipping_and_the_loss_are_outside_modules():
    model = nn.Sequential(nn.Linear(4, 2))
    with FLOPsMeter() as meter:
        nn.functional.mse_loss(model(torch.ones(3, 4)), torch.ones(3, 2)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    outside = meter.components[OUTSIDE]
    # the loss: 3 per element, backward 3; the clipping: norms of 10 elements in 2 tensors, the norm
    # of both norms, + 1e-6, reciprocal and product with the maximum, clamp; 10 elements scaled
    assert outside == FLOPsCount(3 * 6 + (10 + 2 + 3 + 1 + 10), 3 * 6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_code_without_gradients_costs_the_same_forward(mode):
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 2))
    x = torch.ones(3, 2, 8)
    with FLOPsMeter() as plain:
        model(x)
    with mode(), FLOPsMeter() as meter:
        model(x)
    assert meter.components == plain.components
    assert not meter.uncounted


def test_the_second_derivative_is_charged_to_the_module_too():
    class Squared(nn.Module):
        def forward(self, x):
            return x * x * x

    model = nn.Sequential(Squared())
    x = torch.ones(5, requires_grad=True)
    with FLOPsMeter() as meter:
        out = model(x)
        (slope,) = torch.autograd.grad(out, x, torch.ones(5), create_graph=True)
        backward(slope)
    assert meter.components["0"].forward == 2 * 5
    assert meter.components["0"].backward == meter.count.backward
    # d(x*x*x): two products each of two multiplications, and three gradients added up; then the
    # derivative of that
    assert meter.count.backward > 4 * 5 + 2 * 5


def test_what_is_computed_after_a_backward_with_a_graph_is_outside_its_modules():
    model = nn.Sequential(nn.Linear(4, 4, bias=False))

    def penalise(times: int) -> FLOPsMeter:
        model.zero_grad()
        x = torch.ones(3, 4, requires_grad=True)
        with FLOPsMeter() as meter:
            out = model(x)
            (slope,) = torch.autograd.grad((out * out).sum(), x, create_graph=True)
            for _ in range(times):
                slope = slope.sin()
            slope.sum().backward()
        return meter

    without, with_penalty = penalise(0), penalise(100)
    assert with_penalty.components["0"] == without.components["0"]
    # 12 elements: a sine each; in its backward a cosine and a product
    more = FLOPsCount(100 * 12, 100 * 2 * 12)
    assert with_penalty.components[OUTSIDE] == without.components[OUTSIDE] + more


def test_functional_transforms_are_counted():
    layer, x = nn.Linear(4, 2), torch.ones(3, 4)
    parameters = dict(layer.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,)).sum()

    with FLOPsMeter() as meter:
        torch.func.grad(loss)(parameters, x)
    assert meter.count == FLOPsCount(linear(3, 4, 2) + 6, weight_gradient(3, 4, 2))
    with FLOPsMeter() as meter:
        torch.vmap(lambda row: layer.weight @ row)(x)
    assert meter.count == FLOPsCount(2 * 3 * 4 * 2)


def test_a_loss_module_is_named_after_its_class_and_the_models_paths_stay():
    model, criterion = nn.Sequential(nn.Linear(4, 2)), nn.MSELoss()
    with FLOPsMeter() as meter:
        criterion(model(torch.ones(3, 4)), torch.ones(3, 2)).backward()
    assert list(meter.components) == ["0", "MSELoss", OUTSIDE]
    assert meter.components["MSELoss"] == FLOPsCount(18, 18)


def test_several_models_are_told_apart_by_their_class_names():
    class Generator(nn.Sequential):
        pass

    class Discriminator(nn.Sequential):
        pass

    generator, discriminator = Generator(nn.Linear(2, 4)), Discriminator(nn.Linear(4, 1))
    with FLOPsMeter() as meter:
        discriminator(generator(torch.ones(3, 2)))
        Discriminator(nn.Linear(4, 8))(torch.ones(1, 4))
    forwards = {path: cost.forward for path, cost in meter.components.items() if cost.forward}
    assert forwards == {
        "Generator": linear(3, 2, 4),
        "Generator.0": linear(3, 2, 4),
        "Discriminator": linear(3, 4, 1),
        "Discriminator.0": linear(3, 4, 1),
        "Discriminator_2": linear(1, 4, 8),
        "Discriminator_2.0": linear(1, 4, 8),
    }


def test_a_part_that_is_called_before_its_model_has_its_path_in_the_model():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with FLOPsMeter() as meter:
        model[1](torch.ones(3, 4))
        model(torch.ones(3, 4))
    assert meter.components["1"].forward == 2 * linear(3, 4, 2)
    assert list(meter.components) == ["0", "1", OUTSIDE]


def test_a_module_nobody_holds_counts_for_its_caller():
    class Wrapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return nn.Softmax(dim=-1)(self.layer(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Wrapping()

        def forward(self, x):
            return self.part(x)

    with FLOPsMeter() as meter:
        Model()(torch.ones(3, 4))
    assert meter.components["part"].forward == linear(3, 4, 4) + 5 * 12


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_operator_on_a_subclass_that_computes_with_other_tensors_costs_once(mode):
    weight = TwoTensor(torch.ones(2, 4), torch.ones(2, 4))
    with FLOPsMeter() as meter, mode():
        nn.functional.linear(torch.ones(3, 4), weight)
    assert meter.count.forward == 2 * 3 * 4 * 2
