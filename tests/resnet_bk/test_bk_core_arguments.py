"""What BK-Core refuses, and how it says so."""

from __future__ import annotations

import math

import pytest
import torch

from pytest_flops import bk_core

A, OFF = torch.zeros(2, 5), torch.ones(4)


@pytest.mark.parametrize("z", [0, 1.5, 2 + 0j, torch.tensor(1 + 0j), complex(0, math.nan), 1e400j])
def test_a_shift_without_a_usable_imaginary_part_is_refused(z):
    with pytest.raises(ValueError, match="^z must be finite with Im z != 0"):
        bk_core(A, OFF, OFF, z)


@pytest.mark.parametrize("z", ["i", None, torch.ones(2) * 1j, torch.tensor(1.0), True])
def test_a_shift_that_is_no_complex_number_is_refused(z):
    with pytest.raises(ValueError, match="^z must be a complex number"):
        bk_core(A, OFF, OFF, z)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", range(3))
def test_nan_and_infinity_are_refused_by_the_name_of_their_argument(position, bad):
    arguments = [A.clone(), OFF.clone(), OFF.clone()]
    arguments[position].view(-1)[1] = bad
    name = ("he_diag", "h0_super", "h0_sub")[position]
    with pytest.raises(ValueError, match=f"^{name} holds NaN or infinity"):
        bk_core(*arguments, 1j)


def test_large_finite_values_whose_sum_overflows_are_accepted():
    features = bk_core(torch.full((1, 5), 3e38), OFF, OFF, 1j)
    assert features.isfinite().all()


@pytest.mark.parametrize("position", range(3))
def test_integers_are_refused_by_the_name_of_their_argument(position):
    arguments = [A, OFF, OFF]
    arguments[position] = arguments[position].long()
    name = ("he_diag", "h0_super", "h0_sub")[position]
    with pytest.raises(
        ValueError, match=rf"^{name} must be a floating-point tensor, not torch.int64"
    ):
        bk_core(*arguments, 1j)


@pytest.mark.parametrize("value", [3.0, [1.0], None, torch.ones(2, 5) * 1j])
def test_what_is_no_real_tensor_is_refused(value):
    with pytest.raises(ValueError, match="^he_diag must be a floating-point tensor"):
        bk_core(value, OFF, OFF, 1j)
    with pytest.raises(ValueError, match="^h0_sub must be a floating-point tensor"):
        bk_core(A, OFF, value, 1j)


@pytest.mark.parametrize("shape", [(5,), (1, 2, 5), ()])
def test_a_diagonal_that_is_no_batch_of_rows_is_refused(shape):
    with pytest.raises(ValueError, match=r"^he_diag must have shape \(B, N\)"):
        bk_core(torch.zeros(shape), OFF, OFF, 1j)


@pytest.mark.parametrize("shape", [(5,), (3,), (), (1, 4), (3, 4), (2, 5), (2, 1, 4)])
@pytest.mark.parametrize("name", ["h0_super", "h0_sub"])
def test_an_off_diagonal_of_the_wrong_shape_is_refused(name, shape):
    arguments = {"h0_super": OFF, "h0_sub": OFF, name: torch.ones(shape)}
    with pytest.raises(ValueError, match=rf"^{name} must have shape \(4,\) or \(2, 4\)"):
        bk_core(A, **arguments, z=1j)


@pytest.mark.parametrize("name", ["h0_super", "h0_sub"])
def test_an_off_diagonal_on_another_device_is_refused(name):
    arguments = {"h0_super": OFF, "h0_sub": OFF, name: OFF.to("meta")}
    with pytest.raises(ValueError, match=f"^{name} is on meta, he_diag on cpu"):
        bk_core(A, **arguments, z=1j)


def test_an_unknown_gradient_rule_is_refused():
    with pytest.raises(ValueError, match="^gradient must be one of 'exact', 'diagonal', 'hybrid'"):
        bk_core(A, OFF, OFF, 1j, gradient="exakt")


@pytest.mark.parametrize("blend", [-0.1, 1.1, math.nan])
def test_a_blend_outside_zero_and_one_is_refused(blend):
    with pytest.raises(ValueError, match="^grad_blend must be between 0 and 1"):
        bk_core(A, OFF, OFF, 1j, gradient="hybrid", grad_blend=blend)


@pytest.mark.parametrize("imaginary", [1.0, 0.1])
@pytest.mark.parametrize("length", [64, 100])
def test_unchecked_nan_never_reaches_another_row(length, imaginary):
    a, off = torch.randn(3, length), torch.ones(length - 1)
    spoilt = a.clone()
    spoilt[1, [0, length // 2, -1]] = math.nan
    a.requires_grad_()
    spoilt.requires_grad_()
    z = complex(0, imaginary)
    clean = bk_core(a, off, off, z, check_finite=False)
    found = bk_core(spoilt, off, off, z, check_finite=False)
    torch.testing.assert_close(found[[0, 2]], clean[[0, 2]], rtol=0, atol=0)
    assert found[1].isnan().all()
    clean.sum().backward()
    found.sum().backward()
    torch.testing.assert_close(spoilt.grad[[0, 2]], a.grad[[0, 2]], rtol=0, atol=0)
