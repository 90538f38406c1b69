"""`Tally`: what a meter wrote down, added up by phase, component and operator."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter.module_paths import OUTSIDE_PATH, WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_flops.counting.meter.attribution import MeteredPhase, ThreadState

    _Phases: TypeAlias = dict[MeteredPhase, int]

_COLUMNS = ("component", "forward", "backward", "optimizer", "total")


@dataclass(frozen=True, slots=True)
class Tally:
    """What a meter found; the fields are those of `Measurement`."""

    count: FLOPsCount
    components: Mapping[str, FLOPsCount]
    operations: Mapping[str, FLOPsCount]
    uncounted: Mapping[str, int]
    unseen: tuple[str, ...]
    recomputed: int

    def table(self) -> str:
        """One line per component that cost something, indented as the model is nested."""
        rows = [_COLUMNS, _row("total", self.count)]
        for path, cost in self.components.items():
            if cost.total:
                rows.append(_row("  " * (path.count(".") + 1) + path, cost))
        return "\n".join((*_aligned(rows), *self._remarks()))

    def _remarks(self) -> Iterator[str]:
        if self.recomputed:
            yield f"recomputed in backward (activation checkpointing): {self.recomputed:,}"
        for operator, calls in self.uncounted.items():
            yield f"uncounted: {operator}, {calls} call{'s' if calls > 1 else ''}"
        if self.unseen:
            yield f"ran meanwhile, unseen: {', '.join(map(_printable, self.unseen))}"


def _row(name: str, cost: FLOPsCount) -> tuple[str, ...]:
    figures = (cost.forward, cost.backward, cost.optimizer, cost.total)
    return (_printable(name), *(f"{figure:,}" for figure in figures))


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for name, *figures in rows:
        cells = (figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True))
        yield "  ".join((name.ljust(widths[0]), *cells))


def tally(threads: Iterable[ThreadState], names: Mapping[int, str], unseen: Iterable[str]) -> Tally:
    """Add up the books of all threads; `names` gives the path of every module's number."""
    by_module: defaultdict[int, _Phases] = defaultdict(_phases)
    by_operator: defaultdict[str, _Phases] = defaultdict(_phases)
    uncounted: defaultdict[str, int] = defaultdict(int)
    for thread in threads:
        for (phase, module, operator), flops in thread.flops.copy().items():
            cost = int(flops)  # sizes are tensors while torch.jit traces
            by_module[module][phase] += cost
            by_operator[operator][phase] += cost
        for operator, calls in thread.uncounted.copy().items():
            uncounted[operator] += calls
    whole = _phases()
    by_path = defaultdict(_phases, {path: _phases() for path in names.values() if path != WHOLE})
    for module, phases in by_module.items():
        _add(whole, phases)
        for path in _with_ancestors(names[module]):
            _add(by_path[path], phases)
    return Tally(
        count=_count(whole),
        components={path: _count(phases) for path, phases in by_path.items()},
        operations={name: _count(phases) for name, phases in sorted(by_operator.items())},
        uncounted=dict(sorted(uncounted.items())),
        unseen=tuple(sorted(unseen)),
        recomputed=whole["recomputed"],
    )


def _phases() -> _Phases:
    return {"forward": 0, "backward": 0, "recomputed": 0, "optimizer": 0}


def _add(total: _Phases, phases: _Phases) -> None:
    for phase, flops in phases.items():
        total[phase] += flops


def _count(phases: _Phases) -> FLOPsCount:
    backward = phases["backward"] + phases["recomputed"]
    return FLOPsCount(phases["forward"], backward, phases["optimizer"])


def _with_ancestors(path: str) -> Iterator[str]:
    if path == OUTSIDE_PATH:
        yield path
        return
    while path:
        yield path
        path = path.rpartition(".")[0]
