"""`FLOPsCount`: what something costs, per phase, in whole floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Phase = Literal["forward", "backward", "optimizer"]

PHASES: tuple[Phase, ...] = ("forward", "backward", "optimizer")


@dataclass(frozen=True, slots=True)
class FLOPsCount:
    """FLOPs of the three phases of a training step; integers, exact at any size.

    Counts add (components of a model) and multiply by integers (identical layers, repeated steps).

    Raises:
        TypeError: A phase is no `int`; a fraction would be cut off where a gate compares.
    """

    forward: int = 0
    backward: int = 0
    optimizer: int = 0

    def __post_init__(self) -> None:
        for phase in PHASES:
            flops = getattr(self, phase)
            if not isinstance(flops, int):
                kind = type(flops).__name__
                raise TypeError(
                    f"{phase} is a whole number of FLOPs, an int, not {flops!r} ({kind})"
                )

    @property
    def total(self) -> int:
        """Forward, backward and optimizer together."""
        return self.forward + self.backward + self.optimizer

    def of(self, quantity: str) -> int:
        """FLOPs of one phase, or of all three for `"total"`."""
        flops: int = getattr(self, quantity)
        return flops

    def to_dict(self) -> dict[str, int]:
        """Every phase and the total, by name."""
        return {quantity: self.of(quantity) for quantity in (*PHASES, "total")}

    def by_phase(self) -> dict[str, int]:
        """The phases that cost something, by name."""
        return {phase: self.of(phase) for phase in PHASES if self.of(phase)}

    @classmethod
    def from_dict(cls, record: Mapping[str, int]) -> FLOPsCount:
        """The inverse of both; the total is derived, a missing phase is 0."""
        return cls(*(whole_number(record.get(phase, 0)) for phase in PHASES))

    def __add__(self, other: FLOPsCount) -> FLOPsCount:
        if not isinstance(other, FLOPsCount):
            return NotImplemented
        return FLOPsCount(
            self.forward + other.forward,
            self.backward + other.backward,
            self.optimizer + other.optimizer,
        )

    def __mul__(self, factor: int) -> FLOPsCount:
        if not isinstance(factor, int):
            return NotImplemented
        return FLOPsCount(self.forward * factor, self.backward * factor, self.optimizer * factor)

    __rmul__ = __mul__


def whole_number(number: float) -> int:
    """JSON has one kind of number; what another tool wrote again as `5.0` or `1e+17` is whole."""
    return int(number) if isinstance(number, float) and number.is_integer() else number  # type: ignore[return-value]
