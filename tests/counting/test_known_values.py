"""Indices and masks keep their values in a step on fakes, and the random numbers their states."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.meter.data_dependence import DataDependentError

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
}


@pytest.mark.parametrize("name", CHOICES)
def test_what_indices_and_masks_choose_is_counted_without_weights_too(name):
    choose, index, rows = CHOICES[name]
    model, x = Chosen(choose), torch.ones(4, 8)
    counted = count_flops(model, x, index, training=False).count.forward
    with FLOPsMeter() as meter:
        model(x, index)
    assert counted == meter.count.forward == 2 * rows * 8 * 16


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


@pytest.mark.parametrize("choose", [choose_by_chance, write_what_is_unknown])
def test_what_is_not_computed_of_indices_alone_has_no_value(choose):
    with pytest.raises(DataDependentError, match="depends on the values"):
        count_flops(Chosen(choose), torch.ones(4, 8), torch.tensor([0, 1]))


def test_a_large_index_has_no_values():
    index = torch.arange(4).repeat(2_501)
    with pytest.raises(DataDependentError, match="depends on the values"):
        count_flops(Chosen(lambda index: slice(int(index.max()))), torch.ones(4, 8), index)


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
