"""The pytest-flops hooks: pytest finds this module by the entry point in `pyproject.toml`.

Every pytest run imports it, so torch and the model are imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def pytest_flops_register_builders() -> Mapping[str, Callable[..., Any]]:
    """`model: smoother` in a budget file."""
    from my_library.model import build_smoother

    return {"smoother": build_smoother}


def pytest_flops_register_costs() -> Mapping[str, Callable[..., int]]:
    """What the operators cost; without this, a gate that meets them fails."""
    return {
        "my_library::running_mean": _sum_and_divide,
        "my_library::running_mean_backward": _sum_and_divide,
    }


def pytest_flops_report() -> Mapping[str, str]:
    """Which version of this library was counted."""
    try:
        return {"my_library": version("my-library")}
    except PackageNotFoundError:
        return {"my_library": "not installed"}


def _sum_and_divide(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """One addition to the running sum and one division per element."""
    return 2 * int(args[0].numel())
