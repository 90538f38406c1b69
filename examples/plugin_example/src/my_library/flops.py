"""The pytest-flops hooks: pytest finds this module by the entry point in `pyproject.toml`.

Every pytest run imports it, and every run with budgets asks for the builders; so torch and the
model are imported inside the functions that count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any


def pytest_flops_register_builders() -> Mapping[str, Any]:
    """`model: smoother` in a budget file."""
    from pytest_flops.counting.builder import Builder

    return {"smoother": Builder(_build, problems=_problems, defaults={"width": 32})}


def pytest_flops_register_costs() -> Mapping[Any, Any]:
    """What operators and kernels cost; without this, a gate that meets them fails.

    FLOPs, or several costs by metric. An operator that reads its arguments once and writes its
    result once needs no cost in bytes.
    """
    costs: dict[Any, Any] = {
        "my_library::running_mean": _sum_and_divide,
        "my_library::running_mean_backward": _sum_and_divide,
        "my_library::mean_of_rows": {"flops": _one_per_value, "bytes": _rows_and_their_mean},
    }
    if find_spec("triton"):
        from my_library.kernels import halve

        costs[halve] = _one_per_element
    return costs


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


def _one_per_value(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    """As any reduction."""
    return int(len(args[1]) * out.numel())


def _rows_and_their_mean(args: Sequence[Any], _kwargs: Mapping[str, Any], out: Any) -> int:
    """Bytes: the rows that are taken, their numbers and the mean, and not the whole table."""
    return int(len(args[1]) * out.nbytes + args[1].nbytes + out.nbytes)


def _one_per_element(n: int) -> int:
    """Of a kernel the cost reads arguments by their names."""
    return n
