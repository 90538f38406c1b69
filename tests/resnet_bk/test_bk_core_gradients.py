"""The three gradients of BK-Core."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pytest_flops import bk_core


def _matrix(batch: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    a = torch.randn(batch, length, generator=generator, dtype=torch.float64)
    b, c = torch.rand(2, batch, max(length - 1, 0), generator=generator, dtype=torch.float64)
    return a, b, c


def _leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 66])
@pytest.mark.parametrize("z", [0.2 + 0.9j, -0.4j])
def test_the_exact_gradient_passes_gradcheck(length, z):
    shift = torch.tensor(z, dtype=torch.complex128)
    leaves = _leaves(*_matrix(2, length), shift)
    assert torch.autograd.gradcheck(bk_core, leaves)


@pytest.mark.parametrize(("length", "imaginary"), [(200, 1.0), (200, 0.1), (257, 0.01)])
def test_the_exact_gradient_equals_the_derivative_of_a_dense_inverse(
    dense_green, length, imaginary
):
    weights = torch.randn(2, length, 2, dtype=torch.float64)
    z = torch.tensor(complex(0.1, imaginary), dtype=torch.complex128)
    ours, truth = _leaves(*_matrix(2, length), z), _leaves(*_matrix(2, length), z)
    (bk_core(*ours) * weights).sum().backward()
    dense = torch.view_as_real(dense_green(*truth))
    (dense * weights).sum().backward()
    for found, expected in zip(ours, truth, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-9, atol=1e-9)


def test_a_shared_off_diagonal_gathers_the_gradients_of_all_rows():
    a, b, c = _matrix(3, 40)
    shared, each = b[0].clone().requires_grad_(), b[:1].expand(3, 39).clone().requires_grad_()
    bk_core(a, shared, c, 1j).square().sum().backward()
    bk_core(a, each, c, 1j).square().sum().backward()
    torch.testing.assert_close(shared.grad, each.grad.sum(0))


def test_only_the_wanted_gradients_are_given():
    a, b, c = _matrix(2, 10)
    c.requires_grad_()
    bk_core(a, b, c, 1j).sum().backward()
    assert a.grad is None
    assert b.grad is None
    assert c.grad is not None


def test_a_long_row_has_the_gradient_of_its_neighbourhood():
    """At z = i an element is felt 60 elements away by less than rounding."""
    a, b, c = _matrix(1, 150_000)
    inside = slice(70_000, 72_000)
    (whole,) = _leaves(a)
    (part,) = _leaves(a[:, inside])
    bk_core(whole, b, c, 1j).square().sum().backward()
    inner = slice(70_000, 71_999)
    bk_core(part, b[:, inner], c[:, inner], 1j).square().sum().backward()
    expected = part.grad[:, 100:-100]
    torch.testing.assert_close(whole.grad[:, 70_100:71_900], expected, rtol=0, atol=1e-13)


def test_rows_have_the_same_gradient_however_many_are_computed_together():
    a, b, c = _matrix(600, 150)
    (together,), (apart,) = _leaves(a), _leaves(a[-1:])
    bk_core(together, b, c, 1j).square().sum().backward()
    bk_core(apart, b[-1:], c[-1:], 1j).square().sum().backward()
    torch.testing.assert_close(together.grad[-1:], apart.grad, rtol=0, atol=1e-13)


def test_float32_rows_get_a_float32_gradient_as_good_as_their_dtype():
    a, b, c = _matrix(2, 500)
    exact, rounded = _leaves(a)[0], _leaves(a.float())[0]
    bk_core(exact, b, c, 1j).square().sum().backward()
    bk_core(rounded, b.float(), c.float(), 1j).square().sum().backward()
    assert rounded.grad.dtype == torch.float32
    torch.testing.assert_close(rounded.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_the_diagonal_gradient_is_minus_the_real_part_of_conjugate_g_times_the_square():
    a, b, c = _matrix(2, 30)
    incoming = torch.randn(2, 30, 2, dtype=torch.float64)
    (leaf,) = _leaves(a)
    features = bk_core(leaf, b, c, 1j, gradient="diagonal")
    features.backward(incoming)
    g, green = torch.view_as_complex(incoming), torch.view_as_complex(features.detach())
    torch.testing.assert_close(leaf.grad, -(g.conj() * green**2).real)


def test_the_diagonal_gradient_is_exact_without_off_diagonals():
    a = torch.randn(2, 9, dtype=torch.float64)
    zeros = torch.zeros(8, dtype=torch.float64)
    (exact,), (approximate,) = _leaves(a), _leaves(a)
    bk_core(exact, zeros, zeros, 1j).square().sum().backward()
    bk_core(approximate, zeros, zeros, 1j, gradient="diagonal").square().sum().backward()
    torch.testing.assert_close(approximate.grad, exact.grad)


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_the_hybrid_gradient_blends_hypothesis_seven_in(blend):
    a, b, c = _matrix(2, 30)
    incoming = torch.randn(2, 30, 2, dtype=torch.float64)
    (leaf,) = _leaves(a)
    features = bk_core(leaf, b, c, 1j, gradient="hybrid", grad_blend=blend)
    features.backward(incoming)
    g, green = torch.view_as_complex(incoming), torch.view_as_complex(features.detach())
    assert ((green**2).abs() > 1e-3).all()  # nothing to hold above the floor here
    expected = -(1 - blend) * (g.conj() * green**2).real - blend * (g / green**2).real
    torch.testing.assert_close(leaf.grad, expected)


def test_the_hybrid_gradient_holds_a_tiny_square_above_its_floor():
    a = torch.tensor([[1e6]], dtype=torch.float64, requires_grad=True)
    none = torch.zeros(0, dtype=torch.float64)
    features = bk_core(a, none, none, 1j, gradient="hybrid", grad_blend=1.0)
    features.backward(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64))
    # G = 1 / (1e6 - i), so G^2 is 1e-12 with phase 2e-6; held at 1e-3: -Re(1 / 1e-3 e^{i 2e-6}).
    assert a.grad.item() == pytest.approx(-1000.0, rel=1e-9)


@pytest.mark.parametrize("gradient", ["exact", "diagonal", "hybrid"])
def test_every_rule_descends(gradient):
    torch.manual_seed(0)
    a, b, c = _matrix(4, 50)
    target = bk_core(_matrix(4, 50)[0] + 0.3, b, c, 1j)
    (leaf,) = _leaves(a)
    losses = []
    for _ in range(30):
        loss = (bk_core(leaf, b, c, 1j, gradient=gradient, grad_blend=0.1) - target).square().sum()
        losses.append(loss.item())
        (slope,) = torch.autograd.grad(loss, leaf)
        leaf = (leaf - 0.05 * slope).detach().requires_grad_()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("gradient", ["exact", "diagonal", "hybrid"])
def test_double_backward_is_refused_with_a_clear_error(gradient):
    a, b, c = _matrix(1, 5)
    (leaf,) = _leaves(a)
    features = bk_core(leaf, b, c, 1j, gradient=gradient)
    (slope,) = torch.autograd.grad(features.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward not supported"):
        slope.sum().backward()


@pytest.mark.parametrize("argument", ["h0_super", "h0_sub", "z"])
def test_an_approximate_rule_refuses_arguments_it_has_no_gradient_for(argument):
    a, b, c = _matrix(1, 5)
    z = torch.tensor(1j, dtype=torch.complex128)
    arguments = {"he_diag": a, "h0_super": b, "h0_sub": c, "z": z}
    arguments[argument].requires_grad_()
    with pytest.raises(ValueError, match=f"^{argument} requires a gradient"):
        bk_core(**arguments, gradient="diagonal")
