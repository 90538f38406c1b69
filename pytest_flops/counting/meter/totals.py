"""What a meter's threads have counted, added up to a `Measurement`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from operator import itemgetter

from pytest_flops.counting.components import OUTSIDE_PATH, ancestors, summed_up
from pytest_flops.counting.count import PHASES, FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter.attribution import Attribution
from pytest_flops.counting.meter.module_paths import WHOLE
from pytest_flops.counting.metric import TOTAL, TRAINABLE_PARAMETERS, Costs, Metric
from pytest_flops.counting.metrics import PHASE, Finisher

_PLACE = {metered: PHASES.index(phase) for metered, phase in PHASE.items()}  # in a FLOPsCount


def measurement_of(attribution: Attribution) -> Measurement:
    """The sums over all threads, by module path, by operator, and by both.

    Every module of a root is a component, also one that costs nothing.
    """
    threads = attribution.threads.copy()  # the copies: threads may run while this reads
    counted = [place for thread in threads for place in thread.flops.copy().items()]
    paths = attribution.paths.names()  # after these copies, so that it has all their modules
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    recomputed = 0
    for (phase, module, operator), flops in counted:
        exact = int(flops)  # sizes are tensors while torch.jit traces
        found[paths[module], operator][_PLACE[phase]] += exact
        recomputed += exact if phase == "recomputed" else 0
    uncounted: Counter[str] = Counter()
    for thread in threads:
        uncounted.update(thread.uncounted.copy())
    own: dict[str, dict[str, FLOPsCount]] = {path: {} for path in paths.values()}
    operations: defaultdict[str, FLOPsCount] = defaultdict(FLOPsCount)
    for path, operator in sorted(found, key=itemgetter(1)):
        own[path][operator] = FLOPsCount(*found[path, operator])
        operations[operator] += own[path][operator]
    components = {path: sum(costs.values(), FLOPsCount()) for path, costs in own.items()}
    components.pop(WHOLE, None)
    called = {path for number, path in paths.items() if number in attribution.paths.called}
    seen = {OUTSIDE_PATH, *called, *(above for path in called for above in ancestors(path))}
    return Measurement(
        count=sum(operations.values(), FLOPsCount()),
        components=summed_up(components),
        source="meter",
        rules="executed",
        uncounted=dict(sorted(uncounted.items())),
        assumptions=tuple(attribution.remarks.values()),
        child_processes=sum(thread.child_processes for thread in threads),
        operations=dict(operations),
        own_operations={path: costs for path, costs in own.items() if costs},
        recomputed=recomputed,
        not_called=tuple(path for path in components if path not in seen),
        metrics={metric.name: _costs(metric, attribution) for metric in attribution.metrics},
        found_at=_found_at(attribution),
    )


def _found_at(attribution: Attribution) -> dict[str, dict[str, Counter[str]]]:
    """Each metric's values over all threads by line, and by phase and operator."""
    paths = attribution.paths.names()
    found: dict[str, dict[str, Counter[str]]] = {}
    for thread in attribution.threads.copy():
        for (metric, where, metered, operator), value in thread.lines.copy().items():
            line = where if isinstance(where, str) else f"in {paths[where] or 'the model'}"
            places = found.setdefault(metric.name, {}).setdefault(line, Counter())
            places[f"{PHASE[metered]} {operator}"] += value
    return dict(sorted(found.items()))


def _costs(metric: Metric, attribution: Attribution) -> Costs:
    """A metric's values over all threads, by phase; of a module also in all that contain it."""
    whole: dict[str, list[int]] = defaultdict(list)
    parts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    paths = attribution.paths.names()
    operations: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for phase, module, operator, value in _values(metric, attribution):
        whole[phase].append(value)
        if metric.told_by_operator:
            operations[operator][phase] += value
        for path in (*ancestors(paths[module]), paths[module]):
            parts[path][phase].append(value)
    parts.pop(WHOLE, None)

    def joined(values: dict[str, list[int]]) -> dict[str, int]:
        return {phase: metric.joined(found) for phase, found in values.items()}

    details = {"operations": {name: dict(operations[name]) for name in sorted(operations)}}
    costs = Costs(
        joined(whole),
        {path: joined(values) for path, values in parts.items()},
        details if operations else {},
    )
    counter = attribution.counters.get(metric)
    return counter.finished(costs, paths) if isinstance(counter, Finisher) else costs


def _values(metric: Metric, attribution: Attribution) -> Iterator[tuple[str, int, str, int]]:
    """Values by phase, module number and operator; a metric without phases has totals alone."""
    if not metric.phases:
        for module, parameter in attribution.paths.parameters():
            if metric is not TRAINABLE_PARAMETERS or parameter.requires_grad:
                yield TOTAL, module, "", parameter.numel()
    for thread in attribution.threads.copy():
        for (metered, module, operator), values in thread.values.copy().items():
            if metric in values and PHASE[metered] in metric.phases:
                value = values[metric]
                if type(value) is not int or value < 0:
                    raise ValueError(
                        f"the counter of {metric.name!r} told {value!r}, which is no whole number "
                        "of at least 0"
                    )
                yield PHASE[metered], module, operator, value
