"""Long strings and lists cut short, and shares in percent."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_CUT = "..."
_MOST_DECIMALS = 6
_EXACT_FLOAT = 2**53


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters; what is cut is cut from the middle."""
    if len(text) <= width:
        return text
    kept = max(width - len(_CUT), 0)
    tail = kept // 2
    return (text[: kept - tail] + _CUT + text[len(text) - tail :])[: max(width, 0)]


def shorten_name(name: str, width: int) -> str:
    """A test's id loses its folders first, then its file; what is still too long, its middle."""
    path, colons, test = name.partition("::")
    shorter = (name, path.rpartition("/")[2] + colons + test, test) if colons else (name,)
    return next((each for each in shorter if len(each) <= width), shorten(shorter[-1], width))


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def percent(part: float, whole: float) -> str:
    """A share with two significant decimals; `100 %` and `0 %` are written only when exact.

    Returns:
        For instance `96.6 %`, `0.86 %`, `99.9994 %`; `-` where `whole` is 0.
    """
    if not whole:
        return "-"
    share = Fraction(part) / Fraction(whole) * 100
    if abs(share) > _EXACT_FLOAT:
        return f"{round(share):,} %"
    fewest = 0 if share in (0, 100) else 2 if abs(share) < 10 else 1
    for decimals in range(fewest, _MOST_DECIMALS + 1):
        rounded = round(share, decimals)
        if (rounded in (0, 100)) == (share in (0, 100)):
            return f"{float(rounded):,.{decimals}f} %"
    nearest = 0 if abs(share) < 50 else 100
    return f"{'under' if share < nearest else 'over'} {nearest} %"
