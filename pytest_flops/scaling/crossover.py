"""The size at which one term of a cost overtakes the rest; exact, by bisection over integers."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil, comb
from typing import TYPE_CHECKING

from pytest_flops.counting.components import outermost
from pytest_flops.scaling.polynomial import Polynomial

if TYPE_CHECKING:
    from collections.abc import Iterable

Coefficients = tuple[Fraction, ...]


def crossover(polynomial: Polynomial) -> int | None:
    """The smallest size from which on the highest-degree term is larger than all others together.

    Args:
        polynomial: In one dimension; `Polynomial.at` gives sizes to the others.

    Returns:
        `None` where nothing competes: a single term, or a leading term that is negative.

    Raises:
        ValueError: The polynomial is in several dimensions.
    """
    if len(polynomial.terms) < 2:
        return None
    leading = Polynomial(polynomial.dimensions, polynomial.terms[:1])
    rest = Polynomial(polynomial.dimensions, polynomial.terms[1:])
    return overtakes(leading, rest)


def overtakes(leader: Polynomial, rest: Polynomial) -> int | None:
    """The smallest size from which on `leader` is larger than `rest`; `None` if it never is.

    Raises:
        ValueError: The polynomials are not in the same single dimension.
    """
    lead = leader - rest
    if len(lead.dimensions) != 1:
        raise ValueError(f"one dimension is compared, not {', '.join(lead.dimensions) or 'none'}")
    coefficients = _dense(lead)
    if coefficients[-1] <= 0:
        return None
    return max(_turns(coefficients), default=1)


def component_crossover(costs: Iterable[tuple[str, Polynomial]], whole: Polynomial) -> int | None:
    """The size from which on these components cost more than the rest of the model.

    Args:
        costs: (component path, polynomial) of the components, e.g. every attention; those inside
            another one of them are part of it already and left out.
        whole: What the whole model costs.

    Raises:
        ValueError: The polynomials are not in the same single dimension.
    """
    by_path = dict(costs)
    chosen = Polynomial(whole.dimensions, ())
    for cost in map(by_path.__getitem__, outermost(by_path)):
        chosen += cost
    return overtakes(chosen, whole - chosen)


def _dense(polynomial: Polynomial) -> Coefficients:
    """Coefficients from the constant upwards, none of them missing."""
    by_power = {powers[0]: factor for powers, factor in polynomial.terms}
    return tuple(by_power.get(power, Fraction(0)) for power in range(max(by_power, default=0) + 1))


def _value(coefficients: Coefficients, size: int) -> Fraction:
    value = Fraction(0)
    for factor in reversed(coefficients):
        value = value * size + factor
    return value


def _step(coefficients: Coefficients) -> Coefficients:
    """The polynomial of q(n + 1) - q(n), one degree lower."""
    degree = len(coefficients) - 1
    return tuple(
        sum((comb(k, power) * coefficients[k] for k in range(power + 1, degree + 1)), Fraction(0))
        for power in range(degree)
    )


def _turns(coefficients: Coefficients) -> list[int]:
    """The sizes n > 1 at which q(n) > 0 is not what q(n - 1) > 0 was.

    Between two turns of its steps q only rises or only falls, so it turns there at most once; all
    of its roots are below Cauchy's bound.
    """
    if len(coefficients) == 1:
        return []
    bound = 2 + ceil(max(abs(factor / coefficients[-1]) for factor in coefficients))
    stretches = sorted({1, *_turns(_step(coefficients)), bound})
    return [
        _bisect(coefficients, low, high)
        for low, high in pairwise(stretches)
        if (_value(coefficients, low) > 0) != (_value(coefficients, high) > 0)
    ]


def _bisect(coefficients: Coefficients, low: int, high: int) -> int:
    at_low = _value(coefficients, low) > 0
    while high - low > 1:
        middle = (low + high) // 2
        if (_value(coefficients, middle) > 0) == at_low:
            low = middle
        else:
            high = middle
    return high
