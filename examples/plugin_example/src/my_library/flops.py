"""The pytest-flops hooks: pytest finds this module by the entry point in `pyproject.toml`.

Every pytest run imports it, and every run with budgets asks for the builders; so torch and the
model are imported inside the functions that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def pytest_flops_register_builders() -> Mapping[str, Any]:
    """`model: smoother` in a budget file."""
    from pytest_flops.counting.builder import Builder

    return {"smoother": Builder(_build, problems=_problems, defaults={"width": 32})}


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


def _build(**sizes: int) -> Any:
    from my_library.model import build_smoother

    return build_smoother(**sizes)


def _problems(workload: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What a budget file cannot leave to the builder."""
    if "seq_len" not in workload:
        yield ("seq_len",), "a smoother needs a seq_len"


def _sum_and_divide(args: Sequence[Any], _kwargs: Mapping[str, Any], _out: Any) -> int:
    """One addition to the running sum and one division per element."""
    return 2 * int(args[0].numel())
