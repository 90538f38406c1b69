"""`Parity`: one phase of one component, counted analytically and by the meter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.counting.components import OUTSIDE_PATH
from pytest_flops.counting.count import PHASES, Phase

if TYPE_CHECKING:
    from pytest_flops.counting.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Parity:
    """FLOPs of one phase of one component, counted both ways; `None` is the whole model."""

    component: str | None
    phase: Phase
    analytic: int  # by the executed rules
    metered: int

    @property
    def agrees(self) -> bool:
        """Whether both counts are the same."""
        return self.analytic == self.metered


def compare(analytic: Measurement, metered: Measurement) -> tuple[Parity, ...]:
    """Compare an analytic measurement with a metered one of the same step, phase by phase.

    A component that the meter did not meet counts as 0. One that only the meter met has no record
    of its own; its FLOPs are in the record of the component that contains it, and in the whole.
    """
    records = []
    for component in (None, *analytic.components):
        for phase in PHASES:
            theirs = metered.of(phase, component)
            if component is None:
                # The loss, which runs outside the model, is not in the analytic counts.
                theirs -= metered.of(phase, OUTSIDE_PATH)
            records.append(Parity(component, phase, analytic.of(phase, component), theirs))
    return tuple(records)
