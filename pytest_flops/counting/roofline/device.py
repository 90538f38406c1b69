"""`Device`: what a datasheet says that a device computes and moves in a second, at its peak."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER = Path(__file__).with_name("devices")
_KEYS = ("name", "source", "gigabytes_per_second", "teraflops_per_second")
KINDS = ("float64", "float32", "tf32", "bfloat16", "float16", "float8")
"""The types of operands that a device may have a peak for."""


class DeviceError(ValueError):
    """A device that is not known, or whose file says too little; the message is for people."""


@dataclass(frozen=True, slots=True)
class Device:
    """How fast it computes and moves; products without sparsity.

    Attributes:
        name: As its maker calls it.
        source: The datasheet, and where it is.
        bandwidth: Of its memory, in bytes per second.
        peaks: Of products, in FLOPs per second by the type of their operands. What is no product is
            computed at that of `float32`.
    """

    name: str
    source: str
    bandwidth: float
    peaks: Mapping[str, float]

    def peak(self, kind: str) -> float:
        """FLOPs per second of products of a kind.

        Raises:
            DeviceError: The datasheet gives none.
        """
        found = self.peaks.get(kind)
        if found is None:
            raise DeviceError(
                f"the step multiplies {kind}, for which {self.name} has no peak; it has peaks for "
                f"{', '.join(self.peaks)}"
            )
        return found


def known_devices() -> list[str]:
    """The names of the devices that come with this package."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def device(name: str) -> Device:
    """The device of a name, or of the path of a YAML file in the form of those in `devices/`.

    Raises:
        DeviceError: There is none of this name, or the file cannot be read or understood.
    """
    known = known_devices()
    if name in known:
        return _read(_FOLDER / f"{name}.yaml")
    if Path(name).suffix.lower() in (".yaml", ".yml"):
        return _read(Path(name))
    asked = name.lower().replace("_", "-")
    near = [each for each in known if asked and each.startswith(asked)]
    near = near or get_close_matches(asked, known, n=1)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise DeviceError(
        f"there is no device {name!r}; {hint}There are {', '.join(known)}, or the path of a YAML "
        "file of your own"
    )


def _read(file: Path) -> Device:
    try:
        record: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DeviceError(f"{file}: cannot be read as YAML: {error}") from error
    if not isinstance(record, dict) or set(record) != set(_KEYS):
        raise DeviceError(f"{file}: a device has exactly the keys {', '.join(_KEYS)}")
    peaks = record["teraflops_per_second"]
    if not isinstance(peaks, dict) or "float32" not in peaks or not set(peaks) <= set(KINDS):
        raise DeviceError(
            f"{file}: teraflops_per_second holds float32 and none but {', '.join(KINDS)}"
        )
    figures = {"gigabytes_per_second": record["gigabytes_per_second"], **peaks}
    for key, figure in figures.items():
        if type(figure) not in (int, float) or not 0 < figure < 1e9:
            raise DeviceError(f"{file}: {key} is a number above 0, not {figure!r}")
    return Device(
        name=str(record["name"]),
        source=str(record["source"]),
        bandwidth=record["gigabytes_per_second"] * 1e9,
        peaks={kind: peak * 1e12 for kind, peak in peaks.items()},
    )
