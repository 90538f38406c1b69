"""BK-Core's features against a dense inverse and, beyond its reach, against pivots."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pytest_flops import bk_core

LARGEST_ERROR = {1.0: 1e-12, 0.1: 1e-12, 0.01: 5e-7, 1e-3: 5e-7}


def _diagonal(kind: str, batch: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    noise = torch.randn(batch, length, generator=generator, dtype=torch.float64)
    slow = torch.linspace(0, 7, length, dtype=torch.float64).sin().expand(batch, length)
    constant = torch.full((batch, length), -2.0, dtype=torch.float64)
    made = {"random": 2 * noise, "constant": constant, "slow": 2 * slow, "edge": 2 + 1e-6 * noise}
    return made[kind].float().double()


def _off_diagonals(kind: str, length: int) -> tuple[Tensor, Tensor]:
    ones = torch.ones(length - 1, dtype=torch.float64)
    if kind == "ones":
        return ones, ones
    generator = torch.Generator().manual_seed(length + 1)
    varying = 2 * torch.rand(length - 1, generator=generator, dtype=torch.float64)
    varying[::100] = 0
    return varying.float().double(), (0.5 + varying.flip(0)).float().double()


def _error(found: Tensor, truth: Tensor) -> float:
    green = torch.view_as_complex(found.double())
    return float(((green - truth).abs() / truth.abs()).max())


@pytest.mark.parametrize("imaginary", LARGEST_ERROR)
@pytest.mark.parametrize("off", ["ones", "varying"])
@pytest.mark.parametrize("kind", ["random", "constant", "slow", "edge"])
@pytest.mark.parametrize("length", [1, 2, 3, 64, 65, 300])
def test_features_equal_a_dense_inverse(dense_green, length, kind, off, imaginary):
    a, (b, c) = _diagonal(kind, 3, length), _off_diagonals(off, length)
    z = complex(0, imaginary)
    truth = dense_green(a, b, c, z)
    assert _error(bk_core(a, b, c, z), truth) <= LARGEST_ERROR[imaginary]
    assert _error(bk_core(a.float(), b.float(), c.float(), z), truth) <= 1e-6


def test_features_of_2048_elements_equal_a_dense_inverse(dense_green):
    a, (b, c) = _diagonal("random", 1, 2048), _off_diagonals("varying", 2048)
    assert _error(bk_core(a, b, c, 1e-3j), dense_green(a, b, c, 1e-3j)) <= LARGEST_ERROR[1e-3]


@pytest.mark.parametrize("z", [0.7 + 0.3j, -1.5 - 0.2j, -1j])
def test_any_shift_off_the_real_axis_is_right(dense_green, z):
    a, (b, c) = _diagonal("random", 2, 200), _off_diagonals("varying", 200)
    assert _error(bk_core(a, b, c, z), dense_green(a, b, c, z)) <= 1e-12


def test_off_diagonals_of_either_sign_are_right_where_their_products_are_negative(dense_green):
    a, (b, c) = _diagonal("random", 2, 200), _off_diagonals("varying", 200)
    assert _error(bk_core(a, 0.3 * b, -0.3 * c, 1j), dense_green(a, 0.3 * b, -0.3 * c, 1j)) <= 1e-12


@pytest.mark.parametrize(
    ("kind", "off", "imaginary"),
    [("random", "ones", 1.0), ("random", "varying", 0.1), ("slow", "varying", 1e-3)],
)
@pytest.mark.long
def test_a_row_of_a_million_elements_equals_pivots(pivot_green, kind, off, imaginary):
    length = 1_000_000
    a, (b, c) = _diagonal(kind, 1, length), _off_diagonals(off, length)
    z = complex(0, imaginary)
    truth = pivot_green(a[0], b * c, z).unsqueeze(0)
    assert _error(bk_core(a, b, c, z), truth) <= LARGEST_ERROR[imaginary]
    assert _error(bk_core(a.float(), b.float(), c.float(), z), truth) <= 1e-6


def test_a_constant_row_has_the_closed_form_of_the_infinite_lattice():
    """`G` is the mean of `1 / (2 cos q - z)` over q: `i / sqrt(4 - z^2)`, and `z^2` is -1."""
    a, ones = torch.zeros(1, 20001, dtype=torch.float64), torch.ones(20000, dtype=torch.float64)
    middle = torch.view_as_complex(bk_core(a, ones, ones, 1j))[0, 10000]
    assert complex(middle) == pytest.approx(1j / math.sqrt(5), abs=1e-15)


@pytest.mark.parametrize("imaginary", [1.0, 0.1])
def test_rows_do_not_depend_on_how_many_are_computed_together(imaginary):
    a, (b, c) = _diagonal("random", 700, 150), _off_diagonals("varying", 150)
    z = complex(0, imaginary)
    together = bk_core(a, b, c, z)
    apart = torch.cat([bk_core(row, b, c, z) for row in a[[0, 300, 699]].split(1)])
    torch.testing.assert_close(together[[0, 300, 699]], apart, rtol=0, atol=1e-13)
