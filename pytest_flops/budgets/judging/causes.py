"""`causes`: which red verdicts are told, and which follow from them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from pytest_flops.budgets.judging.alike import each_of
from pytest_flops.budgets.verdict import KINDS_BY_SEVERITY, Verdict
from pytest_flops.counting.components import contains, depth, family
from pytest_flops.counting.metric import is_total, metric_of


class Cause(NamedTuple):
    """A red verdict that is told, and those that follow from it."""

    verdict: Verdict
    following: tuple[Verdict, ...]


@lru_cache(maxsize=64)
def causes(red: tuple[Verdict, ...]) -> tuple[Cause, ...]:
    """The red verdicts that are told, the gravest first, and what follows from each.

    From the whole workload's follow its components', and from a total its phases'. Verdicts of
    different metrics are ranked by the share of what is allowed.
    """
    found: list[tuple[Verdict, list[Verdict]]] = []
    for verdict in sorted(red, key=_outermost_first):
        for told, following in found:
            if _follows(verdict, told):
                following.append(verdict)
                break
        else:
            found.append((verdict, []))
    every = [_with_those_alike(verdict, following) for verdict, following in found]
    return tuple(sorted(every, key=lambda cause: severity(cause.verdict)))


def severity(verdict: Verdict) -> tuple[int, float, float]:
    """Small for what matters most: by kind, then by the share of what is allowed.

    The share and not the difference, so that verdicts of different units can be ranked; the
    difference decides between equal shares.
    """
    return KINDS_BY_SEVERITY.index(verdict.kind), -share(verdict), -_excess(verdict)


def share(verdict: Verdict) -> float:
    """Counted over allowed; where nothing was allowed, infinite, or 0 if nothing was counted."""
    actual, allowed = verdict.actual or 0, verdict.allowed or 0
    if allowed:
        return actual / allowed
    return math.inf if actual else 0.0


def _excess(verdict: Verdict) -> float:
    return (verdict.actual or 0) - (verdict.allowed or 0)


def _outermost_first(verdict: Verdict) -> tuple[object, ...]:
    place = depth(verdict.component) if verdict.component else 0
    if verdict.kind == "parity":  # the counters disagree in the innermost, and so in what holds it
        place = -place
    phase = verdict.quantity is None or not is_total(verdict.quantity)
    return place, phase, verdict.kind == "recorded", -_excess(verdict), verdict.component or ""


def _follows(verdict: Verdict, told: Verdict) -> bool:
    """Whether what is told of one says enough of the other, which comes after it in order."""
    if "error" in (verdict.kind, told.kind) or verdict.quantity is None or told.quantity is None:
        return False
    alike = family(verdict.component or "") == family(told.component or "")
    inside = contains(told.component, verdict.component or "")
    same = verdict.quantity == told.quantity
    if "parity" in (verdict.kind, told.kind):
        around = contains(verdict.component, told.component or "")
        return verdict.kind == told.kind and same and (alike or around)
    if metric_of(verdict.quantity) is not metric_of(told.quantity) or not (inside or alike):
        return False
    if "scaling" in (verdict.kind, told.kind):
        over_the_same = (verdict.kind, verdict.dimension) == (told.kind, told.dimension)
        as_fast = told.component == verdict.component or told.actual == verdict.actual
        return over_the_same and as_fast
    return same or is_total(told.quantity)


def _with_those_alike(told: Verdict, following: list[Verdict]) -> Cause:
    """Components that are alike, to the last figure, are told together."""

    def about(verdict: Verdict) -> Verdict:
        return replace(verdict, component=family(verdict.component or ""), parts=(), cause="")

    alike = [v for v in following if v.component and about(v) == about(told)]
    if not alike:
        return Cause(told, tuple(following))
    one = replace(told, component=each_of([str(v.component) for v in (told, *alike)]))
    return Cause(one, tuple(v for v in following if v not in alike))
