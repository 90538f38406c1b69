"""BK-Core's FLOP formulas against the pivot algorithm, written out and counted as it runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pytest_flops import bk_core
from pytest_flops.resnet_bk.bk_core.flops import backward_flops, forward_flops
from pytest_flops.resnet_bk.bk_core.operator import approximate_gradient

COMPLEX = {"add": 2, "sub": 2, "rsub": 2, "mul": 6, "div": 11, "reciprocal": 11, "sum": 2}
REAL = {"add": 1, "sub": 1, "rsub": 1, "mul": 1, "div": 1, "neg": 1, "abs": 1, "clamp_min": 1}


class Tally(TorchDispatchMode):
    """Adds up FLOPs by the rules: complex add 2, multiply 6, divide 11, by a real 2, real 1."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "sum":
            self.flops += args[0].numel() * COMPLEX["sum"]
        elif isinstance(result, Tensor) and name in {*COMPLEX, *REAL}:
            self.flops += result.numel() * self._price(name, result, args)
        return result

    @staticmethod
    def _price(name: str, result: Tensor, args: tuple[Tensor, ...]) -> int:
        if not result.is_complex():
            return REAL[name]
        by_a_real = name == "mul" and not all(arg.is_complex() for arg in args)
        return 2 if by_a_real else COMPLEX[name]


def _forward(a: Tensor, b: Tensor, c: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """d, e, G and k by pivots: column by column, `(B, N)`."""
    alpha, k = a - z, b * c
    left, right = [alpha[:, 0]], [alpha[:, -1]]
    for i in range(1, a.shape[1]):
        left.append(alpha[:, i] - k[:, i - 1] / left[-1])
    for i in range(a.shape[1] - 2, -1, -1):
        right.append(alpha[:, i] - k[:, i] / right[-1])
    d, e = torch.stack(left, 1), torch.stack(right[::-1], 1)
    return d, e, (d + e - alpha).reciprocal(), k


def _exact(h: Tensor, d: Tensor, e: Tensor, green: Tensor, k: Tensor) -> tuple[Tensor, ...]:
    """`S`, u and v of the exact backward."""
    t, w = k / (d[:, :-1] * e[:, 1:]), green * h
    u, v = [w[:, 0]], [w[:, -1]]
    for i in range(1, d.shape[1]):
        u.append(w[:, i] + t[:, i - 1] * u[-1])
    for i in range(d.shape[1] - 2, -1, -1):
        v.append(w[:, i] + t[:, i] * v[-1])
    down, up = torch.stack(u, 1), torch.stack(v[::-1], 1)
    return green * (down + up - w), down, up


@pytest.fixture(params=[(1, 1), (2, 2), (3, 7)], ids=str)
def matrix(request) -> list[Tensor]:
    batch, length = request.param
    a, b, c = (torch.rand(batch, n, dtype=torch.float64) for n in (length, length - 1, length - 1))
    return [a, b, c, torch.tensor(0.3 + 0.8j, dtype=torch.complex128)]


def test_forward_costs_what_pivots_written_out_execute(matrix):
    with Tally() as tally:
        _, _, green, _ = _forward(*matrix)
    torch.testing.assert_close(torch.view_as_real(green), bk_core(*matrix))
    assert tally.flops == forward_flops(*matrix[0].shape)


def test_backward_costs_what_the_recurrences_written_out_execute(matrix):
    a, b, c, z = (argument.clone().requires_grad_() for argument in matrix)
    incoming = torch.randn(*a.shape, 2, dtype=torch.float64)
    bk_core(a, b, c, z).backward(incoming)
    d, e, green, k = _forward(*matrix)
    h = torch.view_as_complex(incoming).conj()
    with Tally() as tally:
        total, u, v = _exact(h, d, e, green, k)
        to_a = -total.real
    assert tally.flops == backward_flops(*a.shape)
    torch.testing.assert_close(a.grad, to_a)
    with Tally() as tally:
        slope = (green[:, :-1] / e[:, 1:] * (u[:, :-1] + v[:, 1:])).real
        to_b, to_c = slope * matrix[2], slope * matrix[1]
    extra = backward_flops(*a.shape, off_diagonals=True) - backward_flops(*a.shape)
    assert tally.flops == extra
    torch.testing.assert_close([b.grad, c.grad], [to_b, to_c])
    with Tally() as tally:
        to_z = total.sum(1).conj()
    assert tally.flops == backward_flops(*a.shape, shift=True) - backward_flops(*a.shape)
    torch.testing.assert_close(z.grad, to_z.sum())


def test_the_approximate_gradients_cost_what_they_execute():
    incoming, green = torch.randn(2, 3, 7, dtype=torch.complex128)
    with Tally() as tally:
        _ = -(incoming.conj() * (green * green)).real
    assert tally.flops == backward_flops(3, 7, "diagonal")
    with Tally() as tally:
        approximate_gradient(incoming, green, "hybrid", 0.5)
    assert tally.flops == backward_flops(3, 7, "hybrid")


def test_hand_counted_figures_of_one_row_of_three():
    # k 2; alpha 6; d and e 2 x 2 x 13 = 52; G 3 x 15 = 45.
    assert forward_flops(1, 3) == 2 + 6 + 52 + 45
    # t 2 x 17 = 34; w 18; u and v 2 x 2 x 8 = 32; S 3 x 10 = 30; sign 3.
    assert backward_flops(1, 3) == 34 + 18 + 32 + 30 + 3


def test_nothing_costs_nothing():
    assert forward_flops(0, 9) == forward_flops(4, 0) == 0
    assert backward_flops(0, 9) == backward_flops(4, 0) == 0


def _counted(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("gradient", ["exact", "diagonal", "hybrid"])
def test_pytorchs_counter_sees_the_formulas_on_every_device(gradient, device):
    a = torch.ones(3, 50, device=device, requires_grad=True)
    ones = torch.ones(49, device=device)
    features = None

    def forward() -> None:
        nonlocal features
        features = bk_core(a, ones, ones, 1j, gradient=gradient)

    assert _counted(forward) == forward_flops(3, 50)
    assert _counted(lambda: features.sum().backward()) == backward_flops(3, 50, gradient)


def test_pytorchs_counter_sees_the_gradients_of_off_diagonals_and_z():
    a, b, c = (torch.ones(3, n, requires_grad=True) for n in (50, 49, 49))
    z = torch.tensor(1j, requires_grad=True)
    features = bk_core(a, b, c, z)
    expected = backward_flops(3, 50, off_diagonals=True, shift=True)
    assert _counted(lambda: features.sum().backward()) == expected
