"""Exact polynomials: interpolation, evaluation, printing."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.scaling.polynomial import Polynomial, interpolate

BOTH = ("batch_size", "seq_len")


def transformer(batch_size, seq_len):
    return 288 * batch_size * seq_len**2 + 56768 * batch_size * seq_len


def interpolated():
    grid = [[1, 2], [3, 5, 8]]
    values = {(b, n): transformer(b, n) for b in grid[0] for n in grid[1]}
    return interpolate(BOTH, grid, values)


def test_interpolation_on_a_grid_finds_every_coefficient():
    assert interpolated().terms == (((1, 2), Fraction(288)), ((1, 1), Fraction(56768)))


def test_the_value_at_a_million_is_exact():
    # 288 * 7 * 10^12 + 56768 * 7 * 10^6, beyond what a float holds
    assert interpolated()(batch_size=7, seq_len=10**6) == 2016000000000000 + 397376000000


def test_degrees_are_told_per_dimension():
    polynomial = interpolated()
    assert (polynomial.degree("batch_size"), polynomial.degree("seq_len")) == (1, 2)


def test_what_ranks_share_is_a_negative_power():
    shared = Polynomial.of(("ranks", "tokens"), {(-1, 1): 4096, (0, 0): 2, (-2, 0): Fraction(1, 3)})
    assert str(shared) == "2 + 4,096 * tokens / ranks + 1/3 / ranks^2"
    assert shared.value(ranks=8, tokens=3) == 2 + 4096 * 3 // 8 + Fraction(1, 3 * 64)
    assert (shared.degree("ranks"), shared.lowest("ranks"), shared.lowest("tokens")) == (0, -2, 0)
    assert shared.times("ranks", 2).lowest("ranks") == 0


def test_it_prints_with_thousands_separators_and_powers():
    polynomial = Polynomial.of(BOTH, {(1, 1): 3976504, (0, 2): 128, (0, 0): -5000})
    assert str(polynomial) == "3,976,504 * batch_size * seq_len + 128 * seq_len^2 - 5,000"


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ({}, "0"),
        ({(0,): 1}, "1"),
        ({(1,): 1}, "n"),
        ({(2,): -1, (1,): Fraction(1, 2)}, "-n^2 + 1/2 * n"),
        ({(1,): Fraction(-1000, 3)}, "-1,000/3 * n"),
        ({(3,): 0, (1,): 2}, "2 * n"),
    ],
)
def test_signs_fractions_ones_and_zeros_print_readably(terms, text):
    assert str(Polynomial.of(["n"], terms)) == text


def test_fractional_coefficients_are_exact():
    # 0 + 1 + ... + (n - 1) = n (n - 1) / 2
    triangle = interpolate(["n"], [[1, 2, 3]], {(1,): 0, (2,): 1, (3,): 3})
    assert str(triangle) == "1/2 * n^2 - 1/2 * n"
    assert triangle(n=10**9 + 1) == (10**9 + 1) * 10**9 // 2


def test_a_value_that_is_no_whole_number_is_refused():
    half = Polynomial.of(["n"], {(1,): Fraction(1, 2)})
    with pytest.raises(ValueError, match="3/2"):
        half(n=3)


def test_some_dimensions_can_be_given_their_sizes():
    assert str(interpolated().at(batch_size=2)) == "576 * seq_len^2 + 113,536 * seq_len"


def test_a_missing_and_a_misspelt_size_are_refused_by_name():
    with pytest.raises(TypeError, match="seq_len"):
        interpolated()(batch_size=2)
    with pytest.raises(TypeError, match="sequence"):
        interpolated()(batch_size=2, seq_len=3, sequence=4)


def test_sums_and_differences_cancel_exactly():
    linear = Polynomial.of(["n"], {(1,): 3, (0,): 1})
    assert str(linear + linear) == "6 * n + 2"
    assert (linear - linear).terms == ()
    with pytest.raises(ValueError, match="dimensions differ"):
        linear + interpolated()


@given(
    st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=5),
    st.sets(st.integers(1, 10**6), min_size=5, max_size=5),
    st.integers(1, 10**9),
)
def test_any_polynomial_is_recovered_from_as_many_points_as_it_has_coefficients(
    coefficients, sizes, far
):
    def value(n):
        return sum(factor * n**power for power, factor in enumerate(coefficients))

    polynomial = interpolate(["n"], [sorted(sizes)], {(n,): value(n) for n in sizes})
    assert polynomial(n=far) == value(far)
