"""Conjugates inside an operator that is made of others: right inside the meter too.

A conjugate is a flag of the tensor there, which a dispatch key of its own heeds. Below a dispatch
mode that key is switched off, since the mode has been called behind it; so an operator that is made
of others and conjugates between them computes with what is not conjugated, inside any mode (2.11 to
2.13). Of PyTorch's operators `linalg.pinv` and `lstsq` do so, and composite ones, which reach the
mode whole under `torch.inference_mode`; any custom operator may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._C import DispatchKey

if TYPE_CHECKING:
    from collections.abc import Callable

_MADE_OF_OTHERS = frozenset({"aten.linalg_pinv", "aten.linalg_lstsq"})


def may_conjugate_inside(name: str) -> bool:
    """Whether an operator of this name is, or may be, made of others that conjugate."""
    return name in _MADE_OF_OTHERS or not name.startswith(("aten.", "prims."))


def resolving_conjugates(run: Callable[..., Any]) -> Callable[..., Any]:
    """An operator as it runs where no mode is active."""

    def run_heeding(*args: Any, **kwargs: Any) -> Any:
        included = torch._C._dispatch_tls_local_include_set()  # noqa: SLF001
        excluded = torch._C._dispatch_tls_local_exclude_set()  # noqa: SLF001
        excluded = excluded.remove(DispatchKey.Conjugate).remove(DispatchKey.Negative)
        with torch._C._ForceDispatchKeyGuard(included, excluded):  # noqa: SLF001
            return run(*args, **kwargs)

    return run_heeding
