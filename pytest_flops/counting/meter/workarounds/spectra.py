"""`svdvals`, `eigvalsh` and `eigvals` compute vectors that nobody asked for under a dispatch mode.

PyTorch: they compute the vectors too where a gradient may be asked for, since that needs them, and
take it that it may for every tensor of a subclass (pytorch/pytorch#84137). While a dispatch mode is
active each tensor counts as one. So a meter would make these operators, and the norms and ranks
that rest on them, up to eight times as dear as they are. While a meter counts, tensors of
subclasses are given the values alone, too.
Seen in: 2.11 to 2.13.
May go when: `test_values_alone_cost_no_vectors_in_any_form` passes without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd.forward_ad import unpack_dual

_DEVICES = ("CPU", "CUDA", "MPS", "XPU", "Meta")
_aten = torch.ops.aten
_is_transformed: Callable[[Tensor], bool] = vars(torch._C._functorch)["is_functorch_wrapped_tensor"]  # noqa: SLF001


@contextmanager
def without_vectors() -> Iterator[None]:
    """While active, they compute vectors only where a gradient needs them, in every thread."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for operator, compute in SPECTRA.items():
        for device in _DEVICES:
            library.impl(operator, compute, f"Autograd{device}")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]  # noqa: SLF001 - there is no public way


def _svdvals(a: Tensor, *, driver: str | None = None) -> Any:
    """Singular values of `(..., m, n)`."""
    return _aten._linalg_svd(a, False, _needs_vectors(a), driver=driver)[1]  # noqa: SLF001


def _eigvalsh(a: Tensor, uplo: str = "L") -> Any:
    """Eigenvalues of the symmetric or Hermitian `(..., n, n)`."""
    return _aten._linalg_eigh(a, uplo, _needs_vectors(a))[0]  # noqa: SLF001


def _eigvals(a: Tensor) -> Any:
    """Eigenvalues of `(..., n, n)`, complex."""
    return _aten.linalg_eig(a)[0] if _needs_vectors(a) else _aten._linalg_eigvals(a)  # noqa: SLF001


def _needs_vectors(a: Tensor) -> bool:
    """Whether a gradient may be asked for: backward, forward mode, or by a transform."""
    tangent = unpack_dual(a).tangent  # type: ignore[no-untyped-call]
    wanted = torch.is_grad_enabled() and a.requires_grad
    return wanted or tangent is not None or _is_transformed(a)


SPECTRA: Mapping[OpOverload, Callable[..., Any]] = {
    _aten.linalg_svdvals.default: _svdvals,
    _aten.linalg_eigvalsh.default: _eigvalsh,
    _aten.linalg_eigvals.default: _eigvals,
}
"""What each of the three runs."""
