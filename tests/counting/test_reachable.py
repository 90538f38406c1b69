"""What a step on fake tensors leaves behind: nothing, wherever the user's code may keep things."""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter.meter import FLOPsMeter, count_flops

X = torch.ones(4, 8)


def fakes_that_live() -> list[Tensor]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is FakeTensor]


@pytest.fixture(autouse=True, scope="module")
def _no_fake_outlives_these_tests() -> Iterator[None]:
    before = fakes_that_live()  # of `torch.export`, in other tests
    yield
    assert {id(each) for each in fakes_that_live()} <= {id(each) for each in before}


class Runs(nn.Module):
    """A layer whose forward does something to its result besides."""

    def __init__(self, does: Callable[[Runs, Tensor], Tensor]):
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=False)
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, self.layer(x))


# Where code keeps tensors. Each takes one and says afterwards what it holds.

a_global: Any = None
a_table: dict[int, Any] = {8: "before"}
an_order: OrderedDict[int, Any] = OrderedDict()
a_list: list[Any] = []
a_queue: deque[Any] = deque(maxlen=3)
a_set: set[Any] = set()
nested: dict[str, list[dict[str, Any]]] = {"of": [{}]}


class Holder:
    shared: Any = None
    shared_table: ClassVar[dict[int, Any]] = {}

    def __init__(self) -> None:
        self.own = None


a_holder = Holder()
a_proxy = types.SimpleNamespace(own=None)


def keep_in_a_global(y: Tensor) -> Any:
    global a_global  # noqa: PLW0603 - as people write it
    a_global = y
    return lambda: a_global


def keep_in_a_new_global(y: Tensor) -> Any:
    globals()["a_new_global"] = y
    return lambda: globals().get("a_new_global")


def keep_in_a_default(y: Tensor, cache: dict[int, Any] = {}) -> Any:  # noqa: B006
    cache[0] = y
    return lambda: dict(cache)


def keep_in_a_keyword_default(y: Tensor, *, cache: list[Any] = []) -> Any:  # noqa: B006
    cache.append((y, [y]))
    return lambda: list(cache)


def with_a_closure() -> Callable[[Tensor], Any]:
    cell = None

    def keep(y: Tensor) -> Any:
        nonlocal cell
        cell = y
        return lambda: cell

    return keep


KEEPERS: dict[str, tuple[Callable[[Tensor], Any], Any]] = {
    "a global": (keep_in_a_global, None),
    "a new global": (keep_in_a_new_global, None),
    "a mutable default": (keep_in_a_default, {}),
    "a mutable keyword default": (keep_in_a_keyword_default, []),
    "a closure": (with_a_closure(), None),
}


def keeper(name: str, held: Callable[[], Any]) -> Callable[[Callable[[Tensor], Any]], None]:
    def add(keep: Callable[[Tensor], Any]) -> None:
        def keep_and_tell(y: Tensor) -> Any:
            keep(y)
            return held

        KEEPERS[name] = (keep_and_tell, held())

    return add


keeper("a dict", lambda: dict(a_table))(lambda y: a_table.update({8: y, 9: (y, y)}))
keeper("an ordered dict", lambda: OrderedDict(an_order))(lambda y: an_order.update({1: [y]}))
keeper("a list", lambda: list(a_list))(a_list.append)
keeper("a deque", lambda: list(a_queue))(a_queue.append)
keeper("a set", lambda: set(a_set))(a_set.add)
keeper("a list in a dict", lambda: list(nested["of"]))(lambda y: nested["of"].append({"y": y}))
keeper("a dict in a list", lambda: dict(nested["of"][0]))(lambda y: nested["of"][0].update(y=y))
keeper("a class", lambda: Holder.shared)(lambda y: setattr(Holder, "shared", y))
keeper("a class's dict", lambda: dict(Holder.shared_table))(
    lambda y: Holder.shared_table.update({0: y})
)
keeper("an object", lambda: a_holder.own)(lambda y: setattr(a_holder, "own", y))
keeper("an object's new attribute", lambda: dict(vars(a_holder)))(
    lambda y: setattr(a_holder, "new", y)
)
keeper("a namespace", lambda: a_proxy.own)(lambda y: setattr(a_proxy, "own", y))
keeper("a function", lambda: dict(vars(keep_in_a_global)))(
    lambda y: setattr(keep_in_a_global, "kept", y)
)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("where", KEEPERS)
def test_code_holds_no_fake_after_a_step_that_kept_one_there(where, fails):
    keep, before = KEEPERS[where]
    held: list[Callable[[], Any]] = []

    def does(_self: Runs, y: Tensor) -> Tensor:
        held.append(keep(y * 2))
        if fails:
            raise KeyError
        return y

    try:
        count_flops(Runs(does), X)
    except KeyError:
        assert fails
    assert held[0]() == before


def test_what_code_keeps_besides_fakes_stays():
    a_list.clear()

    def does(_self: Runs, y: Tensor) -> Tensor:
        a_list.append(tuple(y.shape))
        a_table[1] = "seen"
        return y

    count_flops(Runs(does), X)
    assert a_list == [(4, 8)]
    assert a_table.pop(1) == "seen"
    a_list.clear()


def test_a_module_that_the_step_was_the_first_to_import_stays_where_it_was_put():
    def does(_self: Runs, y: Tensor) -> Tensor:
        globals()["tokens"] = __import__("colorsys")
        return y

    count_flops(Runs(does), X)
    assert globals().pop("tokens") is sys.modules["colorsys"]


@functools.lru_cache
def cosines(n: int) -> Tensor:
    return torch.arange(n).float().cos()


@functools.cache
def cosines_and_ones(n: int) -> tuple[Tensor, list[Tensor]]:
    return torch.arange(n).float().cos(), [torch.ones(n)]


class Rotary:
    @functools.lru_cache(maxsize=2)  # noqa: B019 - as people write it
    def table(self, n: int) -> dict[str, Tensor]:
        return {"cos": torch.arange(n).float().cos()}


rotary = Rotary()
CACHES: dict[str, tuple[Any, Callable[[], Tensor]]] = {
    "a function's": (cosines, lambda: cosines(8)),
    "a tuple's": (cosines_and_ones, lambda: cosines_and_ones(8)[0]),
    "a method's": (Rotary.table, lambda: rotary.table(8)["cos"]),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_has_no_fakes_and_what_it_has_does_not_change_the_count(name):
    cache, read = CACHES[name]
    model = Runs(lambda _self, y: y * read())
    cache.cache_clear()
    cold = count_flops(model, X, training=False).count
    # a product, a cosine of 8, a product with it
    assert cold == FLOPsCount(2 * 4 * 64 + 8 + 32)
    assert cache.cache_info().currsize == 0
    assert type(read()) is Tensor
    assert count_flops(model, X, training=False).count == cold
    assert torch.equal(read(), torch.arange(8).float().cos())
    assert count_flops(model, X, training=False).count == cold


@functools.cache
def settings() -> dict[str, int]:
    return {"scale": 3}


@functools.cache
def helper() -> Holder:
    return Holder()


def test_a_cache_of_anything_else_is_left_alone():
    def does(_self: Runs, y: Tensor) -> Tensor:
        helper().own = y
        return y * settings()["scale"]

    before = settings(), helper()
    count_flops(Runs(does), X)
    assert settings() is before[0]
    assert helper() is before[1]
    assert helper().own is None


class Frozen(dict):
    """A mapping that refuses to be changed through its methods, as configurations often do."""

    def refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("this mapping is frozen")

    update = __setitem__ = __delitem__ = pop = popitem = setdefault = clear = refuse  # type: ignore[assignment]


class FrozenInOrder(OrderedDict):
    """The same, in the form of diffusers' configurations, with attributes."""

    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        for name, value in items.items():
            setattr(self, name, value)
        self.frozen = True

    def __setitem__(self, name: str, value: Any) -> None:
        if hasattr(self, "frozen"):
            raise TypeError("this mapping is frozen")
        super().__setitem__(name, value)

    update = pop = clear = setdefault = Frozen.refuse  # type: ignore[assignment]


def state_of(model: nn.Module) -> list[Any]:
    """All that a model holds, with the identity of each object and the values of each tensor."""

    def told(value: Any) -> Any:
        if isinstance(value, Tensor):
            return id(value), type(value), value.detach().clone().tolist(), value.grad is None
        if isinstance(value, dict):
            return type(value), [(key, told(each)) for key, each in dict.items(value)]
        if isinstance(value, list | tuple | deque):
            return type(value), [told(each) for each in value]
        if isinstance(value, nn.Module | Holder):
            return id(value), type(value), told(vars(value))
        return id(value)

    return told(model)


def a_model_of_everything() -> nn.Module:
    model = Runs(lambda _self, y: y)
    model.settings = Frozen(a=1, table=torch.ones(3))
    model.config = FrozenInOrder(b=2, table=torch.ones(3))
    model.weights = [model.layer.weight, (model.layer.weight, 1)]
    model.views = OrderedDict(first=deque([torch.ones(2)]))
    model.holder = Holder()
    model.register_buffer("running", torch.zeros(8))
    model.register_forward_hook(lambda module, _inputs, out: setattr(module, "last", out))
    model.layer.eval()
    return model


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_as_it_was_in_every_part(fails):
    def does(self: Any, y: Tensor) -> Tensor:
        self.running.add_(1)
        self.running = self.running + 1
        self.holder.own, self.last = y, y
        self.weights.append(y)
        self.views["second"] = y
        self.views.move_to_end("first")
        del self.settings
        self.calls = getattr(self, "calls", 0) + 1
        if fails:
            raise KeyError
        return y

    model = a_model_of_everything()
    model.does = does
    before = state_of(model)
    try:
        count_flops(model, X)
    except KeyError:
        assert fails
    assert state_of(model) == before
    model.does = lambda _self, y: y
    model(X).sum().backward()
    assert type(model.layer.weight.grad) is Tensor


def test_gradients_of_a_model_stay():
    model = nn.Linear(8, 8)
    model(X).sum().backward()
    gradients = [(each, each.grad, each.grad.clone()) for each in model.parameters()]
    count_flops(model, X)
    assert all(each.grad is grad and torch.equal(grad, was) for each, grad, was in gradients)


a_weight = nn.Parameter(torch.ones(8))


def test_gradients_of_a_parameter_that_no_module_holds_stay():
    assert count_flops(Runs(lambda _self, y: y * a_weight), X, optimizer="none").count.backward
    assert a_weight.grad is None


def test_parameters_in_lists_tuples_dicts_and_attributes_are_those_of_the_model():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8, bias=False)
            self.listed, self.in_a_tuple = [self.layer.weight], (self.layer.weight, [1])
            self.named = {"weight": self.layer.weight}
            self.alone = [nn.Parameter(torch.ones(8))]  # no parameter of the model

        def forward(self, x: Tensor) -> Tensor:
            for weight in (self.listed[0], self.in_a_tuple[0], self.named["weight"]):
                x = x @ weight
            return x * self.alone[0]

    net = Net()
    counted = count_flops(net, X)
    optimizer = torch.optim.AdamW(net.parameters())
    assert all(each.grad is None for each in (net.layer.weight, *net.alone))
    with FLOPsMeter() as meter:
        net(X).sum().backward()
        optimizer.step()
    assert counted.count == meter.count
    assert counted.count.optimizer == 14 * 64 + 1


def test_marks_on_parameters_choose_what_is_updated():
    model = nn.Linear(8, 8)
    model.bias.frozen = True

    def sgd(parameters):
        return torch.optim.SGD([each for each in parameters if not hasattr(each, "frozen")], lr=1.0)

    assert count_flops(model, X, optimizer=sgd).count.optimizer == 2 * 64
    assert set(vars(model.bias)) == {"frozen"}


targets = torch.zeros(4, dtype=torch.int64, device="meta")


def test_tensors_on_meta_work_wherever_they_are():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8, bias=False)
            self.table, self.tables = torch.arange(8.0), {"a": (torch.arange(8.0),)}

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * self.table + self.tables["a"][0]

    with torch.device("meta"):
        net, labels = Net(), torch.zeros(4, dtype=torch.int64)
    for loss in (
        lambda y: nn.functional.cross_entropy(y, targets),
        lambda y: nn.functional.cross_entropy(y, labels),
    ):
        count = count_flops(net, X, loss=loss).count
        # the product, its scale and shift; of each of 4 rows a log-softmax of 8; the mean
        assert count.forward == 2 * 4 * 64 + 32 + 32 + 5 * 32 + 4
    assert net.table.device.type == labels.device.type == "meta"


def test_inputs_in_objects_are_put_back():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, batch: Any) -> Tensor:
            batch["y"] = self.layer(batch["x"])
            return batch["y"]

    class Batch(UserDict):
        pass

    batch = Batch(x=X)
    count_flops(Net(), batch)
    assert dict(batch) == {"x": X}


def test_a_forward_may_convert_its_modules():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            self.second.half()
            y = self.second(y.half()).float()
            self.second.float()
            return self.first.to(torch.float64)(self.second(y).double())

    net = Net()
    # four products of 2 * 4 * 64 with biases
    assert count_flops(net, X, training=False).count == FLOPsCount(4 * (2 * 4 * 64 + 32))
    assert {each.dtype for each in net.parameters()} == {torch.float32}
