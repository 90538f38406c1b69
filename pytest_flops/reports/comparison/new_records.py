"""`NewRecords`: the increases that an author accepted by recording them between two reports."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.counting.components import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from pytest_flops.counting.count import FLOPsCount, Quantity
    from pytest_flops.reports.entry import Entry

Records = dict[str | None, dict[str, int]]


@dataclass(frozen=True)
class NewRecords:
    """The recorded counts of the newer report, by component (`None` is the whole workload).

    Attributes:
        recorded: By quantity; the total only of the whole workload.
        changed: The components whose record is not the older report's.
    """

    recorded: Records
    changed: frozenset[str | None]

    @classmethod
    def between(cls, before: Entry, after: Entry) -> NewRecords:
        """What the two entries were held against; an entry without records has none."""
        old, new = _records(before), _records(after)
        return cls(new, frozenset(path for path in new if new[path] != old.get(path)))

    def allow(
        self,
        component: str | None,
        quantity: Quantity,
        counts: Mapping[str | None, FLOPsCount],
        allowed: Fraction,
    ) -> bool:
        """Whether a new record covers this increase.

        Records end at a depth; what is deeper is covered by its nearest recorded ancestor.

        Args:
            component: What increased.
            quantity: In which quantity.
            counts: What the newer report counted.
            allowed: How much of a record may be used: 1 plus the tolerance.
        """
        holder = self._holder(component)
        if holder not in self.changed or holder not in counts:
            return False
        recorded = self.recorded[holder]
        limit = recorded.get(quantity, sum(recorded.values()) if quantity == "total" else 0)
        return counts[holder].of(quantity) <= int(limit * allowed)

    def _holder(self, component: str | None) -> str | None:
        known = [path for path in self.recorded if path is not None]
        return None if component is None else nearest(component, known)


def _records(entry: Entry) -> Records:
    found: Records = defaultdict(dict)
    for verdict in entry.verdicts:
        held = verdict.kind == "recorded" and verdict.allowed is not None
        if held and verdict.quantity is not None and verdict.recorded is not None:
            found[verdict.component][verdict.quantity] = verdict.recorded
    return dict(found)
