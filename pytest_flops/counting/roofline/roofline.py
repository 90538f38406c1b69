"""`Roofline`: the least time that a device needs for a step, call by call.

A call can be no faster than its FLOPs at the peak of its operands' type, nor than its bytes at the
bandwidth of the memory. The larger of the two is its bound, and the sum over all calls is that of
the step: nothing runs beside another, and to launch a call takes no time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.components import ancestors
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import ROOFLINE
from pytest_flops.counting.metrics import PHASE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.roofline.device import Device


class FasterThanTheBoundError(ValueError):
    """A step time that the device could not reach; the message is for people."""


@dataclass(slots=True)
class Bound:
    """The bound of a part of a step.

    Attributes:
        flops: What it computes.
        moved: The bytes that it moves.
        seconds: The least time that it takes.
        computing: The part of that in which computing takes longer than moving.
    """

    flops: int = 0
    moved: int = 0
    seconds: float = 0.0
    computing: float = 0.0

    @property
    def intensity(self) -> float:
        """FLOPs per byte; 0 where nothing is moved."""
        return self.flops / self.moved if self.moved else 0.0

    @property
    def compute_share(self) -> float:
        """Which part of the bound is computing; 0 where there is no bound."""
        return self.computing / self.seconds if self.seconds else 0.0

    def add(self, moved: int, computing: float, moving: float) -> None:
        """Add calls that take so many seconds to compute, or to move what they move."""
        self.moved += moved
        self.seconds += max(computing, moving)
        self.computing += computing if computing >= moving else 0.0

    def to_dict(self) -> dict[str, float]:
        """Plain types only, ready for JSON."""
        return {
            "flops": self.flops,
            "bytes": self.moved,
            "intensity": self.intensity,
            "seconds": self.seconds,
            "compute_share": self.compute_share,
        }


@dataclass(frozen=True, slots=True)
class Roofline:
    """The bounds of a step and of its parts on a device.

    Attributes:
        device: The device.
        whole: The whole step.
        phases: By phase.
        components: By component path, a tree: a component's bound contains its children's.
        products: The FLOPs of products by the type of their operands, as counted, without those
            that a checkpoint computes again.
    """

    device: Device
    whole: Bound
    phases: Mapping[str, Bound]
    components: Mapping[str, Bound]
    products: Mapping[str, int]

    def mfu(self, seconds: float) -> float:
        """The model FLOPs utilisation of a step that took so long.

        It is the FLOPs of the step's products per second, as a share of the peak of the type that
        most of them are computed in.

        Raises:
            FasterThanTheBoundError: The device cannot be that fast.
        """
        if seconds < self.whole.seconds:
            raise FasterThanTheBoundError(
                f"a step of {seconds * 1e3:.4g} ms is faster than the bound, "
                f"{self.whole.seconds * 1e3:.4g} ms: the time or the device is not this one's"
            )
        if not self.products:
            return 0.0
        most = max(self.products, key=self.products.__getitem__)
        return sum(self.products.values()) / seconds / self.device.peak(most)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "device": self.device.name,
            "source": self.device.source,
            "whole": self.whole.to_dict(),
            "phases": {phase: bound.to_dict() for phase, bound in self.phases.items()},
            "components": {path: bound.to_dict() for path, bound in self.components.items()},
            "products": dict(self.products),
        }


def roofline(measurement: Measurement, device: Device, *, tf32: bool = False) -> Roofline:
    """The bound of a step that was counted with the metric `roofline`.

    Args:
        measurement: Of the meter.
        device: What it would run on.
        tf32: Whether products of float32 may be computed in TF32, whatever PyTorch's settings say.

    Raises:
        DeviceError: The device has no peak for a type that the step multiplies.
    """
    whole = Bound(measurement.count.total)
    phases: dict[str, Bound] = {phase: Bound(measurement.count.of(phase)) for phase in PHASES}
    components = {path: Bound(cost.total) for path, cost in measurement.components.items()}
    products: Counter[str] = Counter()
    calls = measurement.metrics[ROOFLINE.name].details["calls"]
    for path, metered, counted, flops, computed, moved, times in calls:
        kind = _computed_in(counted, device, tf32=tf32)
        computing = computed / device.peak(kind or "float32")
        parts = [components[each] for each in (*ancestors(path), path) if each in components]
        phase = phases[PHASE[metered]]
        for part in (whole, phase, *parts):
            part.add(moved * times, computing * times, moved / device.bandwidth * times)
        if kind and metered != "recomputed":
            products[kind] += flops * times
    return Roofline(device, whole, phases, components, dict(products.most_common()))


def _computed_in(kind: str, device: Device, *, tf32: bool) -> str:
    """The type that a device computes a product in: TF32 for float32, where it can and may."""
    if kind not in ("float32", "tf32"):
        return kind
    return "tf32" if "tf32" in device.peaks and (tf32 or kind == "tf32") else "float32"
