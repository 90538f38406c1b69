"""`Metric`: a kind of cost with a unit; `Quantity`: one metric in one phase, or in total.

Budgets, judging and reports know a metric by what is declared here and by nothing else, so that
another one is added without editing them. How it is counted stands in `counting.metrics`, how other
packages add theirs in `counting.registration`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pytest_flops.counting.count import PHASES, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_flops.counting.count import FLOPsCount

Quantity: TypeAlias = str
"""One metric in one phase, or in total: what a limit limits and a verdict compares.

It is the text that people write: `forward` and `total` are FLOPs, any other metric stands first, as
in `bytes forward`. It travels as it is; only the functions below take it apart."""

Join = Literal["sum", "max"]

TOTAL: Final = "total"


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What the values of a metric are counted in; they are whole numbers of it.

    Attributes:
        symbol: The unit itself, e.g. `"FLOP"`.
        noun: What an error calls a value, e.g. `"number of FLOPs"`.
        sizes: The size of every symbol that people may write, e.g. `{"FLOP": 1, "kFLOP": 1000}`.
        printed: The symbols that figures are printed with, ascending.
        usual: The symbol that an error suggests where none was given.
    """

    symbol: str
    noun: str
    sizes: Mapping[str, int]
    printed: tuple[str, ...]
    usual: str


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A kind of cost.

    Attributes:
        name: Its key in budgets and reports, e.g. `"flops"`.
        unit: What its values are counted in.
        join: How phases make a total and children a parent: FLOPs add up, a peak is the largest.
        phases: The phases that it has; without any there is a total alone.
        of_second_step: Whether a workload is counted in its second step, when the optimizer has its
            state.
        told_by_line: Whether a red verdict names the lines of somebody's own code that it comes
            from.
        told_by_operator: Whether its values by operator and phase are kept, in the `operations` of
            its details.
        of_compiler: Whether the compiler's events are counted, and not operators. Those are of the
            whole workload: without phases and components, in a second run of it, and comparable
            within one version of PyTorch.
        counter: Makes a `Counter` of `counting.metrics` for each meter. The built-in metrics have
            theirs in files of their names; any other without one can be read and not counted.
    """

    name: str
    unit: Unit
    join: Join = "sum"
    phases: tuple[str, ...] = PHASES
    of_second_step: bool = False
    told_by_line: bool = False
    told_by_operator: bool = False
    of_compiler: bool = False
    counter: Callable[[], Any] | None = None

    def joined(self, values: Iterable[int]) -> int:
        """The values of several phases, or of several children, as one."""
        return sum(values) if self.join == "sum" else max(values, default=0)


def _in_thousands(noun: str, usual: str, *symbols: str, **others: int) -> Unit:
    """A unit of symbols that are each 1000 times the one before; `others` may be written, too."""
    sizes = {symbol: 1000**power for power, symbol in enumerate(symbols)}
    return Unit(symbols[0], noun, sizes | others, symbols, usual)


FLOP = _in_thousands(
    "number of FLOPs", "GFLOP", "FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"
)
_BINARY = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
BYTE = _in_thousands("number of bytes", "GB", "B", "kB", "MB", "GB", "TB", **_BINARY)
CALL = Unit("calls", "number of calls", {"calls": 1, "call": 1}, ("calls",), "calls")
ELEMENT = _in_thousands("number of elements", "M", "elements", "k", "M", "G", "T")
MAC = _in_thousands("number of MACs", "GMAC", "MAC", "kMAC", "MMAC", "GMAC", "TMAC", "PMAC")
TIME = Unit(
    symbol="ns",
    noun="time",
    sizes={"us": 1000, "ns": 1, "µs": 1000, "ms": 1_000_000, "s": 1_000_000_000},
    printed=("ns", "µs", "ms", "s"),
    usual="ms",
)

OF_INDUCTOR: Final = ("kernels", "fused_bytes")
"""Metrics of the compiler that its backend Inductor alone has."""

FLOPS = Metric("flops", FLOP)
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
        Metric("communication", BYTE),
        Metric("collectives", CALL),
        PARAMETERS,
        TRAINABLE_PARAMETERS,
        *(
            Metric(name, CALL, phases=(), told_by_line=True, of_compiler=True)
            for name in ("graph_breaks", "recompiles", "graphs", "kernels")
        ),
        Metric("fused_bytes", BYTE, phases=(), told_by_line=True, of_compiler=True),
    )
}
"""The metrics by name: the built-in ones, those of plugins, and those that a report brought."""

BUILT_IN: Final = frozenset(METRICS)

ROOFLINE = Metric("roofline", TIME)
"""Reported and never limited, so not among them: a bound on the time, on a device."""

MACS = Metric("macs", MAC, phases=("forward",))
"""Likewise: FLOPs of products in the unit of other tools, which nobody should limit twice."""


def countable() -> dict[str, Metric]:
    """The metrics that can be counted here: all but those that only a report knows."""
    return {name: each for name, each in METRICS.items() if name in BUILT_IN or each.counter}


def described() -> dict[str, dict[str, Any]]:
    """What readers without its plugin must know of each metric that is not built in."""
    return {
        name: {"unit": asdict(each.unit), "join": each.join, "phases": list(each.phases)}
        for name, each in sorted(METRICS.items())
        if name not in BUILT_IN
    }


def learn(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Know the metrics that were `described` elsewhere, to read them; the registered ones stay."""
    for name, known in metrics.items():
        unit = {**known["unit"], "printed": tuple(known["unit"]["printed"])}
        read = Metric(name, Unit(**unit), join=known["join"], phases=tuple(known["phases"]))
        METRICS.setdefault(name, read)


def quantity_of(metric: Metric, phase: str) -> Quantity:
    """The quantity of a metric in a phase, or in `total`."""
    return phase if metric is FLOPS else f"{metric.name} {phase}"


def quantities_of(metric: Metric) -> tuple[Quantity, ...]:
    """The phases of a metric and its total, in the order in which they are told."""
    return tuple(quantity_of(metric, phase) for phase in (*metric.phases, TOTAL))


def metric_of(quantity: Quantity) -> Metric:
    """What a quantity is a quantity of.

    Raises:
        KeyError: No metric of this name is registered.
    """
    return METRICS[name_of_metric(quantity)]


def name_of_metric(quantity: Quantity) -> str:
    """The name of what a quantity is a quantity of, whether or not it is known."""
    name, space, _ = quantity.partition(" ")
    return name if space else FLOPS.name


def phase_of(quantity: Quantity) -> str:
    """The phase of a quantity, or `total`."""
    return quantity.rpartition(" ")[2]


def phases_of(quantity: Quantity) -> list[str]:
    """What a quantity is the sum, or the largest, of."""
    if is_total(quantity):
        return [*metric_of(quantity).phases] or [TOTAL]
    return [phase_of(quantity)]


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

    @property
    def torch(self) -> str | None:
        """The version of PyTorch that these are of; `None` where all versions count alike."""
        version: str | None = self.details.get("torch")
        return version

    def is_comparable_to(self, other: Costs) -> bool:
        """Whether the two differ by what was counted alone, and not by the version of PyTorch."""
        return self.torch == other.torch

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        parts = {path: dict(values) for path, values in self.components.items()}
        return {"whole": dict(self.whole), "components": parts, "details": dict(self.details)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Costs:
        """The inverse of `to_dict`."""
        parts = {path: _numbers(values) for path, values in record["components"].items()}
        return cls(_numbers(record["whole"]), parts, record.get("details", {}))


class Counted:
    """What has a cost in whole, by component and by operator: a measurement, or its record."""

    __slots__ = ()

    count: FLOPsCount
    components: Mapping[str, FLOPsCount]
    operations: Mapping[str, FLOPsCount]
    metrics: Mapping[str, Costs]

    def of(self, quantity: str, component: str | None = None) -> int:
        """What a component costs in a quantity, or the whole; 0 where it is not there."""
        metric = metric_of(quantity)
        if metric is not FLOPS:
            costs = self.metrics.get(metric.name)
            return costs.of(metric, phase_of(quantity), component) if costs else 0
        cost = self.count if component is None else self.components.get(component)
        return 0 if cost is None else cost.of(quantity)

    def if_there(self, quantity: str, component: str | None) -> int | None:
        """The same; `None` where there is no such component."""
        is_there = component is None or component in self.components
        return self.of(quantity, component) if is_there else None


def _numbers(record: Mapping[str, float]) -> dict[str, int]:
    return {phase: whole_number(value) for phase, value in record.items()}
