"""`pytest-flops explain`: the cost of a budget's workload as an exact formula."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.commands.targets import counting, workload_of

if TYPE_CHECKING:
    import argparse

    from pytest_flops.counting.workload import Workload
    from pytest_flops.session.session import Session


def explain(session: Session, given: argparse.Namespace) -> int:
    """Print the formulas."""
    from pytest_flops.scaling.workloads import explain_workload

    workload = workload_of(session, given)
    over = given.over.split(",") if given.over else _sized(workload)
    with counting(session):
        explanation = explain_workload(workload, over, session.extensions.builders)
    print(json.dumps(explanation.to_dict(), indent=2) if given.json else explanation.to_text())
    return 0


def _sized(workload: Workload) -> list[str]:
    sizes = {"batch_size": workload.batch_size, "seq_len": workload.seq_len}
    found = [dimension for dimension, size in sizes.items() if size is not None]
    if not found:
        raise BudgetError("the workload has no batch_size and no seq_len; name others with --over")
    return found
