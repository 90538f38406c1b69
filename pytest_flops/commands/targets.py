"""What the commands count: the workload of a budget, or a builder's, in the project around it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.counting.measure import measure_workload
from pytest_flops.counting.workload import Workload
from pytest_flops.session.extensions import importable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.session.session import Session


def file_of(target: str) -> Path | None:
    """The budget file that a target names; `None` of `package.module:builder`."""
    file = Path(target.partition("::")[0])
    return file if "::" in target or file.suffix.lower() in (".yaml", ".yml") else None


def workload_of(session: Session, given: argparse.Namespace) -> Workload:
    """The workload of a command's target, with the sizes and the configuration that are given.

    Raises:
        BudgetError: The file cannot be read or has several budgets, the budget has no workload, or
            the configuration is no mapping.
    """
    is_budget = file_of(given.target) is not None
    workload = _budgeted(session, given.target) if is_budget else Workload(given.target)
    asked = ("batch_size", "seq_len", "optimizer")
    sizes = {name: size for name in asked if (size := getattr(given, name, None)) is not None}
    return replace(workload, config={**workload.config, **_config(given)}, **sizes)


def measured(session: Session, workload: Workload, metrics: Sequence[str] = ()) -> Measurement:
    """Count a workload with what the project's plugins and `conftest.py` register."""
    # Who asks for the compiler's metrics here asks to compile.
    workload = replace(workload, compile=workload.compile or True)
    with counting(session):
        return measure_workload(workload, session.extensions.builders, metrics=metrics)


@contextmanager
def counting(session: Session) -> Iterator[None]:
    """While active, the project's costs are known and the modules of its folders importable.

    Raises:
        BudgetError: A plugin registers a wrong metric.
    """
    if session.extensions.mistakes:
        raise BudgetError("\n".join(session.extensions.mistakes))
    with session.counting(), importable(Path.cwd()):
        yield


def _budgeted(session: Session, target: str) -> Workload:
    from pytest_flops.budgets.files.loader import load_budgets

    file, separator, name = target.partition("::")
    budgets = load_budgets(file, builders=session.extensions.builders)
    if not separator and len(budgets) == 1:
        (name,) = budgets
    if name not in budgets:
        raise BudgetError(f"name one budget as {file}::NAME; it has {', '.join(budgets)}")
    workload = budgets[name].workload
    if workload is None:
        raise BudgetError(f"the budget {name!r} has no workload to count")
    return workload


def _config(given: argparse.Namespace) -> dict[str, Any]:
    import yaml

    text = getattr(given, "config", None) or ""
    try:
        found = yaml.safe_load(f"{{{text}}}")
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict) or None in found.values():
        raise BudgetError(f"--config {text} is not of the form 'width: 64, layers: 2'")
    return found
