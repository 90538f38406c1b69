"""`Metric`: a kind of cost with a unit; `Quantity`: one metric in one phase, or in total.

Budgets, judging and reports know a metric by what is declared here and by nothing else, so that
another one is added without editing them. How it is counted stands in `counting.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pytest_flops.counting.count import PHASES, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Quantity: TypeAlias = str
"""One metric in one phase, or in total: what a limit limits and a verdict compares.

It is the text that people write: `forward` and `total` are FLOPs, any other metric stands first, as
in `bytes forward`. It travels as it is; only the functions below take it apart."""

Join = Literal["sum", "max"]

TOTAL: Final = "total"


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What the values of a metric are counted in; they are whole numbers of it."""

    symbol: str  # the unit itself, e.g. "FLOP"
    noun: str  # what an error calls a value, e.g. "number of FLOPs"
    sizes: Mapping[str, int]  # of every symbol that people may write, e.g. {"kFLOP": 1000}
    printed: tuple[str, ...]  # the symbols that figures are printed with, ascending
    usual: str  # the symbol that an error suggests where none was given


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A kind of cost."""

    name: str  # its key in budgets and reports, e.g. "flops"
    unit: Unit
    # How phases make a total and children a parent: FLOPs add up, a peak is the largest.
    join: Join = "sum"
    # The phases that it has; without any there is a total alone.
    phases: tuple[str, ...] = PHASES
    # Whether 0 in every phase means that nothing was measured. A step without a FLOP ran no model;
    # a step without a host sync is a good one.
    zero_is_void: bool = False
    # Whether a workload is counted in its second step, when the optimizer has its state.
    of_second_step: bool = False
    # Whether a red verdict names the lines of somebody's own code that it comes from.
    told_by_line: bool = False
    # Whether its values by operator and phase are kept, in the `operations` of its details.
    told_by_operator: bool = False

    def joined(self, values: Iterable[int]) -> int:
        """The values of several phases, or of several children, as one."""
        return sum(values) if self.join == "sum" else max(values, default=0)


_FLOP_SYMBOLS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP")
FLOP = Unit(
    symbol="FLOP",
    noun="number of FLOPs",
    sizes={symbol: 1000**power for power, symbol in enumerate(_FLOP_SYMBOLS)},
    printed=_FLOP_SYMBOLS,
    usual="GFLOP",
)

_BYTE_SYMBOLS = ("B", "kB", "MB", "GB", "TB")
_BINARY_SYMBOLS = ("KiB", "MiB", "GiB", "TiB")
BYTE = Unit(
    symbol="B",
    noun="number of bytes",
    sizes={
        **{symbol: 1000**power for power, symbol in enumerate(_BYTE_SYMBOLS)},
        **{symbol: 1024**power for power, symbol in enumerate(_BINARY_SYMBOLS, start=1)},
    },
    printed=_BYTE_SYMBOLS,
    usual="GB",
)
CALL = Unit("calls", "number of calls", {"calls": 1, "call": 1}, ("calls",), "calls")
_ELEMENT_SYMBOLS = ("elements", "k", "M", "G", "T")
ELEMENT = Unit(
    symbol="elements",
    noun="number of elements",
    sizes={symbol: 1000**power for power, symbol in enumerate(_ELEMENT_SYMBOLS)},
    printed=_ELEMENT_SYMBOLS,
    usual="M",
)
_TIME_SYMBOLS = ("ns", "µs", "ms", "s")
TIME = Unit(
    symbol="ns",
    noun="time",
    sizes={"us": 1000, **{symbol: 1000**power for power, symbol in enumerate(_TIME_SYMBOLS)}},
    printed=_TIME_SYMBOLS,
    usual="ms",
)

FLOPS = Metric("flops", FLOP, zero_is_void=True)
SYNCS = Metric("syncs", CALL, phases=("forward", "backward"), told_by_line=True)
PARAMETERS = Metric("parameters", ELEMENT, phases=())
TRAINABLE_PARAMETERS = Metric("trainable_parameters", ELEMENT, phases=())

METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        FLOPS,
        Metric("bytes", BYTE, told_by_operator=True),
        Metric("peak_memory", BYTE, join="max", of_second_step=True),
        Metric("launches", CALL, told_by_line=True, told_by_operator=True),
        SYNCS,
        Metric("full_precision", FLOP, told_by_line=True),
        PARAMETERS,
        TRAINABLE_PARAMETERS,
    )
}
"""The registered metrics by name."""

ROOFLINE = Metric("roofline", TIME)
"""Reported and never limited, so not among them: a bound on the time, on a device."""


def quantity_of(metric: Metric, phase: str) -> Quantity:
    """The quantity of a metric in a phase, or in `total`."""
    return phase if metric is FLOPS else f"{metric.name} {phase}"


def quantities_of(metric: Metric) -> tuple[Quantity, ...]:
    """The phases of a metric and its total, in the order in which they are told."""
    return tuple(quantity_of(metric, phase) for phase in (*metric.phases, TOTAL))


def metrics_named(names: Iterable[str], *, unlimited: bool = False) -> tuple[Metric, ...]:
    """The metrics of these names besides FLOPs, which are always counted.

    The roofline is among them only where `unlimited` says that nobody will hold a limit.

    Raises:
        ValueError: There is no metric of a name.
    """
    names = [*dict.fromkeys(names)]
    known = {**METRICS, **({ROOFLINE.name: ROOFLINE} if unlimited else {})}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
    return tuple(known[name] for name in names if name != FLOPS.name)


def metric_of(quantity: Quantity) -> Metric:
    """What a quantity is a quantity of.

    Raises:
        KeyError: No metric of this name is registered.
    """
    name, space, _ = quantity.partition(" ")
    return METRICS[name] if space else FLOPS


def phase_of(quantity: Quantity) -> str:
    """The phase of a quantity, or `total`."""
    return quantity.rpartition(" ")[2]


def unit_of(quantity: Quantity) -> Unit:
    """What a quantity is counted in."""
    return metric_of(quantity).unit


def is_total(quantity: Quantity) -> bool:
    """Whether a quantity is of all phases together."""
    return phase_of(quantity) == TOTAL


QUANTITIES: Final = quantities_of(FLOPS)
"""The quantities of FLOPs."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a workload costs by a metric other than FLOPs, in whole numbers of its unit.

    Attributes:
        whole: The whole workload, by phase; under `total` where the metric has no phases.
        components: The same by component path. A tree: a component holds what its children cost,
            joined as the metric joins.
        details: What a metric tells beside its values, as plain types; `counting.metrics` says
            which of them do.
    """

    whole: Mapping[str, int]
    components: Mapping[str, Mapping[str, int]]
    details: Mapping[str, Any] = field(default_factory=dict)

    def of(self, metric: Metric, phase: str, component: str | None = None) -> int:
        """The value in a phase, or in `total`; 0 where it is not there."""
        found = self.whole if component is None else self.components.get(component, {})
        if phase == TOTAL and metric.phases:
            return metric.joined(found.values())
        return found.get(phase, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        parts = {path: dict(values) for path, values in self.components.items()}
        return {"whole": dict(self.whole), "components": parts, "details": dict(self.details)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Costs:
        """The inverse of `to_dict`."""
        parts = {path: _numbers(values) for path, values in record["components"].items()}
        return cls(_numbers(record["whole"]), parts, record.get("details", {}))


def _numbers(record: Mapping[str, float]) -> dict[str, int]:
    return {phase: whole_number(value) for phase, value in record.items()}
