"""Log-log exponents, local and fitted."""

from __future__ import annotations

from math import log

import pytest

from pytest_flops.scaling.sweep import fitted_exponent, local_exponents


def test_a_quadratic_has_local_exponents_of_two():
    assert local_exponents([2, 4, 8], [4, 16, 64]) == pytest.approx((2.0, 2.0))


def test_a_hidden_quadratic_has_local_exponents_that_rise():
    # 288 N^2 + 56768 N at 64, 512, 4096
    counts = [288 * n**2 + 56768 * n for n in (64, 512, 4096)]
    low, high = local_exponents([64, 512, 4096], counts)
    assert 1.0 < low < 1.5 < high < 2.0


def test_zeros_and_constants_have_exponent_zero():
    assert local_exponents([1, 2, 3], [0, 0, 0]) == (0.0, 0.0)
    assert local_exponents([1, 2, 3], [7, 7, 7]) == (0.0, 0.0)
    assert fitted_exponent([1, 2, 3], [0, 0, 0]) == (0.0, 0.0)


def test_growth_from_zero_is_steep_and_finite():
    assert local_exponents([2, 4], [0, 1024]) == pytest.approx((10.0,))


def test_a_size_without_the_component_is_no_growth():
    assert local_exponents([2, 4, 8], [None, 5, 10]) == pytest.approx((0.0, 1.0))
    assert fitted_exponent([2, 4, 8], [None, 5, 10]) == pytest.approx((1.0, 0.0))
    assert fitted_exponent([2, 4, 8], [None, None, 10]) == (0.0, 0.0)


def test_the_fit_error_is_what_the_slope_leaves_unexplained():
    # y = 0, log 2, 0 over x = -log 2, 0, log 2: slope 0, mean log(2) / 3
    slope, error = fitted_exponent([1, 2, 4], [1, 2, 1])
    residuals = [-log(2) / 3, 2 * log(2) / 3, -log(2) / 3]
    assert slope == pytest.approx(0.0)
    assert error == pytest.approx((sum(r * r for r in residuals) / 3) ** 0.5)
