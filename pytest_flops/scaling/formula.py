"""`Formula`: a verified cost formula in one dimension, and the search for one per part."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, islice, pairwise, takewhile
from math import gcd, lcm
from typing import TYPE_CHECKING

from pytest_flops.scaling.fit import ENOUGH, HELD_OUT, Fit, fits
from pytest_flops.scaling.measured import COUNTED_UP_TO, parts_of
from pytest_flops.scaling.polynomial import crossover

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flops.scaling.measured import Measured, Part

_STEPS = 8
_MOST_ATTEMPTS = 24
_PERIODS = (2, 3, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Formula:
    """What a part costs at any size: a polynomial, or one for each residue class of the sizes.

    Sizes are told apart modulo `period`, 1 for a polynomial over all sizes; `fits` are by residue.
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


def find_formulas(
    counts: Measured, own: Sequence[int], *, doubling: bool = False
) -> dict[Part, Formula]:
    """A formula for every part that has one, counting at a few more sizes where that helps.

    First a polynomial over all sizes, probed on the lattice of the caller's sizes. What has none is
    searched for in residue classes (a convolution of stride 2 costs floor((N - k) / 2) + 1
    positions): each of the caller's sizes must then lie on the polynomial of its class.

    `counts` has some of the caller's `own` sizes, which ascend; more are added to it. Numbers of
    ranks are probed by `doubling` alone: others do not divide what the ranks share.
    """
    # The largest step from the first size to every other one: sizes on this lattice share what the
    # caller's have in common, e.g. a width divisible by the heads.
    step = gcd(*(larger - smaller for smaller, larger in pairwise(own)))
    parts = [
        part for part in parts_of(counts.measured.values()) if len(counts.points(part, own)) > 1
    ]
    candidates = (
        takewhile(lambda size: size <= 2 * own[-1], doublings(own[0]))
        if doubling
        else islice(_probing_sizes(own[0], step), _MOST_ATTEMPTS)
    )
    found = _search(counts, own, parts, candidates, modulus=1)
    if len(found) < len(parts):
        counts.require(own)
        found = fits(counts, parts, own, [*counts.measured])
    formulas = {part: Formula(counts.dimension, 1, {0: fit}) for part, fit in found.items()}
    for period in () if doubling else _PERIODS:
        varying = (part for part in parts if len({y for _, y in counts.points(part, own)}) > 1)
        rest = [part for part in varying if part not in formulas]
        modulus = lcm(step, period)
        if rest and modulus > step:
            formulas |= _by_residue(counts, own, rest, modulus)
    return formulas


def doublings(start: int) -> Iterator[int]:
    """The sizes above `start` that halve to it."""
    return (start << times for times in count(1))


def _probing_sizes(start: int, step: int) -> Iterator[int]:
    """Sizes above `start`, close to it whatever is swept: along the lattice, then ever finer."""
    while step:
        yield from (start + step * k for k in range(1, _STEPS + 1))
        step = 0 if step == 1 else step // 2 if step % 2 == 0 else 1


def _by_residue(
    counts: Measured, own: Sequence[int], parts: Sequence[Part], modulus: int
) -> dict[Part, Formula]:
    classes: dict[int, list[int]] = {}
    for size in own:
        classes.setdefault(size % modulus, []).append(size)
    found: dict[int, dict[Part, Fit]] = {}
    for residue, members in classes.items():
        candidates = (members[0] + modulus * k for k in range(1, ENOUGH + HELD_OUT + 1))
        found[residue] = _search(counts, members, parts, candidates, modulus)
        parts = list(found[residue])
    return {
        part: Formula(counts.dimension, modulus, {r: fit[part] for r, fit in found.items()})
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

    def of_this_class() -> dict[Part, Fit]:
        sizes = [size for size in counts.measured if size % modulus == own[0] % modulus]
        return fits(counts, parts, own, sizes)

    found = of_this_class()
    reach = max(2 * own[-1], COUNTED_UP_TO)
    probes = 0
    for size in candidates:
        if len(found) == len(parts) or probes == ENOUGH:
            break
        if size not in own and size <= reach and counts.probe(size):
            probes += 1
            found = of_this_class()
    return found
