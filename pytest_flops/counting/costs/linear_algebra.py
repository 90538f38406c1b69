"""Linear algebra: the leading terms of Golub and Van Loan, Matrix Computations, 4th edition.

m >= n are the sizes of one matrix, k the right-hand sides. Complex arithmetic costs 4 times that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor

from pytest_flops.counting.costs.elements import first_tensor
from pytest_flops.counting.costs.table import Formulas, Rules


def _arithmetic(matrix: Tensor) -> int:
    """A complex multiply-add is 4 real ones."""
    return 4 if matrix.dtype.is_complex else 1


def _of_every_matrix(batch: Tensor, flops: int) -> int:
    return prod(batch.shape[:-2]) * flops * _arithmetic(batch)


def _sides(matrix: Tensor) -> tuple[int, int]:
    """The larger and the smaller side."""
    n, m = sorted(int(size) for size in matrix.shape[-2:])
    return m, n


def _householder(m: int, n: int) -> int:
    """R of a QR, or Q from its reflectors (section 5.2)."""
    return 2 * m * n**2 - 2 * n**3 // 3


def _factorisation(flops: Callable[[int, int], int], *, of: str = "self") -> Formulas:
    """A cost of the sides of every matrix."""

    def cost(matrix: Tensor) -> int:
        return _of_every_matrix(matrix, flops(*_sides(matrix)))

    return Formulas(cost, names={"matrix": of})


def _substitution(passes: int, *, of: str) -> Formulas:
    """`passes` triangular solves of n^2 per column of the solution, which knows the broadcast."""

    def cost(matrix: Tensor, out: Any) -> int:
        return passes * matrix.shape[-1] * first_tensor(out).numel() * _arithmetic(matrix)

    return Formulas(cost, names={"matrix": of})


def _svd(A: Tensor, full_matrices: bool, compute_uv: bool) -> int:
    """Golub and Van Loan, figure 8.6.1: values only, thin vectors, or all vectors."""
    m, n = _sides(A)
    if not compute_uv:
        flops = 4 * m * n**2 - 4 * n**3 // 3
    elif full_matrices:
        flops = 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    else:
        flops = 14 * m * n**2 + 8 * n**3
    return _of_every_matrix(A, flops)


def _qr(A: Tensor, mode: str) -> int:
    """Householder: `2mn^2 - 2n^3/3` for R, as much again for a thin Q, `4(m^2 n - ...)` for all."""
    m, n = _sides(A)
    full = 4 * (m**2 * n - m * n**2) + 4 * n**3 // 3
    of_q = {"r": 0, "reduced": _householder(m, n), "complete": full}[mode]
    return _of_every_matrix(A, _householder(m, n) + of_q)


def _reflect(self: Tensor, input2: Tensor, input3: Tensor, left: bool) -> int:
    """K reflectors of length m on n vectors (Golub and Van Loan, section 5.1.6)."""
    k, m, n = input2.shape[-1], self.shape[-2], input3.shape[-1 if left else -2]
    return _of_every_matrix(self, 2 * n * k * (2 * m - k))


def _solve(A: Tensor, out: tuple[Tensor, ...]) -> int:
    """LU of every A, then a forward and a back substitution per column of the solution."""
    n = A.shape[-1]
    substitutions = 2 * n * out[0].numel() * _arithmetic(A)
    return _of_every_matrix(A, 2 * n**3 // 3) + substitutions


def _least_squares(self: Tensor, out: tuple[Tensor, ...]) -> int:
    """Householder QR of every A, then Q^H b and a back substitution per column of the solution."""
    m, n = _sides(self)
    columns = out[0].numel() // self.shape[-1]
    substitutions = columns * (4 * m * n - n**2) * _arithmetic(self)
    return _of_every_matrix(self, _householder(m, n)) + substitutions


RULES: Rules = {
    "linalg_lu_factor_ex linalg_lu _linalg_det _linalg_slogdet": _factorisation(
        lambda m, n: m * n**2 - n**3 // 3, of="A"
    ),
    "linalg_lu_solve": _substitution(2, of="LU"),
    "linalg_ldl_factor_ex linalg_cholesky_ex cholesky": _factorisation(lambda _m, n: n**3 // 3),
    "linalg_ldl_solve": _substitution(2, of="LD"),
    "linalg_solve_triangular": _substitution(1, of="self"),
    "triangular_solve": _substitution(1, of="A"),
    "linalg_inv_ex": _factorisation(lambda _m, n: 2 * n**3, of="A"),
    "_cholesky_solve_helper": _substitution(2, of="A"),
    "cholesky_solve": _substitution(2, of="input2"),
    "cholesky_inverse": _factorisation(lambda _m, n: 2 * n**3 // 3),
    # a Taylor polynomial of degree 18 in 5 products (Bader, Blanes and Casas 2019); how often the
    # result is squared depends on values, and is not counted
    "linalg_matrix_exp": _factorisation(lambda _m, n: 5 * 2 * n**3),
    "linalg_eig": _factorisation(lambda _m, n: 25 * n**3),
    "_linalg_eigvals linalg_eigvals": _factorisation(lambda _m, n: 10 * n**3),
    "geqrf": _factorisation(_householder),
    "linalg_householder_product": _factorisation(_householder, of="input"),
    # thin SVD, scale, and one product
    "linalg_pinv": _factorisation(lambda m, n: 14 * m * n**2 + 8 * n**3 + n**2 + 2 * m * n**2),
    "_linalg_svd": _svd,
    # tridiagonalisation; with vectors the symmetric QR iteration
    "_linalg_eigh": lambda A, compute_v: _of_every_matrix(
        A, 9 * A.shape[-1] ** 3 if compute_v else 4 * A.shape[-1] ** 3 // 3
    ),
    "linalg_qr": _qr,
    "ormqr": _reflect,
    "_linalg_solve_ex": _solve,
    "linalg_lstsq": _least_squares,
}
