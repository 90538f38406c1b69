"""Verdicts in people's words: their figures, and the message of a red test."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from pytest_flops.budgets.judging.causes import causes
from pytest_flops.budgets.units import (
    aligned,
    format_amount,
    format_apart,
    format_change,
    rounded_up,
)
from pytest_flops.counting.metric import FLOP, unit_of
from pytest_flops.counting.text import in_columns, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flops.budgets.budget import Location
    from pytest_flops.budgets.verdict import Verdict
    from pytest_flops.counting.metric import Quantity, Unit

_TOLD = 4
_LIMITS = 3
WIDTH = 80
"""How wide the message of a red test is; no test knows the terminal that shows it."""
_PARITY = (
    "The model runs something that the analytic counter's executed rules do not count, or no "
    "longer runs what they do: change the model back, or the rules with it."
)


def headline(verdict: Verdict) -> str:
    """One verdict on one line, e.g. `lm_head forward: 31.457 GFLOP, limit 15.8 GFLOP, over by ...`.

    Where two figures would print alike, their exact digits are shown.
    """
    words = [verdict.message] if verdict.message else []
    about = f"{subject(verdict)}: " if subject(verdict) else ""
    if verdict.actual is not None and verdict.allowed is not None:
        say = {"scaling": _exponents, "parity": _counts}.get(verdict.kind, _amounts)
        words.insert(0, say(verdict, verdict.actual, verdict.allowed))
        if verdict.kind == "scaling":
            about = f"{verdict.about} "
    return printable(about + "; ".join(words))


def told(verdict: Verdict) -> list[str]:
    """A red verdict in one or two lines: what made it red, if that is known, and its figures."""
    return [printable(verdict.cause), headline(verdict)] if verdict.cause else [headline(verdict)]


def told_within(verdict: Verdict, width: int = WIDTH) -> list[str]:
    """The same in lines of a width; an error is one line, which can be searched for whole."""
    lines = told(verdict)
    if verdict.kind == "error":
        return lines
    return [each for line in lines for each in wrapped(line, width)]


def following(number: int) -> str:
    """How many red verdicts follow from those that are told."""
    return f"{number:,} comparison{'s follow' if number > 1 else ' follows'} from it"


def explain(
    budget_name: str, verdicts: Sequence[Verdict], *, location: Location | None = None
) -> str:
    """The message of a red test: what made it red, by how much, and how to accept it.

    Args:
        budget_name: The budget's name.
        verdicts: All verdicts; red ones that others follow from are told, the rest is counted. The
            first line is the cause, since pytest's summary shows no more.
        location: Where the budget stands.
    """
    red = tuple(verdict for verdict in verdicts if not verdict.passed)
    found = causes(red)
    lines = []
    for cause in found[:_TOLD]:
        lines += told_within(cause.verdict)
    if len(found) == 1:
        lines += [f"  {row}" for row in parts_table(found[0].verdict)]
    if len(found) > _TOLD:
        lines.append(f"and {len(found) - _TOLD:,} more")
    counted = []
    if number := sum(len(cause.following) for cause in found):
        counted.append(following(number))
    if green := len(verdicts) - len(red):
        counted.append(f"{green:,} other{'s hold' if green > 1 else ' holds'}")
    place = f" ({location})" if location else ""
    budget = f"budget {budget_name!r} does not hold{place}"
    for line in (printable("; ".join([budget, *counted])), *acceptance(red)):
        lines += wrapped(line)
    return "\n".join(lines)


def wrapped(line: str, width: int = WIDTH) -> list[str]:
    """A line in lines of a width, further ones indented; a name is never broken."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def parts_table(verdict: Verdict) -> list[str]:
    """What makes up most of the excess or the cost, under a head; what grew alone is told."""
    grown, unit = bool(verdict.parts and verdict.parts[0][2]), _unit(verdict)
    if len(verdict.parts) <= grown:
        return []
    head = (
        "component" if grown else "most of it",
        str(verdict.quantity),
        "grew by" if grown else "",
    )
    columns = zip(*verdict.parts, strict=True)
    names = [printable(path) for path in next(columns)]
    costs = aligned([format_amount(cost, unit) for cost in next(columns)])
    above = aligned([f"+{format_amount(more, unit)}" if grown else "" for more in next(columns)])
    return in_columns([head, *zip(names, costs, above, strict=True)])


def acceptance(red: Iterable[Verdict], test: str = "") -> list[str]:
    """How to accept what is red, if it is meant: a line for each limit, and one for records.

    The limits are those of the first causes, so that the one that is told is among them.
    """
    red = [each for cause in causes(tuple(red)) for each in (cause.verdict, *cause.following)]
    ways: list[str] = []
    if any(verdict.kind == "parity" for verdict in red):
        ways.append(_PARITY)
    held: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in red:
        if verdict.kind == "limit":
            about = " ".join(word for word in (verdict.pattern, verdict.quantity) if word)
            place = str(verdict.location or "where the test gives it")
            held.setdefault((about, place), []).append(verdict)
    for (about, place), verdicts in [*held.items()][:_LIMITS]:
        largest = max(verdicts, key=lambda verdict: verdict.actual or 0)
        value = format_amount(rounded_up(_whole(largest.actual)), _unit(largest))
        ways.append(printable(f"write {value} to allow it: {about}, {place}"))
    if more := max(len(held) - _LIMITS, 0):
        ways.append(f"and {more:,} more limit{'s' if more > 1 else ''}")
    files = {v.location.file if v.location else "" for v in red if v.kind == "recorded"}
    if files:
        file = printable(max(files)) or "the lock file"
        ways.append(
            f"run pytest --flops-update {printable(test)}".rstrip()
            + f" and commit {file}, if it is meant"
        )
    return ways


def below_the_record(quantity: Quantity, actual: int, recorded: int) -> str:
    """The remark on a count below its record."""
    saved = recorded - actual
    shown = format_amount(saved, unit_of(quantity))
    return f"cheaper than recorded by {shown} ({format_change(-saved, recorded)})"


def subject(verdict: Verdict) -> str:
    """What a verdict is about, over which sizes: `lm_head forward`, `total over seq_len`."""
    over = f" over {verdict.dimension}" if verdict.dimension else ""
    return f"{verdict.about}{over}".lstrip()


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
    relative = f" ({format_change(actual - allowed, allowed)})" if allowed else ""
    return f"{format_amount(actual - allowed, _unit(verdict))}{relative}"


def _exponents(verdict: Verdict, actual: float, allowed: float) -> str:
    alike = actual != allowed and exponent(actual) == exponent(allowed)
    show = str if alike else exponent
    return (
        f"grows as {verdict.dimension}^{show(actual)}, allowed {verdict.written or show(allowed)}"
    )


def _counts(_verdict: Verdict, actual: float, allowed: float) -> str:
    apart = f", {abs(int(actual - allowed)):,} apart" if actual != allowed else ""
    return f"analytic {int(actual):,}, metered {int(allowed):,}{apart}"


def exponent(value: float) -> str:
    """An exponent of growth with at most four decimals."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _whole(value: float | None) -> int:
    return int(value or 0)


def _unit(verdict: Verdict) -> Unit:
    return FLOP if verdict.quantity is None else unit_of(verdict.quantity)
