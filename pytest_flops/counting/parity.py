"""`Parity`: one phase of one component, counted analytically and by the meter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flops.counting.count import PHASES, FLOPsCount, Phase
from pytest_flops.counting.meter.module_paths import OUTSIDE_PATH

if TYPE_CHECKING:
    from pytest_flops.counting.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Parity:
    """One phase of one component, counted both ways.

    Attributes:
        component: The component's path; `None` is the whole model.
        phase: `forward`, `backward` or `optimizer`.
        analytic: FLOPs by the executed rules.
        metered: FLOPs the meter saw.
    """

    component: str | None
    phase: Phase
    analytic: int
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
    # The loss runs outside the model, and the analytic counter leaves it to the training script.
    whole = metered.count + metered.components.get(OUTSIDE_PATH, FLOPsCount()) * -1
    pairs: list[tuple[str | None, FLOPsCount, FLOPsCount]] = [(None, analytic.count, whole)]
    for component, cost in analytic.components.items():
        pairs.append((component, cost, metered.components.get(component, FLOPsCount())))
    return tuple(
        Parity(component, phase, ours.of(phase), theirs.of(phase))
        for component, ours, theirs in pairs
        for phase in PHASES
    )
