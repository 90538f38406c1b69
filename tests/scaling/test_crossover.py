"""Where one cost overtakes another, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.scaling.polynomial import Polynomial, crossover, overtakes


def poly(*coefficients):
    """A polynomial in n from its coefficients, the constant first."""
    return Polynomial.of(["n"], {(power,): factor for power, factor in enumerate(coefficients)})


def test_the_quadratic_term_of_a_transformer_overtakes_where_arithmetic_says():
    # 288 n^2 > 56768 n from n > 197.1 on
    assert crossover(poly(0, 56768, 288)) == 198


def test_equal_is_not_yet_overtaken():
    assert crossover(poly(0, 100, 1)) == 101


def test_a_single_term_has_nothing_to_overtake():
    assert crossover(poly(0, 5)) is None
    assert crossover(poly()) is None


def test_a_falling_leading_term_overtakes_nothing():
    assert crossover(poly(10, -1)) is None


def test_the_last_of_several_crossings_counts():
    # n^3 > 12 n^2 - 41 n + 30 i.e. (n - 1)(n - 5)(n - 6) > 0: between 1 and 5, and from 7 on
    assert crossover(poly(30, -41, 12, 1)) == 7


def test_a_bisection_far_out_is_exact():
    assert overtakes(poly(0, 1), poly(10**40)) == 10**40 + 1


def test_attention_passes_the_rest_of_the_model():
    # two attentions of 4 n^2 + 8 n each against 800 n + 64 elsewhere: 8 n^2 + 16 n > 800 n + 64
    assert overtakes(poly(0, 16, 8), poly(64, 800)) == 99
    assert 8 * 99**2 + 16 * 99 > 800 * 99 + 64
    assert 8 * 98**2 + 16 * 98 <= 800 * 98 + 64


def test_several_dimensions_at_once_are_refused():
    both = Polynomial.of(["b", "n"], {(1, 2): 1, (1, 1): 5})
    with pytest.raises(ValueError, match="b, n"):
        crossover(both)


@given(st.lists(st.integers(-60, 60), min_size=2, max_size=4), st.integers(1, 3))
def test_the_crossover_is_what_trying_every_size_finds(rest, lead):
    polynomial = poly(*rest, lead)
    if len(polynomial.terms) < 2:
        return
    wins = [
        lead * n ** len(rest) > sum(c * n**k for k, c in enumerate(rest)) for n in range(1, 300)
    ]
    last_loss = max((n for n, win in enumerate(wins, start=1) if not win), default=0)
    assert crossover(polynomial) == last_loss + 1


def test_a_constant_overtakes_what_the_ranks_share() -> None:
    # 10 + 70 / ranks: 10 is more than the share from 8 ranks on.
    assert crossover(Polynomial.of(("ranks",), {(0,): 10, (-1,): 70})) == 8
