"""Increases that an author accepted by recording them between two reports."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pytest_flops.counting.components import nearest
from pytest_flops.counting.metric import is_total, metric_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Quantity
    from pytest_flops.reports.entry import Entry

Records = dict[str | None, dict[str, int]]


def records_of(entry: Entry) -> Records:
    """The recorded counts an entry was held against, by component and quantity.

    `None` is the whole workload; only it has a total.
    """
    found: Records = defaultdict(dict)
    for verdict in entry.verdicts:
        held = verdict.kind == "recorded" and verdict.allowed is not None
        if held and verdict.quantity is not None and verdict.recorded is not None:
            found[verdict.component][verdict.quantity] = verdict.recorded
    return dict(found)


def is_newly_recorded(
    component: str | None,
    quantity: Quantity,
    counted: Measurement,
    records: tuple[Records, Records],
    allowed: Fraction,
) -> bool:
    """Whether a record that changed between two reports covers what the newer one counts.

    `records` are those of the older and of the newer report; `allowed` is how much of a record may
    be used: 1 plus the tolerance.
    """
    old, new = records
    # Records end at a depth: what is deeper is covered by its nearest recorded ancestor.
    holder = None if component is None else nearest(component, new)
    if holder not in new or (holder is not None and holder not in counted.components):
        return False
    limit = _recorded(new[holder], quantity)
    # A record that fell in another phase accepts nothing in this one.
    changed = limit != _recorded(old.get(holder, {}), quantity)
    return changed and counted.of(quantity, holder) <= int(limit * allowed)


def _recorded(records: Mapping[Quantity, int], quantity: Quantity) -> int:
    """The recorded count in a quantity; a component has no total, which its phases make."""
    if quantity in records or not is_total(quantity):
        return records.get(quantity, 0)
    metric = metric_of(quantity)
    return metric.joined(value for each, value in records.items() if metric_of(each) is metric)
