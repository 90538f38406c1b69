"""BK-Core on a GPU against the CPU in float64."""

from __future__ import annotations

import pytest
import torch

from pytest_flops import bk_core

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.parametrize("imaginary", [1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("shape", [(3, 1), (3, 77), (64, 2048), (2, 100_000)])
def test_features_and_gradients_are_those_of_the_cpu(shape, imaginary):
    batch, length = shape
    torch.manual_seed(length)
    a, off = torch.randn(batch, length), torch.rand(length - 1)
    incoming = torch.randn(batch, length, 2)
    z = torch.tensor(complex(0.1, imaginary), dtype=torch.complex128)
    cpu = [tensor.requires_grad_() for tensor in (a.double(), off.double(), z.clone())]
    gpu = [tensor.requires_grad_() for tensor in (a.cuda(), off.cuda(), z.clone())]
    truth, found = bk_core(cpu[0], cpu[1], cpu[1], cpu[2]), bk_core(gpu[0], gpu[1], gpu[1], gpu[2])
    truth.backward(incoming.double())
    found.backward(incoming.cuda())
    green, exact = torch.view_as_complex(found.cpu().double()), torch.view_as_complex(truth)
    assert ((green - exact).abs() / exact.abs()).max() <= 4e-7 / imaginary
    for ours, theirs in zip(gpu, cpu, strict=True):
        error = (ours.grad.cpu().to(theirs.dtype) - theirs.grad).abs()
        assert error.numel() == 0 or error.max() <= 1e-5 / imaginary * theirs.grad.abs().max()


def test_the_operator_passes_opcheck_on_cuda():
    a, b, c = torch.randn(2, 9).cuda(), torch.rand(2, 8).cuda(), torch.rand(2, 8).cuda()
    shift = torch.tensor([0.1, 0.8], dtype=torch.float64)
    arguments = (a.requires_grad_(), b, c, shift, "exact", 0.5, True, False)
    torch.library.opcheck(torch.ops.pytest_flops.bk_core.default, arguments)


def test_unchecked_nan_never_reaches_another_row_on_cuda():
    a, off = torch.randn(3, 3000), torch.ones(2999).cuda()
    clean = bk_core(a.cuda(), off, off, 1j)
    a[1, ::7] = float("nan")
    found = bk_core(a.cuda(), off, off, 1j, check_finite=False)
    assert torch.equal(found[[0, 2]], clean[[0, 2]])
