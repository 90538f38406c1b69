"""What a meter's threads have counted, added up to a `Measurement`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from pytest_flops.counting.components import summed_up
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter.module_paths import WHOLE

if TYPE_CHECKING:
    from pytest_flops.counting.meter.attribution import Attribution, MeteredPhase

    _Phases: TypeAlias = dict[MeteredPhase, int]


def measurement_of(attribution: Attribution) -> Measurement:
    """The sums over all threads, by module path and by operator.

    Every module of a root is a component, also one that costs nothing.
    """
    by_module: defaultdict[int, _Phases] = defaultdict(_phases)
    by_operator: defaultdict[str, _Phases] = defaultdict(_phases)
    uncounted: defaultdict[str, int] = defaultdict(int)
    whole = _phases()
    for thread in attribution.threads.copy():  # the copies: threads may run while this reads
        for (phase, module, operator), flops in thread.flops.copy().items():
            cost = int(flops)  # sizes are tensors while torch.jit traces
            by_module[module][phase] += cost
            by_operator[operator][phase] += cost
            whole[phase] += cost
        for name, calls in thread.uncounted.copy().items():
            uncounted[name] += calls
    names = attribution.paths.names()
    own: dict[str, FLOPsCount] = {}
    for number, path in names.items():
        if path != WHOLE:
            own[path] = own.get(path, FLOPsCount()) + _count(by_module[number])
    return Measurement(
        count=_count(whole),
        components=summed_up(own),
        source="meter",
        rules="executed",
        uncounted=dict(sorted(uncounted.items())),
        child_processes=sum(thread.child_processes for thread in attribution.threads),
        operations={name: _count(phases) for name, phases in sorted(by_operator.items())},
        recomputed=whole["recomputed"],
    )


def _phases() -> _Phases:
    return {"forward": 0, "backward": 0, "recomputed": 0, "optimizer": 0}


def _count(phases: _Phases) -> FLOPsCount:
    backward = phases["backward"] + phases["recomputed"]
    return FLOPsCount(phases["forward"], backward, phases["optimizer"])
