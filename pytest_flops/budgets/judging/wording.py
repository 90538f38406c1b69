"""Verdicts in people's words: one line each, and the whole message of a red test."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pytest_flops.budgets.errors import printable
from pytest_flops.budgets.judging.blame import one_per_family
from pytest_flops.budgets.units import format_amount, format_apart, format_exact
from pytest_flops.counting.metric import BYTE, FLOP, TOTAL, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flops.budgets.budget import Location
    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.counting.metric import Quantity, Unit

_IN_FULL = 8
_IN_BRIEF = 20
_NAMED = 5


def headline(verdict: Verdict) -> str:
    """One verdict on one line, e.g. `lm_head forward: 31.457 GFLOP, limit 15.8 GFLOP, over by ...`.

    Where two figures would print alike, their exact digits are shown.
    """
    words = [verdict.message] if verdict.message else []
    if verdict.actual is not None and verdict.allowed is not None:
        say = {"scaling": _exponents, "parity": _counts}.get(verdict.kind, _amounts)
        words.insert(0, say(verdict, verdict.actual, verdict.allowed))
    about = subject(verdict)
    return printable((f"{about}: " if about else "") + "; ".join(words))


def explain(
    budget_name: str, verdicts: Sequence[Verdict], *, location: Location | None = None
) -> str:
    """The whole message of a red test: what is over, by how much, why, and how to accept it.

    Args:
        budget_name: The budget's name.
        verdicts: All verdicts; the red ones are told, the green ones are counted. The first line
            is the first red one, since pytest's summary shows no more. What is red of components
            that are alike is told once; of those that a pattern matches, the worst is told in full.
            A component above its record is told in brief where the whole, told in full, names it
            already.
        location: Where the budget stands.
    """
    failed = [verdict for verdict in verdicts if not verdict.passed]
    red = one_per_family(failed, parts=())
    in_full = [verdict for verdict in _first_of_each_pattern(red) if not _told(verdict, red)]
    in_full = in_full[:_IN_FULL]
    place = f" ({location})" if location else ""
    lines = [headline(verdict) for verdict in in_full[:1]]
    lines += [printable(f"budget {budget_name!r} does not hold{place}"), ""]
    for verdict in in_full:
        lines += [*_block(verdict), ""]
    if in_brief := [verdict for verdict in red if verdict not in in_full]:
        lines += [f"  {headline(verdict)}" for verdict in in_brief[:_IN_BRIEF]]
        more = len(in_brief) - _IN_BRIEF
        lines += [f"  and {more:,} more", ""] if more > 0 else [""]
    green = len(verdicts) - len(failed)
    if green:
        lines += [f"{green} other comparison{'s hold' if green > 1 else ' holds'}.", ""]
    return "\n".join([*lines, *_acceptance(red)]).rstrip()


def below_the_record(quantity: Quantity, actual: int, recorded: int) -> str:
    """The remark on a count below its record."""
    saved = recorded - actual
    shown = format_amount(saved, unit_of(quantity))
    return f"cheaper than recorded by {shown} ({_percent(-saved, recorded)})"


def lines_told(found: Mapping[str, int], unit: Unit) -> str:
    """The lines of the user's code that most of a metric comes from, as far as they are known."""
    most = sorted(found, key=lambda line: (-found[line], line))
    listed = [f"{line} ({format_amount(found[line], unit)})" for line in most[:_NAMED]]
    more = f" and {len(most) - _NAMED:,} more lines" if len(most) > _NAMED else ""
    return f"at {', '.join(listed)}{more}" if listed else ""


def operators_told(
    details: Mapping[str, Any], recorded: Mapping[str, Any], phase: str, unit: Unit
) -> str:
    """The operators that are new or more since the record, or else those that cost most.

    Args:
        details: Those of the metric; `operations` has its values by operator and phase, `calls`,
            if it has them, how many calls these are.
        recorded: The same of the record; empty where it has none.
        phase: A phase, or `total`.
        unit: What the values are counted in.
    """

    def values(of: Mapping[str, Any], kept: str = "operations") -> dict[str, int]:
        operations: Mapping[str, Mapping[str, int]] = of.get(kept, {})
        return {
            name: sum(phases.values()) if phase == TOTAL else phases.get(phase, 0)
            for name, phases in operations.items()
        }

    now, then = values(details), values(recorded)
    calls = values(details, "calls").items()
    often = {name: f" x {number}" for name, number in calls if number != now[name]}
    told, sign = now, ""
    if then:
        told, sign = {name: cost - then.get(name, 0) for name, cost in now.items()}, "+"
    most = sorted((name for name in told if told[name] > 0), key=lambda name: (-told[name], name))
    listed = [
        f"{name}{often.get(name, '')} ({'new, ' if then and not then.get(name) else ''}"
        f"{sign}{format_amount(told[name], unit)})"
        for name in most[:_NAMED]
    ]
    more = f" and {len(most) - _NAMED:,} more" if len(most) > _NAMED else ""
    return f"{'more' if then else 'most'} by {', '.join(listed)}{more}" if listed else ""


def moment_told(
    details: Mapping[str, Any], recorded: Mapping[str, Any], *, alone: bool = False
) -> str:
    """When a peak was, and what kinds were alive: what is more since the record, or all.

    Args:
        details: Those of the metric: `at` and `kinds`.
        recorded: The same of the record; empty where it has none.
        alone: Whether the peak is of another phase than the one that is told of.
    """
    at = details["at"]
    if alone:
        return f"what was alive is known of the highest peak alone, which is in {at['phase']}"
    when = f"at {at['operator']} in {at['phase']}"
    when += f" of {at['module']}" if at["module"] else ", outside modules"
    kinds, before = details["kinds"], recorded.get("kinds", {})
    told = {kind: size - before.get(kind, 0) for kind, size in kinds.items()} if before else kinds
    most = sorted((kind for kind in told if told[kind] > 0), key=lambda kind: -told[kind])
    listed = [f"{kind} {'+' if before else ''}{format_amount(told[kind], BYTE)}" for kind in most]
    what = "alive now and not in the record" if before else "alive then"
    return f"{when}; {what}: {', '.join(listed)}" if listed else when


def subject(verdict: Verdict) -> str:
    """What a verdict is about: `lm_head forward`, `total`, `layer_0.moe total over seq_len`."""
    over = f"over {verdict.dimension}" if verdict.dimension else None
    return " ".join(word for word in (verdict.component, verdict.quantity, over) if word)


def _amounts(verdict: Verdict, actual: float, allowed: float) -> str:
    actual, allowed = int(actual), int(allowed)
    show = format_apart(actual, allowed, _unit(verdict))
    bound = f"limit {show(allowed)}"
    if verdict.kind == "recorded" and verdict.recorded is not None:
        tolerance = "" if verdict.written in {None, "0%"} else f" + {verdict.written} tolerance"
        bound = f"recorded {show(verdict.recorded)}{tolerance}"
    over = "" if verdict.passed else f", over by {_over(verdict)}"
    return f"{show(actual)}, {bound}{over}"


def _over(verdict: Verdict) -> str:
    actual, allowed = _whole(verdict.actual), _whole(verdict.allowed)
    relative = f" ({_percent(actual - allowed, allowed)})" if allowed else ""
    return f"{format_amount(actual - allowed, _unit(verdict))}{relative}"


def _exponents(verdict: Verdict, actual: float, allowed: float) -> str:
    alike = actual != allowed and _exponent(actual) == _exponent(allowed)
    show = str if alike else _exponent
    relation = "within" if verdict.passed else "above"
    bound = verdict.written or show(allowed)
    return f"grows with exponent {show(actual)}, {relation} the allowed {bound}"


def _counts(_verdict: Verdict, actual: float, allowed: float) -> str:
    apart = f", {abs(int(actual - allowed)):,} apart" if actual != allowed else ""
    return f"analytic {int(actual):,}, metered {int(allowed):,}{apart}"


def _exponent(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _whole(value: float | None) -> int:
    return int(value or 0)


def _unit(verdict: Verdict) -> Unit:
    return FLOP if verdict.quantity is None else unit_of(verdict.quantity)


def _percent(part: int, whole: int) -> str:
    """With a sign and one decimal; what would round to nothing says so."""
    share = Fraction(100 * part, whole)
    if 0 < abs(share) < Fraction(1, 20):
        return f"{'+' if part > 0 else '-'}<0.1 %"
    tenths = round(share * 10)
    return f"{'+' if part > 0 else '-'}{abs(tenths) // 10:,}.{abs(tenths) % 10} %"


def _first_of_each_pattern(red: Sequence[Verdict]) -> list[Verdict]:
    """The red verdicts, and of those that one limit on a pattern made, the worst."""
    worst: dict[tuple[object, ...], Verdict] = {}
    for number, verdict in enumerate(red):
        alone = verdict.kind != "limit" or verdict.pattern is None
        key = (number,) if alone else (verdict.pattern, verdict.quantity, verdict.location)
        rival = worst.setdefault(key, verdict)
        if (verdict.actual or 0) > (rival.actual or 0):
            worst[key] = verdict
    return list(worst.values())


def _told(verdict: Verdict, red: Sequence[Verdict]) -> bool:
    if verdict.kind != "recorded" or verdict.component is None:
        return False
    same = (other for other in red if other.kind == "recorded" and other.component is None)
    return any(other.quantity == verdict.quantity for other in same)


def _block(verdict: Verdict) -> Iterator[str]:
    yield f"  {headline(verdict)}"
    if verdict.kind in {"limit", "recorded"} and verdict.allowed is not None:
        yield from _aligned(_figures(verdict))
    elif verdict.location:
        yield f"      at {printable(str(verdict.location))}"
    if verdict.parts:
        what = "most of it"
        if verdict.parts[0][2] is not None:
            what = "what grew most"
        elif verdict.kind == "recorded":
            what = "most of it (the record is too coarse to tell what grew)"
        yield f"      {what}:"
        yield from _aligned(_part_rows(verdict))


def _figures(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    actual, allowed = _whole(verdict.actual), _whole(verdict.allowed)
    yield "counted", format_exact(actual), ""
    if verdict.kind == "recorded" and verdict.recorded is not None:
        yield "recorded", format_exact(verdict.recorded), _standing_at(verdict)
        yield "allowed", format_exact(allowed), f"tolerance {verdict.written}"
    else:
        yield "limit", format_exact(allowed), _standing_at(verdict)
    yield "over by", format_exact(actual - allowed), _over(verdict)


def _standing_at(verdict: Verdict) -> str:
    words = []
    if verdict.kind == "limit" and verdict.written not in {None, str(verdict.allowed)}:
        words.append(f"written {verdict.written}")
    if verdict.pattern and verdict.pattern != verdict.component:
        words.append(f"for {verdict.pattern!r}")
    if verdict.location:
        words.append(f"at {verdict.location}")
    return " ".join(words)


def _part_rows(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    for path, flops, above in verdict.parts:
        growth = "" if above is None else f"+{format_exact(above)} above the record"
        yield f"  {path}", format_exact(flops), growth


def _aligned(rows: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    table = [tuple(map(printable, row)) for row in rows]
    label, figure = (max(len(row[column]) for row in table) for column in (0, 1))
    for name, digits, remark in table:
        yield f"      {name:<{label}}  {digits:>{figure}}  {remark}".rstrip()


def _acceptance(red: Sequence[Verdict]) -> Iterator[str]:
    if any(verdict.kind == "parity" for verdict in red):
        yield "The model runs something that the analytic counter's executed rules do not count,"
        yield "or no longer runs what they do: change the model back, or the rules with it."
    ways: list[str] = []
    for verdict in red:
        if verdict.kind == "limit":
            about = " ".join(word for word in (verdict.pattern, verdict.quantity) if word)
            place = verdict.location or "where the test gives it"
            ways.append(f"  raise the limit of {printable(f'{about}, {place}')}")
    if any(verdict.kind == "recorded" for verdict in red):
        ways.append("  run `pytest --flops-update` and commit the lock file")
    if ways:
        yield "If the increase is meant:"
        yield from dict.fromkeys(ways)
