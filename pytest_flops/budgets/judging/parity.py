"""The analytic count held against the metered one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.metric import FLOPS, quantity_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flops.counting.parity import Parity


def hold_parity(records: Iterable[Parity]) -> tuple[Verdict, ...]:
    """One verdict per record; a parity check of nothing is an error."""
    verdicts = tuple(
        Verdict(
            kind="parity",
            passed=record.agrees,
            quantity=quantity_of(FLOPS, record.phase),
            component=record.component,
            actual=record.analytic,
            allowed=record.metered,
        )
        for record in records
    )
    return verdicts or (Verdict("error", passed=False, message="the parity check counted nothing"),)
