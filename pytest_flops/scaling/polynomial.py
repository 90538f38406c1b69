"""`Polynomial`: an exact cost formula in one or more dimensions, and interpolation of one."""

# Why not sympy, which torch brings: importing it takes 0.8 s, and one interpolation 12 ms there and
# 0.2 ms here. Sweeping and explaining ResNet-BK makes 327 of them and takes 0.13 s in all. It would
# replace about 70 lines; sizes by name, the refusal of a broken number and printing would stay.

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Exponents = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A polynomial with rational coefficients. Prints as `128 * seq_len^2 + 64 * seq_len`.

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
        """The highest power of `dimension`; 0 for a constant, and for zero."""
        axis = self.dimensions.index(dimension)
        return max((powers[axis] for powers, _ in self.terms), default=0)

    def at(self, **sizes: int) -> Polynomial:
        """The polynomial in the remaining dimensions, once these have sizes.

        Raises:
            TypeError: A name is none of the dimensions.
        """
        self._refuse_unknown(sizes)
        free = [axis for axis, name in enumerate(self.dimensions) if name not in sizes]
        terms: dict[Exponents, Fraction] = {}
        for powers, factor in self.terms:
            rest = tuple(powers[axis] for axis in free)
            for name, power in zip(self.dimensions, powers, strict=True):
                factor *= sizes[name] ** power if name in sizes else 1  # noqa: PLW2901
            terms[rest] = terms.get(rest, Fraction(0)) + factor
        return Polynomial.of([self.dimensions[axis] for axis in free], terms)

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

    def value(self, **sizes: int) -> Fraction:
        """The exact value, which is a whole number only where the formula holds.

        Raises:
            TypeError: A dimension has no size, or a name is none of the dimensions.
        """
        missing = [name for name in self.dimensions if name not in sizes]
        if missing:
            raise TypeError(f"no size given for {', '.join(missing)}")
        constant = self.at(**sizes).terms
        return constant[0][1] if constant else Fraction(0)

    def _refuse_unknown(self, sizes: Mapping[str, int]) -> None:
        unknown = [name for name in sizes if name not in self.dimensions]
        if unknown:
            raise TypeError(f"{', '.join(unknown)}: not among {', '.join(self.dimensions)}")

    def __add__(self, other: Polynomial) -> Polynomial:
        if not isinstance(other, Polynomial):
            return NotImplemented
        if self.dimensions != other.dimensions:
            raise ValueError(f"dimensions differ: {self.dimensions} and {other.dimensions}")
        terms = dict(self.terms)
        for powers, factor in other.terms:
            terms[powers] = terms.get(powers, Fraction(0)) + factor
        return Polynomial.of(self.dimensions, terms)

    def __neg__(self) -> Polynomial:
        return Polynomial(
            self.dimensions, tuple((powers, -factor) for powers, factor in self.terms)
        )

    def __sub__(self, other: Polynomial) -> Polynomial:
        if not isinstance(other, Polynomial):
            return NotImplemented
        return self + -other

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        (powers, factor), *rest = self.terms
        text = ("-" if factor < 0 else "") + self._term(powers, abs(factor))
        for powers, factor in rest:
            text += (" - " if factor < 0 else " + ") + self._term(powers, abs(factor))
        return text

    def _term(self, powers: Exponents, factor: Fraction) -> str:
        variables = [
            name if power == 1 else f"{name}^{power}"
            for name, power in zip(self.dimensions, powers, strict=True)
            if power
        ]
        number = [] if variables and factor == 1 else [_with_thousands(factor)]
        return " * ".join(number + variables)


def interpolate(
    dimensions: Sequence[str], grid: Sequence[Sequence[int]], values: Mapping[Exponents, int]
) -> Polynomial:
    """The polynomial through the values on a grid, exactly (Newton's divided differences).

    Args:
        dimensions: The variables' names.
        grid: The sizes along each dimension, distinct; d + 1 of them determine degree d.
        values: The value at each point of the grid, by its coordinates.
    """
    return Polynomial.of(dimensions, _grid_terms(grid, values))


def _grid_terms(
    grid: Sequence[Sequence[int]], values: Mapping[Exponents, int]
) -> dict[Exponents, Fraction]:
    if not grid:
        return {(): Fraction(values[()])}
    sizes, *rest = grid
    slices = [
        _grid_terms(rest, {at[1:]: value for at, value in values.items() if at[0] == size})
        for size in sizes
    ]
    terms = {}
    for powers in slices[0]:
        along = _coefficients(sizes, [piece[powers] for piece in slices])
        terms.update({(power, *powers): factor for power, factor in enumerate(along)})
    return terms


def _coefficients(sizes: Sequence[int], values: Sequence[Fraction]) -> list[Fraction]:
    coefficients: list[Fraction] = []
    differences = _divided_differences(sizes, values)
    for size, difference in zip(reversed(sizes), reversed(differences), strict=True):
        raised = [difference, *coefficients]
        lowered = [-size * factor for factor in coefficients] + [Fraction(0)]
        coefficients = [up + down for up, down in zip(raised, lowered, strict=True)]
    return coefficients


def _divided_differences(sizes: Sequence[int], values: Sequence[Fraction]) -> list[Fraction]:
    differences = list(values)
    for order in range(1, len(sizes)):
        for index in range(len(sizes) - 1, order - 1, -1):
            rise = differences[index] - differences[index - 1]
            differences[index] = rise / (sizes[index] - sizes[index - order])
    return differences


def _with_thousands(factor: Fraction) -> str:
    if factor.denominator == 1:
        return f"{factor.numerator:,}"
    return f"{factor.numerator:,}/{factor.denominator:,}"
