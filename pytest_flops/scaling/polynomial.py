"""`Polynomial`: an exact cost formula; `interpolate` finds one, `crossover` where it bends."""

# Why not sympy, which torch brings: importing it takes 0.8 s, and one interpolation 12 ms there and
# 0.2 ms here. It would replace about 50 lines; sizes by name, the refusal of a broken number and
# printing would stay.

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Exponents = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A polynomial with rational coefficients. Prints as `128 * seq_len^2 + 64 * seq_len`.

    Powers may be negative: what many ranks share prints as `4096 / ranks`.

    Attributes:
        dimensions: The variables' names, e.g. `("batch_size", "seq_len")`.
        terms: (exponents, coefficient) pairs, one exponent per dimension, no coefficient zero,
            highest total degree first. `Polynomial.of` puts terms into this form.
    """

    dimensions: tuple[str, ...]
    terms: tuple[tuple[Exponents, Fraction], ...]

    @classmethod
    def of(cls, dimensions: Sequence[str], terms: Mapping[Exponents, Fraction | int]) -> Polynomial:
        """A polynomial from its coefficients by exponents; zeros may be among them."""
        kept = [(powers, Fraction(factor)) for powers, factor in terms.items() if factor]
        kept.sort(key=lambda term: (sum(term[0]), term[0]), reverse=True)
        return cls(tuple(dimensions), tuple(kept))

    def degree(self, dimension: str) -> int:
        """The highest power of `dimension`; 0 for a constant, and for zero; -1 for a share."""
        axis = self.dimensions.index(dimension)
        return max((powers[axis] for powers, _ in self.terms), default=0)

    def at(self, **sizes: int) -> Polynomial:
        """The polynomial in the remaining dimensions, once these have sizes.

        Raises:
            TypeError: A name is none of the dimensions.
        """
        unknown = [name for name in sizes if name not in self.dimensions]
        if unknown:
            raise TypeError(f"{', '.join(unknown)}: not among {', '.join(self.dimensions)}")
        terms: dict[Exponents, Fraction] = defaultdict(Fraction)
        for powers, factor in self.terms:
            free, value = [], factor
            for name, power in zip(self.dimensions, powers, strict=True):
                if name in sizes:
                    value *= Fraction(sizes[name]) ** power
                else:
                    free.append(power)
            terms[tuple(free)] += value
        return Polynomial.of([name for name in self.dimensions if name not in sizes], terms)

    def value(self, **sizes: int) -> Fraction:
        """As a call, but a fraction where the formula does not hold."""
        constant = self.at(**sizes)
        if constant.dimensions:
            raise TypeError(f"no size given for {', '.join(constant.dimensions)}")
        return constant.terms[0][1] if constant.terms else Fraction(0)

    def __call__(self, **sizes: int) -> int:
        """The exact value.

        Raises:
            TypeError: A dimension has no size, or a name is none of the dimensions.
            ValueError: The value is no whole number: the formula does not hold at these sizes.
        """
        value = self.value(**sizes)
        if value.denominator != 1:
            raise ValueError(f"{self} is {value} at {sizes}, no whole number of FLOPs")
        return int(value)

    def lowest(self, dimension: str) -> int:
        """The lowest power of `dimension` if it is negative, else 0."""
        axis = self.dimensions.index(dimension)
        return min((0, *(powers[axis] for powers, _ in self.terms)))

    def times(self, dimension: str, power: int) -> Polynomial:
        """The product with a power of one dimension."""
        axis = self.dimensions.index(dimension)
        terms = {
            (*powers[:axis], powers[axis] + power, *powers[axis + 1 :]): factor
            for powers, factor in self.terms
        }
        return Polynomial.of(self.dimensions, terms)

    def __add__(self, other: Polynomial) -> Polynomial:
        return self._plus(other, sign=1)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self._plus(other, sign=-1)

    def _plus(self, other: Polynomial, sign: int) -> Polynomial:
        if self.dimensions != other.dimensions:
            raise ValueError(f"dimensions differ: {self.dimensions} and {other.dimensions}")
        terms = defaultdict(Fraction, self.terms)
        for powers, factor in other.terms:
            terms[powers] += sign * factor
        return Polynomial.of(self.dimensions, terms)

    def __str__(self) -> str:
        text = "".join(
            (" - " if factor < 0 else " + ") + self._term(powers, abs(factor))
            for powers, factor in self.terms
        )
        sign = "-" if text.startswith(" - ") else ""
        return sign + text[3:] or "0"

    def _term(self, powers: Exponents, factor: Fraction) -> str:
        over, under = (
            [
                name if power * sign == 1 else f"{name}^{power * sign}"
                for name, power in zip(self.dimensions, powers, strict=True)
                if power * sign > 0
            ]
            for sign in (1, -1)
        )
        number = f"{factor.numerator:,}"
        if factor.denominator != 1:
            number += f"/{factor.denominator:,}"
        product = " * ".join(over if over and factor == 1 else [number, *over])
        return " / ".join([product, *under])


def interpolate(
    dimensions: Sequence[str], grid: Sequence[Sequence[int]], values: Mapping[Exponents, int]
) -> Polynomial:
    """The polynomial through the values on a grid, exactly (Lagrange, one dimension at a time).

    `grid` has distinct sizes along each dimension, d + 1 of which determine degree d; `values` are
    by coordinates.
    """
    terms = {at: Fraction(value) for at, value in values.items()}
    for axis, sizes in enumerate(grid):
        bases = {size: _basis(size, sizes) for size in sizes}
        along: dict[Exponents, Fraction] = defaultdict(Fraction)
        for at, value in terms.items():
            for power, factor in enumerate(bases[at[axis]] if value else ()):
                along[(*at[:axis], power, *at[axis + 1 :])] += factor * value
        terms = along
    return Polynomial.of(dimensions, terms)


def _basis(size: int, sizes: Sequence[int]) -> list[Fraction]:
    """Coefficients, the constant first, of the polynomial that is 1 at `size`, 0 at the others."""
    nothing = Fraction(0)
    factors = [Fraction(1)]
    for root in sizes:
        if root != size:  # times (x - root) / (size - root)
            raised, same = [nothing, *factors], [*factors, nothing]
            factors = [(x - root * c) / (size - root) for x, c in zip(raised, same, strict=True)]
    return factors


def crossover(polynomial: Polynomial) -> int | None:
    """The smallest size from which on the highest-degree term is larger than all others together.

    `None` where nothing competes: a single term, or a leading term that is negative.

    Raises:
        ValueError: The polynomial is in several dimensions.
    """
    if len(polynomial.terms) < 2:
        return None
    leading = Polynomial(polynomial.dimensions, polynomial.terms[:1])
    return overtakes(leading, polynomial - leading)


def overtakes(leader: Polynomial, rest: Polynomial) -> int | None:
    """The smallest size from which on `leader` is larger than `rest`; `None` if it never is.

    Raises:
        ValueError: The polynomials are not in the same single dimension.
    """
    lead = leader - rest
    if len(lead.dimensions) != 1:
        raise ValueError(f"one dimension is compared, not {', '.join(lead.dimensions) or 'none'}")
    if not lead.terms or lead.terms[0][1] < 0:
        return None
    # Where it is positive, it is so times any power.
    lead = lead.times(lead.dimensions[0], -lead.lowest(lead.dimensions[0]))
    ((degree,), highest), *_ = lead.terms
    # Cauchy's bound: the lead is positive at every size from here on.
    bound = 2 + ceil(max(abs(factor / highest) for _, factor in lead.terms))
    turns = _turns(lambda size: lead.value(**{lead.dimensions[0]: size}), degree, bound)
    return max(turns, default=1)


def _turns(value: Callable[[int], Fraction], degree: int, bound: int) -> list[int]:
    """The sizes from 2 to `bound` at which a polynomial becomes positive, or no longer is.

    Between two turns of its steps, which are a polynomial of one degree less, it only rises or
    only falls, so it turns there at most once.
    """
    if degree == 0:
        return []
    turns_of_steps = _turns(lambda size: value(size + 1) - value(size), degree - 1, bound)
    stretches = sorted({1, *turns_of_steps, bound})
    turns = (_first_turn(value, low, high) for low, high in pairwise(stretches))
    return [turn for turn in turns if turn is not None]


def _first_turn(value: Callable[[int], Fraction], low: int, high: int) -> int | None:
    at_low = value(low) > 0
    if (value(high) > 0) == at_low:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if (value(middle) > 0) == at_low:
            low = middle
        else:
            high = middle
    return high
