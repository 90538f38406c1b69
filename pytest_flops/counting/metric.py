"""`Metric`: a kind of cost with a unit; `Quantity`: one metric in one phase, or in total.

FLOPs are the only metric that is registered so far. Budgets, judging and reports know a metric by
what is declared here and by nothing else, so that another one is added without editing them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pytest_flops.counting.count import PHASES

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
    # Whether 0 in every phase means that nothing was measured. A step without a FLOP ran no model;
    # a step without a host sync is a good one.
    zero_is_void: bool = False

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

FLOPS = Metric("flops", FLOP, zero_is_void=True)

METRICS: Final[dict[str, Metric]] = {FLOPS.name: FLOPS}
"""The registered metrics by name."""


def quantity_of(metric: Metric, phase: str) -> Quantity:
    """The quantity of a metric in a phase, or in `total`."""
    return phase if metric is FLOPS else f"{metric.name} {phase}"


def quantities_of(metric: Metric) -> tuple[Quantity, ...]:
    """The phases of a metric and its total, in the order in which they are told."""
    return tuple(quantity_of(metric, phase) for phase in (*PHASES, TOTAL))


def metric_of(quantity: Quantity) -> Metric:
    """What a quantity is a quantity of.

    Raises:
        KeyError: No metric of this name is registered.
    """
    name, space, _ = quantity.partition(" ")
    return METRICS[name] if space else FLOPS


def unit_of(quantity: Quantity) -> Unit:
    """What a quantity is counted in."""
    return metric_of(quantity).unit


def is_total(quantity: Quantity) -> bool:
    """Whether a quantity is of all phases together."""
    return quantity.rpartition(" ")[2] == TOTAL


QUANTITIES: Final = quantities_of(FLOPS)
"""The quantities of FLOPs."""
