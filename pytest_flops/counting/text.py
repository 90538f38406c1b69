"""What people read, as plain text: names made harmless and cut short, lists, shares, columns."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_CUT = "..."
_GAP = 2
_NAME_WIDTH = 16
_MOST_DECIMALS = 6
_EXACT_FLOAT = 2**53


def printable(text: str) -> str:
    """`text` on one line, with control and invisible characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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


def in_columns(
    rows: Sequence[Sequence[str]],
    *,
    text: Collection[int] = (0,),
    width: int | None = None,
    by_need: Sequence[int] = (),
) -> list[str]:
    """Rows as lines, words from the left and figures to the right.

    Args:
        rows: A name each, and cells.
        text: The columns of words.
        width: How wide a line may be; the names are cut to what the other columns leave.
        by_need: Columns to leave out where there is no room, the one that is needed most first.
    """
    columns = [[printable(cell) for cell in column] for column in zip(*rows, strict=True)]
    widths = {place: max(map(len, column)) for place, column in enumerate(columns)}
    if width is not None:
        left = width - sum(widths[place] + _GAP for place in widths if place not in (0, *by_need))
        for place in by_need:
            if min(_NAME_WIDTH, widths[0]) + widths[place] + _GAP <= left:
                left -= widths[place] + _GAP
            else:
                del widths[place]
        columns[0] = [shorten_name(name, max(left, 1)) for name in columns[0]]
        widths[0] = max(map(len, columns[0]))
    padded = [
        [cell.ljust(size) if place in text else cell.rjust(size) for cell in columns[place]]
        for place, size in widths.items()
    ]
    return [(" " * _GAP).join(cells).rstrip() for cells in zip(*padded, strict=True)]
