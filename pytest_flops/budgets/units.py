"""FLOPs and percentages as people write and read them; exact integers and fractions inside."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache
from typing import Final

from pytest_flops.budgets.errors import BudgetError

UNITS: Final = {
    "FLOP": 1,
    "kFLOP": 10**3,
    "MFLOP": 10**6,
    "GFLOP": 10**9,
    "TFLOP": 10**12,
    "PFLOP": 10**15,
}

_MAX_LENGTH = 60
_ACCEPTED = "an integer, or a number with a unit (FLOP, kFLOP, MFLOP, GFLOP, TFLOP, PFLOP)"
_ACCEPTED_PERCENT = 'a percentage of at least 0, e.g. "0%" or "1.5%"'
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
_NOT_FINITE = re.compile(r"[-+]?\.?(?:nan|inf|infinity)\b", re.IGNORECASE)


def parse_flops(text: object) -> int:
    """The number of FLOPs that `text` says: `"16.3 GFLOP"`, `"2_000 FLOP"`, `16300000000`.

    Decimal arithmetic is exact; no float is involved. The plural `FLOPs` is accepted.

    Raises:
        BudgetError: It says no whole, non-negative number of FLOPs in a known unit.
    """
    if isinstance(text, bool):
        raise _refusal(
            f"{str(text).lower()} is a boolean (YAML reads yes, no, on and off as booleans too)"
        )
    if isinstance(text, int):
        return _from_integer(text)
    if isinstance(text, float):
        raise _refusal(*_about_float(text))
    if not isinstance(text, str):
        raise _refusal(f"{_shown(text)} is no number of FLOPs")
    return _from_text(text.strip())


def format_flops(flops: int) -> str:
    """Rounded for people: at most three decimals and an SI unit, e.g. `"16.288 GFLOP"`."""
    sign, flops = ("-" if flops < 0 else ""), abs(flops)
    for unit, size in UNITS.items():
        thousandths = (2000 * flops + size) // (2 * size)
        if thousandths < 1_000_000 or unit == "PFLOP":
            break
    whole, decimals = divmod(thousandths, 1000)
    fraction = f".{decimals:03}".rstrip("0").rstrip(".")
    return f"{sign}{whole}{fraction} {unit}"


def format_exact(flops: int) -> str:
    """Every digit, with thousands separators, e.g. `"16,287,760,384"`."""
    return f"{flops:,}"


def parse_percent(text: object) -> Fraction:
    """The fraction a percentage says: `"1.5%"` is 3/200.

    Raises:
        BudgetError: It is no non-negative decimal number followed by `%`.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise BudgetError(
            _advised(f"{_shown(text)} has no percent sign", f'"{text}%"', _ACCEPTED_PERCENT)
        )
    written = text.strip() if isinstance(text, str) else ""
    if written.startswith("-"):
        raise BudgetError(_advised(f"{_shown(text)} is negative", None, _ACCEPTED_PERCENT))
    amount = _AMOUNT.fullmatch(written.removesuffix("%").rstrip())
    if len(written) > _MAX_LENGTH or not written.endswith("%") or not amount:
        raise BudgetError(_advised(f"{_shown(text)} is no percentage", None, _ACCEPTED_PERCENT))
    return _exactly(amount) / 100


def format_percent(fraction: Fraction) -> str:
    """The inverse of `parse_percent`, e.g. `"1.5%"`."""
    numerator, denominator = (fraction * 100).as_integer_ratio()
    whole, rest = divmod(numerator, denominator)
    decimals = ""
    while rest and len(decimals) < _MAX_LENGTH:
        digit, rest = divmod(10 * rest, denominator)
        decimals += str(digit)
    return f"{whole}.{decimals}%" if decimals else f"{whole}%"


def _refusal(problem: str, hint: str | None = None) -> BudgetError:
    return BudgetError(_advised(problem, hint, _ACCEPTED))


def _advised(problem: str, hint: str | None, accepted: str) -> str:
    advice = f"; did you mean {hint}?" if hint else "."
    return f"{problem}{advice} Accepted is {accepted}"


def _from_integer(flops: int) -> int:
    if abs(flops) >= 10**_MAX_LENGTH:
        raise _refusal(f"a number of more than {_MAX_LENGTH} digits is no budget")
    if flops < 0:
        raise _refusal(f"{flops} is negative")
    return flops


@lru_cache(maxsize=1024)
def _from_text(text: str) -> int:
    if len(text) > _MAX_LENGTH:
        raise _refusal(f"{_shown(text)} is {len(text):,} characters long")
    if not text:
        raise _refusal("'' holds no number")
    if _NOT_FINITE.match(text):
        raise _refusal(f"{_shown(text)} is not finite")
    parts = _PARTS.fullmatch(text)
    number, unit = (parts["number"], parts["unit"]) if parts else ("", text)
    amount = _AMOUNT.fullmatch(number.removeprefix("+"))
    if not amount:
        raise _refusal(*_about_number(text, number, unit))
    if not unit and amount["decimals"]:
        raise _refusal(f"{_shown(text)} has no unit", f'"{number} GFLOP"')
    size = _unit_size(text, number, unit) if unit else 1
    flops = _exactly(amount) * size
    if flops.denominator != 1:
        raise BudgetError(f"{_shown(text)} holds a fraction of a FLOP; FLOPs are whole numbers")
    return flops.numerator


def _exactly(amount: re.Match[str]) -> Fraction:
    decimals = amount["decimals"] or ""
    return Fraction(int(amount["whole"].replace("_", "") + decimals), 10 ** len(decimals))


def _unit_size(text: str, number: str, unit: str) -> int:
    singular = unit.removesuffix("s")
    if singular in UNITS:
        return UNITS[singular]
    if "MAC" in unit.upper():
        raise _refusal(f"{_shown(text)}: {unit!r} counts multiply-adds, each of which is 2 FLOP")
    near = _nearest_unit(unit)
    hint = f'"{number} {near}"' if near else None
    if "/" in unit or unit.endswith("S"):
        raise _refusal(f"{_shown(text)}: {unit!r} is a speed, not a number of FLOPs", hint)
    raise _refusal(f"{_shown(text)} has the unknown unit {unit!r}", hint)


def _nearest_unit(unit: str) -> str | None:
    by_lower_case = {name.lower(): name for name in UNITS}
    by_lower_case.update({name[0].lower(): name for name in UNITS if name != "FLOP"})
    plain = unit.lower().partition("/")[0].strip().removesuffix("s")
    near = get_close_matches(plain, by_lower_case, n=1)
    return by_lower_case[near[0]] if near else None


def _about_number(text: str, number: str, unit: str) -> tuple[str, str | None]:
    shown = _shown(text)
    if "," in number and not number.startswith("-"):
        is_grouped = re.fullmatch(r"\d{1,3}(,\d{3})+", number)
        plain = number.replace(",", "_" if is_grouped else ".")
        return f"{shown} has a comma", f'"{plain} {unit}"' if unit else plain
    for wrong, what in _WRONG_NUMBERS:
        if wrong.match(number):
            return f"{shown} {what}", None
    return f"{shown} is no number of FLOPs", None


def _about_float(number: float) -> tuple[str, str | None]:
    if not math.isfinite(number):
        return f"{number} is not finite", None
    if number < 0:
        return f"{number} is negative", None
    hint = str(int(number)) if number.is_integer() else f'"{number} GFLOP"'
    return f"{number} is a decimal number without a unit", hint if len(hint) < 40 else None


def _shown(value: object) -> str:
    written = repr(value) if isinstance(value, str) else str(value)
    return written if len(written) <= 2 * _MAX_LENGTH else f"{written[:20]}…{written[-8:]}"
