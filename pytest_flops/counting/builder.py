"""`Builder`: what the name in `workload.model` stands for, and what it may know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pytest_flops import hookspecs
from pytest_flops.counting.workload import Workload

if TYPE_CHECKING:
    from pytest_flops.counting.measurement import Measurement, Rules
    from pytest_flops.counting.parity import Parity


class Accepted(NamedTuple):
    """What a builder makes of an object that a test or another builder gave it.

    Attributes:
        workload: The workload that the object stands for, in a step of one sequence of the length
            it takes. A size that is not `None` here has to be given to `flops.check()`.
        measure: Counts the object itself in a workload: this one, perhaps with other sizes,
            another optimizer or other rules.
    """

    workload: Workload
    measure: Callable[[Workload], Measurement]


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds the models of workloads. Only `build` is required; a bare function stands for it.

    Nothing is imported or built while budget files are read, so `problems`, `defaults`, `parity`,
    `accepts` and `default_rules` are asked of registered builders only, and not of a
    `"package.module:builder"`.

    Attributes:
        build: Called with the workload's `config`, `batch_size` and `seq_len` as keywords, sizes
            that are `None` left out. Returns `(model, inputs)`, which the meter counts, or with the
            functions `loss` and `optimizer` of `count_flops` behind them; inputs are
            a tensor, a tuple of positional or a mapping of keyword arguments. May also return an
            object that a registered builder accepts.
        measure: Counts a workload in another way than by building and metering it.
        problems: What is wrong with the `workload` of a budget file beyond the schema: pairs of
            the keys that lead to the mistake, e.g. `("config", "width")`, and the message. The
            file, line and column are added; a missing key is told at the mapping that lacks it.
            Gets the mapping as it was read, with a `config` in any case; values may be of any type.
        defaults: Every key of the configuration with the value it has when left out. Where given,
            other keys in a budget file are mistakes, and so are scaling limits over anything but
            `batch_size`, `seq_len` and the keys whose default is an integer.
        at: The workload with a dimension set to a size; by default `Workload.at`.
        parity: Counts a workload in two ways that have to agree, for a budget's `::parity` item.
        accepts: What `flops.check(x)` may be given: what to make of `x`, or `None` if it is not
            one of this builder's.
        default_rules: The counting rules of a workload that states none.
    """

    build: Callable[..., object]
    measure: Callable[[Workload], Measurement] | None = None
    problems: Callable[[Mapping[str, Any]], Iterable[tuple[tuple[str, ...], str]]] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    at: Callable[[Workload, str, int], Workload] = Workload.at
    parity: Callable[[Workload], Iterable[Parity]] | None = None
    accepts: Callable[[object], Accepted | None] | None = None
    default_rules: Rules = "executed"

    @property
    def dimensions(self) -> list[str]:
        """What a budget file may sweep; empty where `defaults` does not tell."""
        sizes = [key for key, value in self.defaults.items() if type(value) is int]
        return ["seq_len", "batch_size", *sizes] if self.defaults else []


Builders: TypeAlias = Mapping[str, "Builder | Callable[..., object]"]


def as_builder(found: Builder | Callable[..., object]) -> Builder:
    """A function as the builder it stands for."""
    return found if isinstance(found, Builder) else Builder(found)


def with_installed(builders: Builders | None) -> Iterator[Builders]:
    """The builders given, and then those that the installed pytest plugins register.

    In a pytest run the first are all; loading the plugins is left to callers that find nothing.
    """
    yield builders or {}
    yield installed_builders()


@cache
def installed_builders() -> Builders:
    """What the installed pytest plugins register, by name."""
    return hookspecs.joined(hookspecs.installed().pytest_flops_register_builders())


def accepted(counted: object, builders: Builders | None = None) -> Accepted | None:
    """What the first builder that accepts an object makes of it."""
    for known in with_installed(builders):
        for accepts in (as_builder(found).accepts for found in known.values()):
            if accepts and (what := accepts(counted)) is not None:
                return what
    return None
