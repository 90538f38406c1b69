"""Flame graphs: where a metric goes, as boxes inside boxes, each as wide as its share of the whole.

Components that cost the same in every detail and differ by a number in their names are one box,
`layer_0..11 x 12`. What a component costs beyond those inside it are its operators, as far as the
measurement tells. What is too thin to be seen is joined into one box, so that the boxes inside
another always add up to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from pytest_flops.budgets.files.folding import folded, unfolded
from pytest_flops.budgets.judging.alike import in_one_name, one_row_if_alike, without_braces
from pytest_flops.budgets.units import format_change
from pytest_flops.counting.components import (
    ITSELF,
    by_parent,
    family,
    last_name,
    natural,
    outermost,
    relative_to,
)
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.metric import FLOPS, METRICS, TOTAL, quantity_of
from pytest_flops.counting.text import some

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Metric
    from pytest_flops.reports.comparison.comparison import BudgetChange

Cost: TypeAlias = tuple[int, ...]
"""What a component costs by a metric, in each phase that is drawn."""

_MOST_BOXES = 100  # side by side, if all were as thin as the thinnest that is drawn by itself
_WIDTH = 100_000
_LISTED, _LISTED_IN_A_FOLD = 300, 40  # rows of FLOPs, and of each other metric


@dataclass(frozen=True, slots=True)
class Box:
    """A component or an operator, or several as one.

    Attributes:
        name: As seen from the box that contains it, e.g. `experts.0..3 x 4`.
        path: Its path, e.g. `layer_0..11.moe.experts.0..3 x 48`, or the paths that it joins.
        cost: By phase, of all that it stands for.
        base: What these cost in the base, in total; as much as now where there is no base.
        whole: The total of the whole workload.
        number: How many components it stands for.
        kind: `whole`; `own` of what the component above costs beyond its parts, or an operator of
            that; `others` joins thin ones; empty for a component.
        inside: The boxes below it, the largest first; together they cost as much.
    """

    name: str
    path: str
    cost: Cost
    base: int
    whole: int
    number: int = 1
    kind: str = ""
    inside: tuple[Box, ...] = ()

    @property
    def total(self) -> int:
        """All phases together."""
        return sum(self.cost)

    @property
    def width(self) -> int:
        """The share of the whole in thousandths of a percent; never 0, so that it has a place."""
        return max(_WIDTH * self.total // self.whole, 1)

    @property
    def stops(self) -> list[float]:
        """Where each phase but the last ends, in percent of the box."""
        ends = range(1, len(self.cost))
        return [round(100 * sum(self.cost[:end]) / self.total, 1) for end in ends]

    @property
    def difference(self) -> int:
        """How much more it costs than in the base."""
        return self.total - self.base

    @property
    def change(self) -> str:
        """The difference in words: `+98.2 %`, `new` or `same`."""
        new = self.difference and not self.base
        return "new" if new else format_change(self.difference, self.base)

    @property
    def largest_difference(self) -> int:
        """Of this box and all inside it."""
        return max(abs(self.difference), *(box.largest_difference for box in self.inside), 0)


@dataclass(frozen=True, slots=True)
class Flames:
    """Where one metric goes: as a flame graph, and as a table.

    Attributes:
        metric: What is drawn.
        phases: What adds up to a total.
        components: The cost of each by path.
        operators: The cost of each in the component that calls it, by a path: that component's,
            and the operator's name.
        whole: The cost of everything.
        base: The totals of the base by path, also of what is gone; `None` is the whole. Empty where
            nothing differs, or there is nothing to hold this against.
        inside: The paths that are right inside each one: components, then operators.
    """

    metric: Metric
    phases: tuple[str, ...]
    components: Mapping[str, Cost]
    operators: Mapping[str, Cost]
    whole: Cost
    base: Mapping[str | None, int]
    inside: Mapping[str | None, Sequence[str]]

    @property
    def name(self) -> str:
        """What it is called in words."""
        return "FLOPs" if self.metric is FLOPS else self.metric.name

    def cost(self, path: str) -> Cost:
        """What a component or an operator costs; nothing where it is gone."""
        nothing = (0,) * len(self.phases)
        return self.operators.get(path) or self.components.get(path, nothing)

    @property
    def root(self) -> Box | None:
        """The box of everything; `None` where there is nothing to draw."""
        return _Boxes(self).root if any(self.whole) else None

    @property
    def gone(self) -> list[tuple[str, int]]:
        """What costs something in the base alone, and how much; not what went with its parent.

        Of operators, those that would be boxes of their own.
        """
        gone = outermost([path for path in self.base if path and not any(self.cost(path))])

        def rows(*, of_operators: bool) -> Iterator[tuple[str, int]]:
            of_kind = (path for path in gone if (path in self.operators) is of_operators)
            costs = [(path, self.base[path], None) for path in of_kind if self.base[path]]
            return ((path, cost) for path, cost, _ in one_row_if_alike(costs))

        least = sum(self.whole) / _MOST_BOXES
        operators = (row for row in rows(of_operators=True) if row[1] >= least)
        return [*rows(of_operators=False), *operators]

    @property
    def columns(self) -> tuple[str, ...]:
        """The heads of the table: the phases, and the total of several."""
        return (*self.phases, TOTAL) if len(self.phases) > 1 else self.phases

    def row(self, cost: Cost) -> Cost:
        """A cost by column."""
        return (*cost, sum(cost)) if len(cost) > 1 else cost

    @property
    def listed(self) -> tuple[list[tuple[str, Cost]], int]:
        """A row for each component, one for several alike; and how many have none.

        Of very many rows there are those that cost most.
        """
        most = _LISTED if self.metric is FLOPS else _LISTED_IN_A_FOLD
        rows = folded(self.components)
        kept = sorted(rows, key=lambda name: -sum(rows[name]))[:most]
        left = len(self.components) - sum(len(unfolded(name)) for name in kept)
        listed = {*kept}
        shown = [(without_braces(n), self.row(cost)) for n, cost in rows.items() if n in listed]
        return shown, left


def flames(measurement: Measurement, change: BudgetChange | None = None) -> Iterator[Flames]:
    """The FLOPs, and each other metric of which there is something in components."""
    yield _flames(measurement, FLOPS, change)
    for name in measurement.metrics:
        found = _flames(measurement, METRICS[name], change)
        if any(found.whole) and any(any(cost) for cost in found.components.values()):
            yield found


def _flames(measurement: Measurement, metric: Metric, change: BudgetChange | None) -> Flames:
    """What adds up of a metric: its phases, or what was alive at its peak by who made it."""
    if metric.join == "max":
        now, then = _alive(measurement, metric), _alive(change.base if change else None, metric)
        before = {path: then.get(path, 0) for path in now | then} if then and then != now else {}
        paths = sorted(filter(None, now | before), key=natural)
        alive = {path: (now[path],) for path in paths if path in now}
        whole = (now[None],)
        return Flames(metric, ("at the peak",), alive, {}, whole, before, by_parent(paths))
    phases = metric.phases or (TOTAL,)
    quantities = [quantity_of(metric, phase) for phase in phases]
    costs = measurement.metrics.get(metric.name)
    total = quantity_of(metric, TOTAL)
    changes = [each for each in change.changes if each.quantity == total] if change else []
    differs = any(each.difference for each in changes)
    base = {each.component: each.base or 0 for each in changes} if differs else {}
    components = {
        path: tuple(measurement.of(quantity, path) for quantity in quantities)
        for path in (costs or measurement).components
    }
    found = Flames(
        metric=metric,
        phases=phases,
        components=components,
        operators={},
        whole=tuple(measurement.of(quantity) for quantity in quantities),
        base=base,
        inside=by_parent(dict.fromkeys([*components, *filter(None, base)])),
    )
    if metric is not FLOPS:
        return found
    return _by_operator(found, measurement, change.base if change and differs else None)


def _alive(found: Measurement | None, metric: Metric) -> dict[str | None, int]:
    """The bytes at the peak by the module that made them, and all under `None`."""
    costs = found.metrics.get(metric.name) if found else None
    if costs is None:
        return {}
    modules = costs.details.get("modules", {})
    whole = sum(map(int, costs.details.get("kinds", {}).values()))
    return {None: whole, **{path: int(each) for path, each in modules.items()}}


def _by_operator(found: Flames, now: Measurement, then: Measurement | None) -> Flames:
    """The same FLOPs, and what each component costs by itself by operator.

    Only the same, where one of the two does not tell its operators: all would be new, or gone.
    """
    costs, before = (_operators(each) if each else {} for each in (now, then))
    if not costs or (then and not before):
        return found
    nothing = FLOPsCount()
    inside, operators, base = {**found.inside}, {}, {**found.base}
    for key in costs | before:
        component, path = key
        inside[component] = [*inside.get(component, ()), path]
        operators[path] = tuple(costs.get(key, nothing).of(phase) for phase in found.phases)
        if then:
            base[path] = before.get(key, nothing).total
    return replace(found, operators=operators, base=base, inside=inside)


def _operators(found: Measurement) -> dict[tuple[str | None, str], FLOPsCount]:
    """The cost of each operator, by the component that calls it and by its path inside it."""
    return {
        (component or None, f"{component}.{name}" if component else name): cost
        for component, operators in found.own_operations.items()
        for name, cost in operators.items()
    }


class _Boxes:
    """The boxes of a flame graph. Figures are the cost by phase, and the total in the base."""

    def __init__(self, flames: Flames) -> None:
        self._flames = flames
        self._whole = sum(flames.whole)

    @property
    def root(self) -> Box:
        box = self._box("everything", "everything", self._figures(None), kind="whole")
        return replace(box, inside=self._inside(None, "", 1))

    def _box(self, name: str, path: str, figures: Cost, number: int = 1, kind: str = "") -> Box:
        return Box(name, path, figures[:-1], figures[-1], self._whole, number, kind)

    def _figures(self, path: str | None) -> Cost:
        found = self._flames
        cost = found.whole if path is None else found.cost(path)
        return (*cost, found.base.get(path, sum(cost)))

    def _own(self, path: str | None) -> Cost:
        """The figures beyond those of the children."""
        below = [self._figures(child) for child in self._flames.inside.get(path, ())]
        figures = zip(self._figures(path), *below, strict=True)
        return tuple(max(whole - sum(parts), 0) for whole, *parts in figures)

    def _parts(self, parent: str | None) -> Iterator[str]:
        """The children to draw: in the place of a list of equal layers its layers."""
        for path in self._flames.inside.get(parent, ()):
            below = self._flames.inside.get(path, ())
            is_list = len(below) == 1 or all(last_name(child).isdigit() for child in below)
            is_list = is_list and self._flames.operators.keys().isdisjoint(below)
            if is_list and len(set(map(self._detail, below))) == 1 and not any(self._own(path)):
                yield from self._parts(path)
            else:
                yield path

    def _detail(self, path: str) -> Hashable:
        """Equal for components that cost the same in every detail."""
        below = self._flames.inside.get(path, ())
        inside = tuple((relative_to(each, path), self._detail(each)) for each in below)
        return self._figures(path), inside

    def _inside(self, parent: str | None, above: str, times: int) -> tuple[Box, ...]:
        """The boxes inside a component that stands for so many."""
        boxes = [*self._components(parent, above, times)]
        if boxes:
            own = tuple(times * figure for figure in self._own(parent))
            boxes.append(self._box("itself", above + ITSELF, own, times, "own"))
        boxes = sorted((box for box in boxes if box.total), key=lambda box: -box.total)
        thin = [box for box in boxes if self._is_thin(box)]
        return (*boxes,) if len(thin) < 2 else (*boxes[: -len(thin)], self._joined(thin))

    def _components(self, parent: str | None, above: str, times: int) -> Iterator[Box]:
        alike: dict[Hashable, list[str]] = {}
        for path in self._parts(parent):
            key = family(relative_to(path, parent)), self._detail(path)
            alike.setdefault(key, []).append(path)
        for paths in alike.values():
            name = in_one_name([relative_to(path, parent) for path in paths])
            number, path = times * len(paths), f"{above}.{name}" if above else name
            figures = tuple(number * figure for figure in self._figures(paths[0]))
            kind = ""
            if paths[0] in self._flames.operators:
                # A small box has room for little more than the name of PyTorch's own library.
                kind, name = "own", name.removeprefix("aten.")
            names = _several(name, len(paths)), _several(path, number)
            box = self._box(*names, figures, number, kind)
            inside = () if self._is_thin(box) else self._inside(paths[0], path, number)
            yield replace(box, inside=inside)

    def _is_thin(self, box: Box) -> bool:
        return box.total * _MOST_BOXES < self._whole

    def _joined(self, thin: Sequence[Box]) -> Box:
        number = sum(box.number for box in thin)
        figures = [sum(each) for each in zip(*((*box.cost, box.base) for box in thin), strict=True)]
        name, paths = f"{number:,} others", some([box.path for box in thin])
        return self._box(name, paths, (*figures,), number, "others")


def _several(name: str, number: int) -> str:
    return f"{name} x {number:,}" if number > 1 else name
