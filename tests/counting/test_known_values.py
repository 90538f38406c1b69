"""Indices and masks keep their values in a step on fakes, and the random numbers their states."""

from __future__ import annotations

import random
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.meter.data_dependence import DataDependentError
from pytest_flops.counting.meter.known_values import ALL_FINITE
from pytest_flops.counting.meter.workarounds.traced_masks import AS_IF_PADDED

EDGES = torch.tensor([[0, 1, 2, 3], [1, 1, 3, 3]])  # two of the four lead from a node to itself
MASK = torch.tensor([True, False, True, True])


class Chosen(nn.Module):
    """A layer on the rows that a function chooses."""

    def __init__(self, choose):
        super().__init__()
        self.layer, self.choose = nn.Linear(8, 16, bias=False), choose

    def forward(self, x, index):
        return self.layer(x[self.choose(index)])


# What it chooses of the 4 rows, and how many these are.
CHOICES = {
    "edges without self-loops": (lambda edges: edges[0, edges[0] != edges[1]], EDGES, 2),
    "a mask": (lambda mask: mask, MASK, 3),
    "nonzero": (lambda mask: mask.nonzero()[:, 0], MASK, 3),
    "a branch": (lambda mask: slice(1) if bool(mask.all()) else slice(2), MASK, 2),
    "a number of rows": (lambda edges: slice(int(edges.max())), EDGES, 3),
    "unique": (lambda edges: edges[1].unique(), EDGES, 2),
    "a mask begun with ones": (lambda mask: (torch.ones(4) == 1) & mask, MASK, 3),
    "indices begun with zeros": (lambda index: index.new_zeros(2) + index, EDGES[0, 1:3], 2),
    "a mask begun like another": (lambda mask: torch.ones_like(mask) & mask, MASK, 3),
}


@pytest.mark.parametrize("name", CHOICES)
def test_what_indices_and_masks_choose_is_counted_without_weights_too(name):
    choose, index, rows = CHOICES[name]
    model, x = Chosen(choose), torch.ones(4, 8)
    counted = count_flops(model, x, index, training=False).count.forward
    with FLOPsMeter() as meter:
        model(x, index)
    assert counted == meter.count.forward == 2 * rows * 8 * 16


class Scaled(torch.autograd.Function):
    """A loss that computes its gradient in its forward, and scales it unless the factor is 1."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return x if torch.equal(gradient, torch.tensor(1.0)) else x * gradient


@pytest.mark.parametrize("loss", [Scaled.apply, lambda y: Scaled.apply(y).sum()])
def test_a_losss_own_gradient_is_known_to_be_1(loss):
    model = nn.Linear(8, 8)
    counted, plain = (
        count_flops(model, torch.ones(4, 8), loss=each, metrics=["peak_memory"])
        for each in (loss, lambda y: y.square().sum())
    )
    assert "aten.mul" not in counted.operations
    assert counted.of("peak_memory forward") == plain.of("peak_memory forward")
    with pytest.raises(DataDependentError, match="equal"):
        count_flops(model, torch.ones(4, 8), loss=lambda y: 2 * Scaled.apply(y))


def test_the_gradient_of_what_a_mask_chooses_is_counted():
    model = nn.Linear(8, 8, bias=False)
    model.forward = lambda mask: model.weight[mask]
    # The mask and its inverse choose 4 rows: their sum, and one addition per element in backward.
    count = count_flops(model, torch.cat([MASK, ~MASK]), optimizer="none").count
    assert (count.forward, count.backward) == (4 * 8, 4 * 8)


def test_a_buffer_of_indices_has_its_values_too():
    model = Chosen(lambda index: index)
    model.register_buffer("index", torch.tensor([True, True, False, False]))
    model.choose = lambda _: model.index
    counted = count_flops(model, torch.ones(4, 8), MASK, training=False)
    assert counted.count.forward == 2 * 2 * 8 * 16


def test_an_index_that_is_written_to_is_left_as_it_was():
    index = torch.tensor([0, 1])
    count_flops(Chosen(lambda index: index.add_(1)), torch.ones(4, 8), index)
    assert index.tolist() == [0, 1]


def choose_by_chance(index):
    return slice(int(index[torch.randint(2, (2,))].max()))


def write_what_is_unknown(index):
    made = torch.zeros_like(index)
    made[0] = torch.randint(2, ())
    return slice(int(made.max()))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_values_of_a_sparse_tensor_are_trained_on_fakes_as_for_real():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.values, self.base = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(8, 8))

        def forward(self, x, edges):
            ones = torch.sparse_coo_tensor(edges, torch.ones(4), (8, 8))
            return x @ (self.base + torch.sparse_coo_tensor(edges, self.values, (8, 8)) + ones)

    model, x = Adapted(), torch.ones(3, 8)
    counted = count_flops(model, x, EDGES, optimizer="none")
    with FLOPsMeter() as meter:
        model(x, EDGES).sum().backward()
    assert counted == meter.measurement()


@pytest.mark.parametrize("choose", [choose_by_chance, write_what_is_unknown])
def test_what_is_not_computed_of_indices_alone_has_no_value(choose):
    with pytest.raises(DataDependentError, match="depends on the values"):
        count_flops(Chosen(choose), torch.ones(4, 8), torch.tensor([0, 1]))


def test_a_mask_of_every_pair_that_is_too_large_is_not_computed():
    def choose(index):
        pairs = index[:, None] == index  # 25 million
        with pytest.raises(DataDependentOutputException):
            bool(pairs.all())
        return slice(int(index.max()))

    index = torch.ones(5_000, dtype=torch.int64)
    counted = count_flops(Chosen(choose), torch.ones(4, 8), index, training=False)
    assert counted.count.forward == 2 * 1 * 8 * 16


def test_a_large_index_has_no_values():
    index = torch.ones((1 << 24) + 1, dtype=torch.int8)
    with pytest.raises(DataDependentError, match="depends on the values"):
        count_flops(Chosen(lambda index: slice(int(index.max()))), torch.ones(4, 8), index)


# Whether something is wrong with the numbers, as people ask for it.
GUARDS = {
    "isfinite all": lambda y: not torch.isfinite(y).all(),
    "isinf any": lambda y: torch.isinf(y).any(),
    "isnan any": lambda y: torch.any(y.isnan()),
    "item": lambda y: y.isnan().any().item(),
    "either": lambda y: y.isnan().any() | y.isinf().any(),
    "one number": lambda y: torch.isnan(y.sum()),
    "unequal to itself": lambda y: not (y == y).all(),  # noqa: PLR0124 - as NaN is
    "half precision": lambda y: y.dtype == torch.float16 and not y.isfinite().all(),
}


class Guarded(nn.Module):
    """A layer whose result is held to be finite, or clamped."""

    def __init__(self, is_wrong, dtype=torch.float32):
        super().__init__()
        self.layer, self.is_wrong = nn.Linear(8, 16, bias=False, dtype=dtype), is_wrong

    def forward(self, x):
        y = self.layer(x)
        return y.clamp(-1, 1) if self.is_wrong(y) else y


@pytest.mark.parametrize("name", GUARDS)
@pytest.mark.parametrize("inference", [False, True])
def test_numbers_are_taken_to_be_finite_and_that_is_told(name, inference):
    dtype = torch.float16 if name == "half precision" else torch.float32
    model, x = Guarded(GUARDS[name], dtype), torch.ones(4, 8, dtype=dtype)
    with torch.inference_mode(inference):
        counted = count_flops(model, x, training=False)
        with FLOPsMeter() as meter:
            model(x)
    assert counted == meter.measurement()
    assert counted.assumptions == (ALL_FINITE,)
    assert ALL_FINITE in str(counted)
    assert meter.measurement().assumptions == ()


@pytest.mark.parametrize(
    "ask",
    [
        lambda y: y[y.isfinite()].sum() > 0,  # how many are chosen is no guard
        lambda y: torch.isfinite(y).any(dim=0)[0],
        lambda y: (y == y.clone()).all(),
        lambda y: (y != 0).all(),
    ],
)
def test_other_questions_about_numbers_are_not_answered(ask):
    with pytest.raises(DataDependentError):
        count_flops(Guarded(ask), torch.ones(4, 8), training=False)


@pytest.mark.parametrize(
    "write", [lambda bad, y: bad.logical_or_(y > 0), lambda bad, _: bad[0].fill_(1)]
)
def test_an_answer_ends_when_something_else_is_written(write):
    def ask(y):
        bad = torch.isnan(y)
        write(bad, y)
        return bad.any()

    with pytest.raises(DataDependentError):
        count_flops(Guarded(ask), torch.ones(4, 8), training=False)


def is_fake_tensor(tensor):
    return isinstance(tensor, FakeTensor)


class Asking(nn.Module):
    """Adds a mask unless it hides nothing, which it looks for as transformers does."""

    def __init__(self, library):
        super().__init__()
        self.library = library

    def forward(self, x, mask):
        mask = torch.ones(x.shape) if mask is None else mask
        mask = mask.bool()
        if not self.library.is_fake_tensor(mask) and mask.all():
            return x * 2
        return x * 2 + mask


def counted_with(mask):
    """A forward for 8 numbers; a library of the name of transformers asks whether it is traced."""
    library = ModuleType("transformers.utils.import_utils")
    library.is_fake_tensor = is_fake_tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, library.__name__, library)
        counted = count_flops(Asking(library), torch.ones(8), mask, training=False)
    assert library.is_fake_tensor is is_fake_tensor
    return counted


# Which masks hide nothing, and what a step costs for 8 numbers.
MASKS = {
    "ones": (torch.ones(8, dtype=torch.int64), 8),
    "booleans": (torch.ones(8).bool(), 8),
    "padding": (torch.arange(8) > 3, 8 + 8),
    "none": (None, 8),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_counted_as_it_runs_if_the_library_asks_whether_it_is_traced(name):
    mask, cost = MASKS[name]
    counted = counted_with(mask)
    assert (counted.count.forward, counted.assumptions) == (cost, ())


def test_of_a_mask_without_values_it_is_told_that_padding_is_assumed():
    counted = counted_with(torch.rand(8))  # numbers have no values
    assert (counted.count.forward, counted.assumptions) == (8 + 8, (AS_IF_PADDED,))


def test_a_mask_without_padding_is_counted_as_it_runs():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=100,
    )
    model = transformers.BertModel(config).eval()
    tokens = torch.arange(32).reshape(2, 16)
    unmasked = count_flops(model, input_ids=tokens, training=False)
    for hidden in (0, 4):
        mask = torch.ones(2, 16, dtype=torch.int64)
        mask[1, 16 - hidden :] = 0
        counted = count_flops(model, input_ids=tokens, attention_mask=mask, training=False)
        with FLOPsMeter() as meter, torch.no_grad():
            model(input_ids=tokens, attention_mask=mask)
        assert counted == meter.measurement()
        assert (counted.count == unmasked.count) == (hidden == 0)
        assert counted.assumptions == ()


def test_random_numbers_go_on_as_if_nothing_was_counted():
    def draws():
        return random.random(), float(np.random.rand()), torch.rand(()).item()

    def reseed(index):
        torch.seed()
        random.random()
        np.random.rand()
        return index

    model = Chosen(reseed)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draws()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    count_flops(model, torch.ones(4, 8), torch.tensor([0, 1]))
    assert draws() == expected
