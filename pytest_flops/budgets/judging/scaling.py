"""`hold_scaling`: hold the growth that a sweep found against a scaling limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.alike import named, one_row_if_alike
from pytest_flops.budgets.patterns import matching, no_match
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.components import ancestors, contains
from pytest_flops.counting.count import PHASES
from pytest_flops.counting.metric import METRICS, QUANTITIES, is_total, quantities_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flops.budgets.budget import ScalingLimit
    from pytest_flops.counting.metric import Quantity
    from pytest_flops.scaling.sweep import Growth, Sweep

_SLACK = 1e-9
"""A local exponent is a quotient of logarithms; one of exactly 1 may come out as 1 + 2e-16."""


def hold_scaling(
    limit: ScalingLimit, sweep: Sweep, *, of_ranks: bool = False
) -> tuple[Verdict, ...]:
    """One verdict for the total and for each phase, and one for each component with a limit.

    The asymptotic exponent is compared where the cost is a polynomial, exactly. Where it is none,
    the largest local exponent of the sweep is, or the asymptotic exponent of a part inside if that
    is larger: what contains it grows at least as fast. A component is judged by its
    fastest-growing phase. A pattern that matches no component is an error.

    Another metric passes by an exact polynomial alone. Memory has a large constant part, the
    parameters, so that a local exponent stays below the true one at every size. Its phases are held
    too: while the sizes are small the peak may be that of the optimizer, which does not grow. Over
    numbers `of_ranks` the largest local exponent does: they are those that a team has, and payloads
    that are padded to a multiple of the ranks lie on no polynomial.
    """
    verdicts = []
    if limit.max_exponent is not None:
        whole = [sweep.of(quantity) for quantity in QUANTITIES]
        verdicts += [_verdict(limit, sweep, growth, limit.max_exponent) for growth in whole]
    for pattern, allowed in limit.components.items():
        verdicts += _components(limit, sweep, pattern, allowed)
    for name, allowed in limit.metrics.items():
        quantities = quantities_of(METRICS[name])
        verdicts += [_metric(limit, sweep, each, allowed, of_ranks) for each in quantities]
    return tuple(verdicts)


def _components(limit: ScalingLimit, sweep: Sweep, pattern: str, allowed: float) -> list[Verdict]:
    components = [*dict.fromkeys(path for each in sweep.growth if (path := each.component))]
    matched = matching(pattern, components)
    if not matched:
        message = f"scaling over {limit.dimension}: {no_match(pattern, components)}"
        about = {"dimension": limit.dimension, "location": limit.location}
        return [Verdict.error(message, pattern=pattern, **about)]
    phases = [growth for growth in sweep.growth if not is_total(growth.quantity)]
    fastest = [
        max(
            (growth for growth in phases if growth.component == path),
            key=lambda growth: _decisive(sweep, growth).exponent,
        )
        for path in matched
    ]
    return [_verdict(limit, sweep, growth, allowed, pattern) for growth in fastest]


def _metric(
    limit: ScalingLimit, sweep: Sweep, quantity: Quantity, allowed: float, of_ranks: bool
) -> Verdict:
    about = {"quantity": quantity, "dimension": limit.dimension, "location": limit.location}
    growth = next((found for found in sweep.growth if found.quantity == quantity), None)
    if growth is None:
        return Verdict.error("it was not counted", **about)
    verdict = _verdict(limit, sweep, growth, allowed)
    if not verdict.passed or growth.asymptotic is not None or of_ranks:
        return verdict
    pairs = zip(sweep.sizes, growth.counts, strict=True)
    counts = ", ".join(f"{count:,} at {size:,}" for size, count in pairs)
    return Verdict.error(
        f"it lies on no polynomial ({counts}), and its exponent between two sizes, at most "
        f"{growth.exponent:.6g}, may be smaller than the true one: constant parts, such as "
        "parameters, hide growth. Take larger sizes, multiples of 128",
        **about,
    )


def _verdict(
    limit: ScalingLimit, sweep: Sweep, growth: Growth, allowed: float, pattern: str | None = None
) -> Verdict:
    decisive = _decisive(sweep, growth)
    slack = _SLACK if decisive.asymptotic is None else 0.0
    passed = decisive.exponent <= allowed + limit.tolerance + slack
    tolerance = f", tolerance {limit.tolerance:.12g}" if limit.tolerance else ""
    written = f"{allowed:.12g}{tolerance}"
    accused = [] if passed else _accused(sweep, growth)
    return Verdict(
        kind="scaling",
        passed=passed,
        quantity=growth.quantity,
        component=growth.component,
        actual=decisive.exponent,
        allowed=allowed,
        written=written,
        pattern=pattern,
        dimension=sweep.dimension,
        location=limit.location,
        message=_counts(sweep, accused[0]) if accused else growth.note,
        cause=_cause(sweep, accused, written) if accused and accused[0].component else "",
    )


def _decisive(sweep: Sweep, growth: Growth) -> Growth:
    """The growth whose exponent is compared: this one's, or that of an exact part inside."""
    if growth.asymptotic is not None:
        return growth
    exact = [part for part in _inside(sweep, growth) if part.asymptotic is not None]
    return max([growth, *exact], key=lambda part: part.exponent)


def _accused(sweep: Sweep, growth: Growth) -> list[Growth]:
    """What grows fastest, as far inside as components are told apart; the dearest first."""
    fastest = _fastest(_inside(sweep, growth))
    if not fastest or fastest[0].exponent < growth.exponent:
        return [growth]
    return sorted(fastest, key=lambda part: -part.counts[-1])


def _cause(sweep: Sweep, accused: Sequence[Growth], allowed: str) -> str:
    """Who grows how fast, in which phases."""
    paths = dict.fromkeys(part.component for part in accused if part.component)
    who = named([*one_row_if_alike((path, 0, None) for path in paths)])
    phases = [each for each in PHASES if any(part.quantity == each for part in accused)]
    where = f", in {' and '.join(phases)}" if phases and len(phases) < len(PHASES) else ""
    verb = "grow" if len(paths) > 1 else "grows"
    return f"{who} {verb} as {sweep.dimension}^{accused[0].exponent:.6g}, allowed {allowed}{where}"


def _counts(sweep: Sweep, growth: Growth) -> str:
    """The formula and what was counted of the one that grows fastest."""
    formula = f" = {growth.polynomial}" if growth.polynomial else ""
    note = f" ({growth.note})" if growth.note else ""
    pairs = zip(sweep.sizes, growth.counts, strict=True)
    counts = ", ".join(f"{size:,}: {count:,}" for size, count in pairs)
    about = f"{growth.component or 'the whole'} {growth.quantity}"
    return f"{about}{formula} ({counts}){note}"


def _inside(sweep: Sweep, growth: Growth) -> list[Growth]:
    """The phases of every component inside this one that its quantity is a sum of."""
    return [
        part
        for part in sweep.growth
        if part.component is not None
        and contains(growth.component, part.component)
        and not is_total(part.quantity)
        and growth.quantity in ("total", part.quantity)
    ]


def _fastest(growth: Sequence[Growth]) -> list[Growth]:
    """Those with the largest exponent that contain no other one of them."""
    top = max((part.exponent for part in growth), default=0.0)
    fastest = [part for part in growth if part.exponent == top]
    containers = {
        (container, part.quantity)
        for part in fastest
        for container in ancestors(part.component or "")
    }
    return [part for part in fastest if (part.component, part.quantity) not in containers]
