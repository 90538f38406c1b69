"""`linalg.pinv` and `lstsq` of complex matrices, which PyTorch gets wrong inside a dispatch mode.

A conjugate is a flag of the tensor there, which a dispatch key of its own heeds. Below a mode that
key is switched off, since the mode has been called behind it; so an operator that is made of others
and conjugates between them, as these do, computes with what is not conjugated (2.11 to 2.13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._C import DispatchKey

if TYPE_CHECKING:
    from collections.abc import Callable

CONJUGATE_INSIDE = frozenset({"aten.linalg_pinv", "aten.linalg_lstsq"})


def heeding_conjugates(run: Callable[..., Any]) -> Callable[..., Any]:
    """An operator as it runs where no mode is active."""

    def run_heeding(*args: Any, **kwargs: Any) -> Any:
        included = torch._C._dispatch_tls_local_include_set()  # noqa: SLF001
        excluded = torch._C._dispatch_tls_local_exclude_set()  # noqa: SLF001
        excluded = excluded.remove(DispatchKey.Conjugate).remove(DispatchKey.Negative)
        with torch._C._ForceDispatchKeyGuard(included, excluded):  # noqa: SLF001
            return run(*args, **kwargs)

    return run_heeding
