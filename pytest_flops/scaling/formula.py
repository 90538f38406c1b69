"""`Formula`: a verified cost formula in one dimension, and the search for one per part."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count as counting_from
from itertools import islice
from math import lcm
from typing import TYPE_CHECKING

from pytest_flops.scaling.crossover import crossover
from pytest_flops.scaling.fit import HELD_OUT, MAX_DEGREE, Fit, verified_fit
from pytest_flops.scaling.measured import COUNTED_UP_TO, lattice_step, parts_of, probing_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_flops.scaling.measured import Measured, Part

_MOST_PROBES = MAX_DEGREE + 1 + HELD_OUT
_MOST_ATTEMPTS = 24
_PERIODS = (2, 3, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Formula:
    """What a part costs at any size: a polynomial, or one for each residue class of the sizes.

    Attributes:
        dimension: The variable's name.
        period: 1 for a polynomial over all sizes; else sizes are told apart modulo this.
        fits: The verified polynomial by residue.
    """

    dimension: str
    period: int
    fits: Mapping[int, Fit]

    @property
    def degree(self) -> int:
        """The asymptotic exponent: the highest degree of any class."""
        return max(found.polynomial.degree(self.dimension) for found in self.fits.values())

    @property
    def crossover(self) -> int | None:
        """The size at which the highest-degree term overtakes the rest, if anything competes."""
        return crossover(self.fits[0].polynomial) if self.period == 1 else None

    def at(self, size: int) -> int:
        """FLOPs at a size of one of the classes."""
        return self.fits[size % self.period].polynomial(**{self.dimension: size})

    def holds_at(self, size: int) -> bool:
        """Whether the size is not too small for the polynomial of its class."""
        return size >= self.fits[size % self.period].start

    def __str__(self) -> str:
        texts = {residue: str(found.polynomial) for residue, found in sorted(self.fits.items())}
        if len(set(texts.values())) == 1:
            return next(iter(texts.values()))
        return "; ".join(
            f"{text} where {self.dimension} % {self.period} = {residue}"
            for residue, text in texts.items()
        )


def find_formulas(counts: Measured, own: Sequence[int]) -> dict[Part, Formula]:
    """A formula for every part that has one, counting at a few more sizes where that helps.

    First a polynomial over all sizes, probed on the lattice of the caller's sizes. What has none is
    searched for in residue classes (a convolution of stride 2 costs floor((N - k) / 2) + 1
    positions): each of the caller's sizes must then lie on the polynomial of its class.

    Args:
        counts: What was counted so far, at some of the caller's sizes; more is added to it.
        own: The caller's sizes, ascending.
    """
    step = lattice_step(own)
    parts = [part for part in parts_of(counts.measured.values()) if _recurs(counts, own, part)]
    candidates = islice(probing_sizes(own[0], step), _MOST_ATTEMPTS)
    found = _search(counts, own, parts, candidates, modulus=1)
    if len(found) < len(parts):
        counts.require(own)
        found = _fits(counts, own, parts, modulus=1)
    formulas = {part: Formula(counts.dimension, 1, {0: fits}) for part, fits in found.items()}
    for period in _PERIODS:
        rest = [part for part in parts if part not in formulas and _varies(counts, own, part)]
        modulus = lcm(step, period)
        if rest and modulus > step:
            formulas |= _by_residue(counts, own, rest, modulus)
    return formulas


def _recurs(counts: Measured, own: Sequence[int], part: Part) -> bool:
    return len(_own_points(counts, own, part)) > 1


def _varies(counts: Measured, own: Sequence[int], part: Part) -> bool:
    return len({flops for _, flops in _own_points(counts, own, part)}) > 1


def _own_points(counts: Measured, own: Sequence[int], part: Part) -> tuple[tuple[int, int], ...]:
    return counts.points(part, [size for size in own if size in counts.measured])


def _by_residue(
    counts: Measured, own: Sequence[int], parts: Sequence[Part], modulus: int
) -> dict[Part, Formula]:
    classes: dict[int, list[int]] = {}
    for size in own:
        classes.setdefault(size % modulus, []).append(size)
    found: dict[int, dict[Part, Fit]] = {}
    for residue, members in classes.items():
        candidates = islice(counting_from(members[0] + modulus, modulus), _MOST_PROBES + HELD_OUT)
        found[residue] = _search(counts, members, parts, candidates, modulus)
        parts = list(found[residue])
    return {
        part: Formula(counts.dimension, modulus, {r: fits[part] for r, fits in found.items()})
        for part in parts
    }


def _search(
    counts: Measured,
    own: Sequence[int],
    parts: Sequence[Part],
    candidates: Iterable[int],
    modulus: int,
) -> dict[Part, Fit]:
    """Verified polynomials over one residue class, counting at candidates until all have one."""
    found = _fits(counts, own, parts, modulus)
    reach = max(2 * own[-1], COUNTED_UP_TO)
    probes = 0
    for size in candidates:
        if len(found) == len(parts) or probes == _MOST_PROBES:
            break
        if size not in own and size <= reach and counts.probe(size):
            probes += 1
            found = _fits(counts, own, parts, modulus)
    return found


def _fits(
    counts: Measured, own: Sequence[int], parts: Sequence[Part], modulus: int
) -> dict[Part, Fit]:
    residue = own[0] % modulus
    sizes = [size for size in counts.measured if size % modulus == residue]
    counted_own = tuple(size for size in own if size in counts.measured)
    fits = {
        part: verified_fit(counts.dimension, counts.points(part, sizes), counted_own)
        for part in parts
    }
    return {part: found for part, found in fits.items() if found is not None}
