"""BK-Core as a PyTorch operator: tracing, mapping, casting, strides, no data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from pytest_flops import bk_core

OPERATOR = torch.ops.pytest_flops


def _matrix(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    a = torch.randn(*shape, dtype=dtype)
    b, c = torch.rand(2, *shape[:-1], shape[-1] - 1, dtype=dtype)
    return a, b, c


def _gradients(function, *tensors: Tensor) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    return list(torch.autograd.grad(function(*leaves).square().sum(), leaves))


def test_the_operator_passes_opcheck():
    shift = torch.tensor([0.1, 0.8], dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (*_matrix(2, 9), shift)]
    torch.library.opcheck(OPERATOR.bk_core.default, (*leaves, "exact", 0.5, True, True))


@pytest.mark.parametrize("gradient", ["diagonal", "hybrid"])
def test_the_operator_with_an_approximate_gradient_passes_opcheck(gradient):
    a, b, c = _matrix(2, 9, dtype=torch.float32)
    shift = torch.tensor([0.1, 0.8], dtype=torch.float64)
    arguments = (a.requires_grad_(), b, c, shift, gradient, 0.5, True, False)
    torch.library.opcheck(OPERATOR.bk_core.default, arguments)


def test_the_backward_operator_passes_opcheck():
    matrix, shift = _matrix(2, 9), torch.tensor([0.1, 0.8], dtype=torch.float64)
    _, state = OPERATOR.bk_core(*matrix, shift, "exact", 0.5, True, True)
    incoming = torch.randn(2, 9, 2, dtype=torch.float64)
    arguments = (incoming, state, *matrix, shift, True, True)
    torch.library.opcheck(OPERATOR.bk_core_backward.default, arguments)


@pytest.mark.parametrize("gradient", ["diagonal", "hybrid"])
def test_the_approximate_backward_operator_passes_opcheck(gradient):
    incoming, features = torch.randn(2, 2, 9, 2)
    arguments = (incoming, features, gradient, 0.5)
    torch.library.opcheck(OPERATOR.bk_core_approximate_backward.default, arguments)


@pytest.mark.parametrize("gradient", ["exact", "diagonal", "hybrid"])
def test_it_compiles_into_one_graph_forward_and_backward(gradient):
    def function(x: Tensor) -> Tensor:
        return bk_core(torch.sin(x), ones, ones, 1j, gradient=gradient)

    x, ones = torch.randn(2, 20), torch.ones(19)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), function(x))
    torch.testing.assert_close(_gradients(compiled, x), _gradients(function, x))


@pytest.mark.parametrize("gradient", ["exact", "diagonal", "hybrid"])
def test_vmap_maps_the_diagonal_forward_and_backward(gradient):
    a, (_, b, c) = torch.randn(3, 2, 70, dtype=torch.float64), _matrix(70)

    def function(x: Tensor) -> Tensor:
        return bk_core(x, b, c, 1j, gradient=gradient)

    mapped = torch.vmap(function, in_dims=1)
    torch.testing.assert_close(mapped(a), torch.stack([function(x) for x in a.unbind(1)]))
    expected = torch.stack([_gradients(function, x)[0] for x in a.unbind(1)], dim=1)
    torch.testing.assert_close(_gradients(mapped, a)[0], expected)


def test_vmap_maps_off_diagonals_and_z():
    a, (_, b, c) = torch.randn(3, 2, 10, dtype=torch.float64), _matrix(3, 10)
    z = torch.tensor([1j, 0.5j, 0.2 + 0.3j], dtype=torch.complex128)
    mapped = torch.vmap(bk_core)
    expected = torch.stack([bk_core(*each) for each in zip(a, b, c, z, strict=True)])
    torch.testing.assert_close(mapped(a, b, c, z), expected)
    apart = [_gradients(bk_core, *each) for each in zip(a, b, c, z, strict=True)]
    together = [torch.stack(gradients) for gradients in zip(*apart, strict=True)]
    torch.testing.assert_close(_gradients(mapped, a, b, c, z), together)


def test_what_is_shared_under_vmap_gathers_the_gradients_of_all_samples():
    a, (_, b, c) = torch.randn(3, 2, 10, dtype=torch.float64), _matrix(10)
    mapped = torch.vmap(bk_core, in_dims=(0, None, None, None))
    z = torch.tensor(0.9j, dtype=torch.complex128)
    apart = [_gradients(bk_core, x, b, c, z) for x in a]
    expected = [sum(gradients) for gradients in list(zip(*apart, strict=True))[1:]]
    torch.testing.assert_close(_gradients(mapped, a, b, c, z)[1:], expected)


@pytest.mark.parametrize("gradient", ["exact", "hybrid"])
def test_batched_incoming_gradients_give_batched_gradients(gradient):
    a, b, c = _matrix(2, 12)
    a.requires_grad_()
    features = bk_core(a, b.detach(), c, 1j, gradient=gradient)
    incoming = torch.randn(3, 2, 12, 2, dtype=torch.float64)
    (together,) = torch.autograd.grad(
        features, a, incoming, is_grads_batched=True, retain_graph=True
    )
    apart = [torch.autograd.grad(features, a, g, retain_graph=True)[0] for g in incoming]
    torch.testing.assert_close(together, torch.stack(apart))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    a, b, c = (tensor.to(dtype) for tensor in _matrix(2, 30))
    features = bk_core(a, b, c, 1j)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, bk_core(a.float(), b.float(), c.float(), 1j))


def test_autocast_does_not_lower_the_precision():
    a, b, c = _matrix(2, 30, dtype=torch.float32)
    a.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        features = bk_core(a, b, c, 1j)
    torch.testing.assert_close(features, bk_core(a, b, c, 1j), rtol=0, atol=0)
    features.sum().backward()
    assert a.grad.dtype == torch.float32


def test_strided_and_expanded_inputs_are_what_they_look_like():
    a, _, _ = _matrix(30, 4)
    wide = torch.randn(4, 60, dtype=torch.float64)
    off = torch.rand(59, dtype=torch.float64)[::2][:29]
    strided, expanded = wide[:, ::2], wide[:1, ::2].expand(4, 30)
    assert not strided.is_contiguous()
    for he_diag in (strided, expanded, a.t()):
        plain = bk_core(he_diag.contiguous(), off.contiguous(), off.contiguous(), 1j)
        torch.testing.assert_close(bk_core(he_diag, off, off, 1j), plain, rtol=0, atol=0)


def test_a_strided_incoming_gradient_is_what_it_looks_like():
    a, b, c = _matrix(3, 20)
    incoming = torch.randn(2, 20, 3, dtype=torch.float64).permute(2, 1, 0)
    slopes = []
    for g in (incoming, incoming.contiguous()):
        leaf = a.clone().requires_grad_()
        bk_core(leaf, b, c, 1j).backward(g)
        slopes.append(leaf.grad)
    torch.testing.assert_close(*slopes, rtol=0, atol=0)


def test_shared_off_diagonals_are_the_same_as_repeated_ones():
    a, b, c = _matrix(3, 20)
    repeated = bk_core(a, b[:1].repeat(3, 1), c[:1].repeat(3, 1), 1j)
    torch.testing.assert_close(bk_core(a, b[0], c[0], 1j), repeated, rtol=0, atol=0)


def test_one_element_takes_a_complex_tensor_for_z_with_a_gradient():
    z = torch.tensor(2 + 1j, dtype=torch.complex64, requires_grad=True)
    a, none = torch.tensor([[3.0]]), torch.zeros(0)
    features = bk_core(a, none, none, z)
    # 1 / (3 - (2 + i)) = 1 / (1 - i) = (1 + i) / 2
    torch.testing.assert_close(features, torch.tensor([[[0.5, 0.5]]]))
    features[..., 0].sum().backward()
    # d/dz 1/(a - z) = 1/(a - z)^2 = ((1 + i) / 2)^2 = i/2; the gradient of Re is its conjugate.
    torch.testing.assert_close(z.grad, torch.tensor(-0.5j, dtype=torch.complex64))


@pytest.mark.parametrize("gradient", ["exact", "diagonal", "hybrid"])
def test_meta_tensors_pass_forward_and_backward(gradient):
    a = torch.empty(3, 50, device="meta", requires_grad=True)
    ones = torch.ones(49, device="meta")
    features = bk_core(a, ones, ones, 1j, gradient=gradient)
    features.sum().backward()
    assert (features.shape, features.dtype) == ((3, 50, 2), torch.float32)
    assert a.grad.shape == (3, 50)


def test_fake_tensors_pass_forward_and_backward():
    with FakeTensorMode():
        a, b, c = (torch.ones(3, n).requires_grad_() for n in (50, 49, 49))
        bk_core(a, b, c, 1j).sum().backward()
        assert (a.grad.shape, b.grad.shape, c.grad.shape) == ((3, 50), (3, 49), (3, 49))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_in_gives_nothing_out(shape):
    a = torch.ones(shape, requires_grad=True)
    ones = torch.ones(max(shape[1] - 1, 0))
    features = bk_core(a, ones, ones, 1j)
    features.sum().backward()
    assert features.shape == (*shape, 2)
    assert a.grad.shape == shape
