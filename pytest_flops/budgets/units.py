"""Amounts and percentages as people write and read them; exact integers and fractions inside."""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.counting.metric import FLOP, METRICS, Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_LENGTH = 60
_DIGITS = r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)"
_AMOUNT = re.compile(rf"(?P<whole>{_DIGITS})(?:\.(?P<decimals>[0-9]+))?")
_PARTS = re.compile(r"(?P<number>[-+]?[0-9._,:]*(?:[eE][-+]?[0-9]+)?)\s*(?P<unit>.*)", re.DOTALL)
_WRONG_NUMBERS = (
    (re.compile(r"\Z"), "does not begin with a number"),
    (re.compile(r"-"), "is negative"),
    (re.compile(r".*[eE]"), "is in scientific notation; write it out or with a unit"),
    (re.compile(r".*:"), "has a colon, which YAML may read in base 60"),
    (re.compile(r"\+?0[0-9_]"), "has a leading zero, which YAML may read as octal"),
)
_IS_BOOLEAN = "is a boolean (YAML reads yes, no, on and off as booleans too)"
_NOT_FINITE = re.compile(r"[-+]?\.?(?:nan|inf|infinity)\b", re.IGNORECASE)


def parse_flops(text: object) -> int:
    """The number of FLOPs that `text` says: `"16.3 GFLOP"`, `"2_000 FLOP"`, `16300000000`.

    Raises:
        BudgetError: As `parse_amount` does.
    """
    return parse_amount(text, FLOP)


def parse_amount(text: object, unit: Unit) -> int:
    """The whole number of a unit that `text` says, e.g. `"1.5 GiB"` of bytes.

    Decimal arithmetic is exact; no float is involved. A plural such as `FLOPs` is accepted.

    Raises:
        BudgetError: It says no whole, non-negative number in a size of this unit.
    """
    if isinstance(text, str):
        return _from_text(text.strip(), unit)
    if isinstance(text, bool):
        raise _refusal(unit, f"{str(text).lower()} {_IS_BOOLEAN}")
    if isinstance(text, float):
        raise _refusal(unit, *_about_float(text, unit))
    if isinstance(text, dict):
        raise _refusal(unit, f"{_shown(text)} is no {unit.noun}: this has no phases")
    if not isinstance(text, int):
        raise _refusal(unit, f"{_shown(text)} is no {unit.noun}")
    if abs(text) >= 10**_MAX_LENGTH:
        raise _refusal(unit, f"a number of more than {_MAX_LENGTH} digits is no budget")
    if text < 0:
        raise _refusal(unit, f"{text} is negative")
    return text


def format_flops(flops: int) -> str:
    """Rounded for people: at most three decimals and an SI unit, e.g. `"16.288 GFLOP"`."""
    return format_amount(flops, FLOP)


def format_amount(amount: int, unit: Unit) -> str:
    """Rounded for people: at most three decimals, in the largest size that leaves a whole part."""
    sign, amount = ("-" if amount < 0 else ""), abs(amount)
    for symbol in unit.printed:
        size = unit.sizes[symbol]
        thousandths = (2000 * amount + size) // (2 * size)
        if thousandths < 1_000_000:
            break
    if amount == 1:
        symbol = symbol.removesuffix("s")  # 1 call
    whole, decimals = divmod(thousandths, 1000)
    fraction = f".{decimals:03}".rstrip("0").rstrip(".")
    return f"{sign}{whole}{fraction} {symbol}"


def format_apart(one: int, other: int, unit: Unit) -> Callable[[int], str]:
    """What prints amounts rounded, or with every digit where these two would print alike."""
    rounded = partial(format_amount, unit=unit)
    if one != other and rounded(one) == rounded(other):
        return lambda amount: f"{format_exact(amount)} {unit.symbol}"
    return rounded


def rounded_up(amount: int) -> int:
    """The next amount of at most three digits that are not 0, to write as a limit."""
    step: int = 10 ** max(len(str(amount)) - 3, 0)
    return -(-amount // step) * step


def aligned(amounts: Sequence[str]) -> list[str]:
    """Formatted amounts of one column, with their decimal points below each other."""
    split = [
        (*number.partition("."), unit) for number, _, unit in (a.partition(" ") for a in amounts)
    ]
    whole, decimals, units = (max(len(parts[i]) for parts in split) for i in (0, 2, 3))
    return [
        f"{before:>{whole}}{point or ' ' * bool(decimals)}{after:<{decimals}} {unit:<{units}}"
        for before, point, after, unit in split
    ]


def format_exact(amount: int) -> str:
    """Every digit, with thousands separators, e.g. `"16,287,760,384"`."""
    return f"{amount:,}"


def parse_percent(text: object) -> Fraction:
    """The fraction a percentage says: `"1.5%"` is 3/200.

    Raises:
        BudgetError: It is no non-negative decimal number followed by `%`.
    """
    return _percentage(text, 'a percentage of at least 0, e.g. "0%" or "1.5%"')


def parse_share(text: object) -> Fraction:
    """The fraction that a percentage between 0% and 100% says, both of which say nothing.

    Raises:
        BudgetError: It is no such percentage.
    """
    accepted = 'a percentage above 0% and below 100%, e.g. "90%"'
    is_fraction = isinstance(text, float) and 0 < text < 1
    meant = format_percent(Fraction(str(text))) if is_fraction else None
    share = _percentage(text, accepted, meant)
    if not 0 < share < 1:
        raise BudgetError(f"{_shown(text)} is no part of a limit. Accepted is {accepted}")
    return share


def _percentage(text: object, accepted: str, meant: str | None = None) -> Fraction:
    """A percentage of at least 0; `meant` is what a number without its sign may stand for."""
    written = text.strip() if isinstance(text, str) else ""
    amount = _AMOUNT.fullmatch(written.removesuffix("%").rstrip())
    if amount and written.endswith("%") and len(written) <= _MAX_LENGTH:
        return _exactly(amount) / 100
    problem, hint = "is negative" if written.startswith("-") else "is no percentage", None
    if isinstance(text, bool):
        raise BudgetError(_advised(f"{str(text).lower()} {_IS_BOOLEAN}", None, accepted))
    if isinstance(text, int | float):
        problem, hint = "has no percent sign", f'"{meant or f"{text}%"}"'
    raise BudgetError(_advised(f"{_shown(text)} {problem}", hint, accepted))


def format_percent(fraction: Fraction) -> str:
    """The inverse of `parse_percent`, e.g. `"1.5%"`."""
    numerator, denominator = (fraction * 100).as_integer_ratio()
    exact = Context(prec=_MAX_LENGTH)
    percent = exact.normalize(exact.divide(Decimal(numerator), Decimal(denominator)))
    return f"{percent:f}%"


def format_change(difference: int, base: int) -> str:
    """A change in percent of what was, rounded for people, e.g. `"+12.3 %"`.

    What changed is never told as 0, and -100 % only of what is gone; `"from 0"` if `base` is 0.
    """
    if not difference:
        return "same"
    if not base:
        return "from 0"
    sign = "+" if difference > 0 else "-"
    tenths = round(Fraction(1000 * abs(difference), base))
    if not tenths:
        return f"{sign}<0.1 %"
    if -base < difference < 0:
        tenths = min(tenths, 999)
    return f"{sign}{tenths // 10:,}.{tenths % 10} %"


def _refusal(unit: Unit, problem: str, hint: str | None = None) -> BudgetError:
    accepted = "an integer of at least 0"
    if _has_larger_sizes(unit):
        accepted = f"an integer, or a number with a unit ({', '.join(unit.sizes)})"
    return BudgetError(_advised(problem, hint, accepted))


def _has_larger_sizes(unit: Unit) -> bool:
    return max(unit.sizes.values()) > 1


def _advised(problem: str, hint: str | None, accepted: str) -> str:
    advice = f"; did you mean {hint}?" if hint else "."
    return f"{problem}{advice} Accepted is {accepted}"


@lru_cache(maxsize=1024)
def _from_text(text: str, unit: Unit) -> int:
    if len(text) > _MAX_LENGTH:
        raise _refusal(unit, f"{_shown(text)} is {len(text):,} characters long")
    if not text:
        raise _refusal(unit, "'' holds no number")
    if _NOT_FINITE.match(text):
        raise _refusal(unit, f"{_shown(text)} is not finite")
    split = _PARTS.fullmatch(text)
    number, symbol = (split["number"], split["unit"]) if split else ("", text)
    decimal = _AMOUNT.fullmatch(number.removeprefix("+"))
    if not decimal:
        raise _refusal(unit, *_about_number(text, number, symbol, unit))
    if not symbol and decimal["decimals"] and _has_larger_sizes(unit):
        raise _refusal(unit, f"{_shown(text)} has no unit", f'"{number} {unit.usual}"')
    amount = _exactly(decimal) * (_size(text, number, symbol, unit) if symbol else 1)
    if amount.denominator != 1:
        raise BudgetError(f"{_shown(text)} is no whole {unit.noun}")
    return amount.numerator


def _exactly(decimal: re.Match[str]) -> Fraction:
    decimals = decimal["decimals"] or ""
    return Fraction(int(decimal["whole"].replace("_", "") + decimals), 10 ** len(decimals))


def _size(text: str, number: str, symbol: str, unit: Unit) -> int:
    for spelling in (symbol, symbol.removesuffix("s")):
        if spelling in unit.sizes:
            return unit.sizes[spelling]
    shown = f"{_shown(text)}: {symbol!r}"
    if unit is FLOP and "MAC" in symbol.upper():
        raise _refusal(unit, f"{shown} counts multiply-adds, each of which is 2 FLOP")
    near = _nearest_symbol(symbol, unit)
    hint = f'"{number} {near}"' if near else None
    if unit is FLOP and ("/" in symbol or symbol.endswith("S")):
        raise _refusal(unit, f"{shown} is a speed, not a {unit.noun}", hint)
    if other := _unit_of_others(symbol, unit):
        raise _refusal(unit, f"{_shown(text)} is a {other.noun}, not a {unit.noun}")
    raise _refusal(unit, f"{_shown(text)} has the unknown unit {symbol!r}", hint)


def _unit_of_others(symbol: str, unit: Unit) -> Unit | None:
    """The unit of other metrics that has a symbol; one letter may be short for any."""
    others = (metric.unit for metric in METRICS.values() if metric.unit is not unit)
    return next((other for other in others if symbol in other.sizes and len(symbol) > 1), None)


def _nearest_symbol(symbol: str, unit: Unit) -> str | None:
    spellings = {known.lower(): known for known in unit.sizes}
    spellings |= {known[0].lower(): known for known in unit.sizes if known != unit.symbol}
    plain = symbol.lower().partition("/")[0].strip().removesuffix("s")
    near = get_close_matches(plain, spellings, n=1)
    return spellings[near[0]] if near else None


def _about_number(text: str, number: str, symbol: str, unit: Unit) -> tuple[str, str | None]:
    shown = _shown(text)
    if "," in number and not number.startswith("-"):
        is_grouped = re.fullmatch(r"\d{1,3}(,\d{3})+", number)
        plain = number.replace(",", "_" if is_grouped else ".")
        return f"{shown} has a comma", f'"{plain} {symbol}"' if symbol else plain
    for wrong, what in _WRONG_NUMBERS:
        if wrong.match(number):
            return f"{shown} {what}", None
    return f"{shown} is no {unit.noun}", None


def _about_float(number: float, unit: Unit) -> tuple[str, str | None]:
    if not math.isfinite(number):
        return f"{number} is not finite", None
    if number < 0:
        return f"{number} is negative", None
    if not number.is_integer() and not _has_larger_sizes(unit):
        return f"{number} is no whole {unit.noun}", None
    hint = str(int(number)) if number.is_integer() else f'"{number} {unit.usual}"'
    return f"{number} is a decimal number without a unit", hint if len(hint) < 40 else None


def _shown(value: object) -> str:
    written = repr(value) if isinstance(value, str) else str(value)
    return written if len(written) <= 2 * _MAX_LENGTH else f"{written[:20]}…{written[-8:]}"
