"""`Explanation`: the exact cost formulas of a workload, as plain data and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.components import innermost
from pytest_flops.counting.text import some
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.scaling.polynomial import Polynomial, overtakes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.metric import Quantity


@dataclass(frozen=True, slots=True)
class ExactCost:
    """What one quantity of one component costs.

    Attributes:
        component: The component's path; `None` is the whole workload.
        quantity: `forward`, `backward`, `optimizer` or `total`.
        polynomial: The exact cost; `None` where it is no polynomial.
        crossovers: By dimension: the size from which on the highest power of it costs more than
            all the rest, the other dimensions staying at the workload's sizes.
        note: Where the polynomial holds, or why there is none.
    """

    component: str | None
    quantity: Quantity
    polynomial: Polynomial | None
    crossovers: Mapping[str, int]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON; rational coefficients are strings."""
        exact = self.polynomial
        terms = exact.terms if exact else ()
        listed = [{"powers": list(powers), "coefficient": str(factor)} for powers, factor in terms]
        return {
            "component": self.component,
            "quantity": self.quantity,
            "polynomial": str(exact) if exact else None,
            "terms": listed if exact else None,
            "crossovers": dict(self.crossovers),
            "note": self.note,
        }

    def to_text(self) -> str:
        """`forward = 128 * seq_len^2    (remarks)`."""
        if self.polynomial is None:
            return f"{self.quantity}: {self.note}"
        remarks = [self.note] if self.note else []
        for dimension, size in self.crossovers.items():
            degree = self.polynomial.degree(dimension)
            if degree > 1:
                remarks.append(f"{dimension}^{degree} overtakes the rest at {size:,}")
        text = f"{self.quantity} = {self.polynomial}"
        return f"{text}    ({'; '.join(remarks)})" if remarks else text


@dataclass(frozen=True, slots=True)
class Overtaking:
    """Components that grow faster than the rest of the model, e.g. every attention.

    Attributes:
        dimension: The dimension they grow in, the others staying at the workload's sizes.
        components: Their paths; none of them contains another.
        size: From this size on, they together cost more than all the rest.
    """

    dimension: str
    components: tuple[str, ...]
    size: int

    def __str__(self) -> str:
        verb = "cost" if len(self.components) > 1 else "costs"
        names = some(self.components, 1)
        return f"{names} {verb} more than the rest from {self.dimension} = {self.size:,} on"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Exact cost formulas of a workload.

    Attributes:
        sizes: The dimensions, each with the size the workload gives it.
        costs: A formula for each quantity of the whole and of each component.
    """

    sizes: Mapping[str, int]
    costs: tuple[ExactCost, ...]

    def of(self, quantity: Quantity = "total", component: str | None = None) -> Polynomial:
        """The polynomial of one quantity of one component.

        Raises:
            KeyError: There is no such component.
            ScalingError: Its cost is no polynomial.
        """
        for cost in self.costs:
            if (cost.component, cost.quantity) == (component, quantity):
                if cost.polynomial is None:
                    raise ScalingError(f"{component or 'the whole'}, {quantity}: {cost.note}")
                return cost.polynomial
        raise KeyError(component)

    def overtaking(self, dimension: str, quantity: Quantity = "total") -> Overtaking | None:
        """Which components pass the rest of the model, and where; for a transformer, attention.

        They are the innermost ones whose cost has the degree that the whole has. `None` where the
        whole is at most linear, is no polynomial, or its fastest growth is in no component.
        """
        others = {name: size for name, size in self.sizes.items() if name != dimension}
        exact = {
            cost.component: cost.polynomial.at(**others)
            for cost in self.costs
            if cost.quantity == quantity and cost.polynomial is not None
        }
        whole = exact.pop(None, None)
        degree = whole.degree(dimension) if whole else 0
        if whole is None or degree < 2:
            return None
        leaders = innermost(
            [path for path, cost in exact.items() if path and cost.degree(dimension) == degree]
        )
        together = sum((exact[path] for path in leaders), Polynomial(whole.dimensions, ()))
        size = overtakes(together, whole - together)
        return None if size is None else Overtaking(dimension, tuple(leaders), size)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return {
            "sizes": dict(self.sizes),
            "costs": [cost.to_dict() for cost in self.costs],
            "overtaking": [
                {**asdict(found), "components": list(found.components)}
                for found in self._overtakings()
            ],
        }

    def _overtakings(self) -> list[Overtaking]:
        found = [self.overtaking(dimension) for dimension in self.sizes]
        return [overtaking for overtaking in found if overtaking is not None]

    def to_text(self) -> str:
        """One formula per line, the whole first, then each component; zeros are left out."""
        whole = [cost.to_text() for cost in self.costs if cost.component is None]
        lines = whole + [str(overtaking) for overtaking in self._overtakings()]
        component = None
        for cost in self.costs:
            zero = cost.polynomial is not None and not cost.polynomial.terms
            if cost.component is None or zero:
                continue
            if cost.component != component:
                component = cost.component
                lines += ["", component]
            lines.append(f"  {cost.to_text()}")
        return "\n".join(lines)
