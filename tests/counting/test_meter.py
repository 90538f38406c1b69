"""The meter's face: its results, its errors, what it cannot count, and what it leaves behind."""

from __future__ import annotations

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess

import pytest
import torch
from torch import nn
from torch._higher_order_ops.cond import cond_op
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.flop_counter import register_flop_formula

from pytest_flops.counting import costs
from pytest_flops.counting.costs import register_cost, register_costs
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement, how_to_count
from pytest_flops.counting.meter.data_dependence import DataDependentError
from pytest_flops.counting.meter.meter import FLOPsMeter


@pytest.fixture
def library(monkeypatch):
    """An operator of its own, and a cost table that forgets it afterwards."""
    monkeypatch.setattr(costs.lookup, "_registered", {})
    monkeypatch.setattr(costs.lookup, "_found", {})
    with torch.library._scoped_library("meter_test", "FRAGMENT") as fragment:
        fragment.define("mystery(Tensor x) -> Tensor")
        fragment.impl("mystery", lambda x: x.clone(), "CompositeExplicitAutograd")
        yield torch.ops.meter_test


def test_a_measurement_is_everything_the_meter_found():
    model = nn.Sequential(nn.Linear(4, 2))
    with FLOPsMeter() as meter:
        model(torch.ones(3, 4)).sum().backward()
    measurement = meter.measurement()
    assert (measurement.source, measurement.rules) == ("meter", "executed")
    assert measurement.count == meter.count
    assert measurement.components == meter.components
    assert measurement.operations == meter.operations
    assert Measurement.from_dict(measurement.to_dict()) == measurement


def test_operations_are_named_as_pytorchs_own_counter_names_them():
    with FLOPsMeter() as meter:
        nn.Linear(4, 2)(torch.ones(3, 4)).sum()
    assert meter.operations == {
        "aten.addmm": FLOPsCount(2 * 3 * 4 * 2),
        "aten.addmm:bias": FLOPsCount(3 * 2),
        "aten.sum": FLOPsCount(3 * 2),
    }


class Mixer(nn.Module):
    """Two products and a softmax of its own, and a child that has a third product."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 6, bias=False)

    def forward(self, x):
        return self.inner((x @ x.T).softmax(-1) @ x)


def test_what_a_component_costs_by_itself_is_told_by_operator():
    model = nn.Sequential(Mixer(), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), foreach=False)
    with FLOPsMeter() as meter:
        model(torch.ones(3, 4)).sum().backward()
        optimizer.step()
    # Nothing but the child's weight wants a gradient, so that the products of the parent have none.
    assert meter.measurement().own_operations == {
        "0": {
            "aten._softmax": FLOPsCount(5 * 9),
            "aten.mm": FLOPsCount(2 * 3 * 4 * 3 + 2 * 3 * 3 * 4),
        },
        "0.inner": {
            "aten.add_": FLOPsCount(optimizer=2 * 24),
            "aten.mm": FLOPsCount(2 * 3 * 4 * 6, 2 * 3 * 4 * 6),
        },
        "1": {"aten.relu": FLOPsCount(18), "aten.threshold_backward": FLOPsCount(0, 18)},
        "(outside modules)": {"aten.sum": FLOPsCount(18)},
    }


def test_what_the_whole_costs_by_itself_has_no_path():
    with FLOPsMeter() as meter:
        Mixer()(torch.ones(3, 4))
    own = meter.measurement().own_operations
    assert {path: [*costs] for path, costs in own.items()} == {
        "": ["aten._softmax", "aten.mm"],
        "inner": ["aten.mm"],
    }
    assert own[""]["aten.mm"] == own["inner"]["aten.mm"] == FLOPsCount(144)


def test_components_whose_operators_cost_the_same_are_written_once():
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)), nn.Linear(4, 4))
    with FLOPsMeter() as meter:
        model(torch.ones(2, 4))
    found = meter.measurement()
    product = {"aten.addmm": {"forward": 64}, "aten.addmm:bias": {"forward": 8}}
    assert found.to_dict()["own_operations"] == [
        {"components": ["0", "1", "2"], "operations": {"aten.mm": {"forward": 64}}},
        {"components": ["3"], "operations": product},
    ]
    assert Measurement.from_dict(found.to_dict()) == found


class LetsGo(nn.Module):
    """Deletes a module after its call."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = self.second(self.first(x))
        del self.first
        return x


@pytest.mark.parametrize("metrics", [[], ["bytes", "peak_memory"]])
def test_a_module_that_its_model_lets_go_of_is_outside_modules(metrics):
    with FLOPsMeter(metrics=metrics) as meter:
        LetsGo()(torch.ones(2, 4))
    assert meter.components == {
        "second": FLOPsCount(2 * 2 * 4 * 3),
        "(outside modules)": FLOPsCount(2 * 2 * 4 * 4),
    }


def test_results_can_be_read_while_counting():
    with FLOPsMeter() as meter:
        torch.ones(3) + 1
        first = meter.count
        torch.ones(3) + 1
    assert (first, meter.count) == (FLOPsCount(3), FLOPsCount(6))


def test_the_table_lists_every_component_with_exact_figures():
    with FLOPsMeter() as meter:
        nn.Sequential(nn.Linear(100, 50), nn.Sequential(nn.ReLU()))(torch.ones(10, 100))
    assert str(meter).splitlines() == [
        "component  forward  backward  optimizer    total    share",
        "total      101,000         0          0  101,000  100.0 %",
        "  0        100,500         0          0  100,500   99.5 %",
        "  1            500         0          0      500    0.5 %",
        "    1.0        500         0          0      500    0.5 %",
    ]


def test_the_table_names_what_is_not_counted(library):
    with FLOPsMeter() as meter:
        library.mystery(torch.ones(3))
    assert str(meter).splitlines()[-1] == "uncounted: meter_test.mystery, 1 call"


def test_an_unknown_operator_is_reported_with_its_calls_and_never_counted_as_zero(library):
    with FLOPsMeter() as meter:
        for _ in range(3):
            library.mystery(torch.ones(3))
    assert meter.uncounted == {"meter_test.mystery": 3}
    assert meter.measurement().uncounted == {"meter_test.mystery": 3}


def test_an_unknown_operator_on_integers_alone_is_free(library):
    with FLOPsMeter() as meter:
        library.mystery(torch.ones(3, dtype=torch.int64))
    assert not meter.uncounted


def test_the_advice_for_an_unknown_operator_names_it_as_it_is_registered():
    advice = how_to_count("meter_test.mystery")
    assert "register_cost('meter_test::mystery')" in advice
    assert "pytest_flops_register_costs" in advice


def test_a_registered_cost_counts_a_custom_operator(library):
    @register_cost("meter_test::mystery")
    def mystery(args, kwargs, out):
        return 7 * args[0].numel()

    with FLOPsMeter() as meter:
        library.mystery(torch.ones(3))
    assert meter.operations == {"meter_test.mystery": FLOPsCount(7 * 3)}
    assert not meter.uncounted


def test_a_formula_in_pytorchs_registry_counts_a_custom_operator_too():
    @torch.library.custom_op("meter_test_registry::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @register_flop_formula(torch.ops.meter_test_registry.twice)
    def formula(x_shape, out_shape=None, **kwargs):
        return 5 * x_shape[0]

    with FLOPsMeter() as meter:
        twice(torch.ones(3))
    assert meter.count == FLOPsCount(5 * 3)


@pytest.mark.parametrize("name", ["mystery", "::mystery", "meter_test::", "meter_test.mystery"])
def test_a_cost_for_a_name_that_is_no_operators_is_refused(name):
    with pytest.raises(ValueError, match="namespace::operator"):
        register_costs({name: lambda *_: 0})


def test_a_cost_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"the cost of meter_test::mystery must be a function"):
        register_costs({"meter_test::mystery": 7})


@pytest.mark.parametrize("flops", [1.5, -1, "many"])
def test_a_cost_that_is_no_whole_number_is_its_authors_mistake(library, flops):
    register_costs({"meter_test::mystery": lambda *_: flops})
    expected = "the cost of meter_test::mystery must be a whole number"
    with pytest.raises(TypeError, match=expected), FLOPsMeter():
        library.mystery(torch.ones(3))


def test_a_cost_of_none_is_uncounted(library):
    register_costs({"meter_test::mystery": lambda *_: None})
    with FLOPsMeter() as meter:
        library.mystery(torch.ones(3))
    assert meter.uncounted == {"meter_test.mystery": 1}


def test_arithmetic_without_a_formula_for_its_arguments_is_uncounted():
    mask = torch.ones(4, dtype=torch.bool, device="meta")  # chooses nobody knows how many
    with FLOPsMeter() as meter:
        torch.ones(4, device="meta").index_put((mask,), torch.ones((), device="meta"), True)
    assert meter.uncounted == {"aten.index_put": 1}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_model_costs_what_it_costs_untraced():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.ones(2, 3, 9, 9)
    with FLOPsMeter() as meter:
        torch.jit.trace(model, x, check_trace=False)
    # 7x7 positions of 4 filters of 27 taps, biases, ReLU
    assert meter.count == FLOPsCount(2 * 2 * 49 * 4 * 27 + 2 * 4 * 49 + 2 * 4 * 49)
    assert type(meter.count.forward) is int


def test_a_meter_is_entered_once():
    meter = FLOPsMeter()
    with meter, pytest.raises(RuntimeError, match="is counting already"), meter:
        pass


def test_a_meter_that_has_counted_cannot_count_again():
    with FLOPsMeter() as meter:
        pass
    with pytest.raises(RuntimeError, match="has counted already; make a new one"), meter:
        pass


def test_a_meter_that_was_never_entered_has_no_results():
    with pytest.raises(RuntimeError, match="has not counted anything"):
        _ = FLOPsMeter().count


def test_a_meter_cannot_be_left_before_it_is_entered():
    with pytest.raises(RuntimeError, match="without having been entered"):
        FLOPsMeter().__exit__(None, None, None)


def traces() -> tuple[object, ...]:
    """Everything global that a meter touches."""
    return (
        len(torch_module._global_forward_hooks),
        len(torch_module._global_forward_pre_hooks),
        len(torch_module._global_forward_hooks_always_called),
        len(torch_optimizer._global_optimizer_pre_hooks),
        len(torch_optimizer._global_optimizer_post_hooks),
        list(_get_current_dispatch_mode_stack()),
        list(warnings.filters),
        *(dict(vars(owner)) for owner in (threading.Thread, ThreadPoolExecutor, BaseProcess)),
        torch.autograd.is_multithreading_enabled(),
        torch._C._dispatch_dump("aten::linalg_svdvals"),
        list(sys.meta_path),
        cond_op.py_kernels[torch._C.DispatchKey.Autograd],
    )


def test_an_error_inside_the_meter_is_the_users_own_and_leaves_nothing_behind():
    class Failing(nn.Module):
        def forward(self, _x):
            raise KeyError("the user's own")

    before = traces()
    with pytest.raises(KeyError, match="the user's own"), FLOPsMeter() as meter:
        nn.Sequential(nn.Linear(4, 2), Failing())(torch.ones(3, 4))
    assert traces() == before
    assert meter.count == FLOPsCount(2 * 3 * 4 * 2 + 3 * 2)


@pytest.mark.parametrize(
    ("depend", "operator"),
    [
        (lambda x: x.sum().item(), ".item()"),
        (lambda x: x if x.sum() > 0 else -x, "a tensor in an if"),
        (torch.nonzero, "a mask as an index"),
        (torch.unique, "aten._unique2"),
        (lambda x: x.tolist(), ".tolist(), .cpu() or another copy of its values (aten._to_copy)"),
    ],
)
def test_code_that_depends_on_values_of_the_meta_device_is_told_the_operator(depend, operator):
    with pytest.raises(DataDependentError) as raised, FLOPsMeter():
        depend(torch.ones(3, device="meta"))
    assert operator in str(raised.value)
    assert "count it with tensors on a device" in str(raised.value)


def test_indices_on_the_meta_device_need_no_values():
    x = torch.ones(3, 4, device="meta")
    with FLOPsMeter() as meter:
        assert (x[torch.zeros(5, dtype=torch.int64, device="meta")] + 1).shape == (5, 4)
    assert meter.count.forward == 5 * 4


def test_a_traceback_ends_in_the_line_that_called_the_operator():
    with pytest.raises(RuntimeError) as raised, FLOPsMeter():
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert raised.getrepr().reprcrash.path == __file__


def test_an_error_that_the_code_handles_does_not_disturb_the_attribution():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            self.layer(x)
            raise KeyError

    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.failing = Failing()

        def forward(self, x):
            try:
                self.failing(x)
            except KeyError:
                return x * 2

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.careful = Careful()

        def forward(self, x):
            return self.careful(x)

    with FLOPsMeter() as meter:
        Model()(torch.ones(3, 4))
    layer = 2 * 3 * 4 * 4 + 3 * 4
    assert meter.components["careful.failing"].forward == layer
    assert meter.components["careful"].forward == layer + 12


def test_nothing_is_left_behind_after_a_step():
    before = traces()
    model = nn.Linear(4, 2)
    with FLOPsMeter():
        model(torch.ones(3, 4)).sum().backward()
        torch.optim.SGD(model.parameters()).step()
    assert traces() == before


def test_what_runs_after_the_meter_is_not_counted():
    with FLOPsMeter() as meter:
        torch.ones(3) + 1
    torch.ones(3) + 1
    assert meter.count == FLOPsCount(3)


def test_a_meter_inside_a_meter_counts_its_part_and_the_outer_one_all():
    with FLOPsMeter() as outer:
        torch.ones(3) + 1
        with FLOPsMeter() as inner:
            torch.ones(3) + 1
    assert (inner.count, outer.count) == (FLOPsCount(3), FLOPsCount(6))


def test_the_meter_changes_no_result():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    x = torch.randn(2, 5, 8)
    gradients = []
    for metered in (False, True):
        model.zero_grad()
        torch.manual_seed(1)
        if metered:
            with FLOPsMeter():
                model(x).square().sum().backward()
        else:
            model(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
