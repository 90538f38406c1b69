"""Component paths that differ in their numbers alone, as one: `layer_{0..3}.moe`."""

from __future__ import annotations

import re
from itertools import product
from math import prod
from typing import TYPE_CHECKING, TypeVar

from pytest_flops.counting.components import natural

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    Cost = TypeVar("Cost", bound=Hashable)
    Sets = tuple[tuple[int, ...], ...]

MOST_UNFOLDED = 100_000

# A number with a leading zero is text: `{0..3}` could not give its zeros back.
_NUMBER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,8})(?![0-9])")
_PIECE = re.compile(
    r"""(?P<brace>\{\{|\}\})
    | \{(?P<numbers>[0-9]{1,9}(?:\.\.[0-9]{1,9})?(?:,[0-9]{1,9}(?:\.\.[0-9]{1,9})?)*)\}
    | (?P<text>[^{}]+)
    | (?P<lone>.)""",
    re.VERBOSE,
)


def folded(costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """The same costs with one name for all paths of one cost that differ in numbers alone.

    `h.0.fc1` and `h.1.fc1` are `h.{0..1}.fc1`. A brace of a path itself is doubled, as in Python's
    format strings, so that `unfolded` gives exactly the paths back. Sorted naturally.
    """
    alike: dict[tuple[tuple[str, ...], Cost], list[tuple[int, ...]]] = {}
    for path, cost in costs.items():
        pieces = _NUMBER.split(path)
        texts = tuple(text.replace("{", "{{").replace("}", "}}") for text in pieces[::2])
        alike.setdefault((texts, cost), []).append(tuple(map(int, pieces[1::2])))
    names = [
        # As if its first path stood alone, so that a folded layer stays with the other layers.
        (natural(_name(texts, [numbers[:1] for numbers in sets])), _name(texts, sets), cost)
        for (texts, cost), members in alike.items()
        for sets in _products(members)
    ]
    return {name: cost for _, name, cost in sorted(names, key=lambda each: each[:2])}


def unfolded(name: str) -> list[str]:
    """The paths that a name of `folded` stands for.

    Raises:
        ValueError: It has a brace that is not closed, a range that falls, or too many paths.
    """
    places: list[Sequence[str | int]] = []
    for piece in _PIECE.finditer(name):
        if piece["lone"]:
            raise ValueError(f"{name!r} has a single brace; a brace of the path itself is doubled")
        numbers = piece["numbers"]
        places.append(list(_numbers(numbers)) if numbers else [piece["text"] or piece["brace"][0]])
    if prod(map(len, places)) > MOST_UNFOLDED:
        raise ValueError(f"{name!r} stands for more than {MOST_UNFOLDED:,} components")
    return ["".join(map(str, choice)) for choice in product(*places)]


def _products(members: Iterable[tuple[int, ...]]) -> list[Sets]:
    """Sets of numbers, one for each place, whose products are together exactly the members."""
    sets: list[Sets] = [tuple((number,) for number in numbers) for numbers in members]
    for place in reversed(range(len(sets[0]))):
        joined: dict[Sets, list[int]] = {}
        for each in sets:
            joined.setdefault((*each[:place], *each[place + 1 :]), []).append(each[place][0])
        sets = [
            (*others[:place], tuple(sorted(numbers)), *others[place:])
            for others, numbers in joined.items()
        ]
    return sets


def _name(texts: Sequence[str], sets: Sequence[Sequence[int]]) -> str:
    return texts[0] + "".join(
        f"{_in_braces(numbers)}{text}" for numbers, text in zip(sets, texts[1:], strict=True)
    )


def _in_braces(numbers: Sequence[int]) -> str:
    """`7` of one number; `{0..3,5}` of several, in ascending order."""
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = (str(low) if low == high else f"{low}..{high}" for low, high in runs)
    return f"{{{','.join(shown)}}}"


def _numbers(written: str) -> Iterable[int]:
    for run in written.split(","):
        low, _, high = run.partition("..")
        if int(high or low) < int(low):
            raise ValueError(f"the range {run} falls")
        if int(high or low) - int(low) > MOST_UNFOLDED:
            raise ValueError(f"the range {run} has more than {MOST_UNFOLDED:,} numbers")
        yield from range(int(low), int(high or low) + 1)
