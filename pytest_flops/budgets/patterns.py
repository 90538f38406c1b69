"""Component patterns: as a shell matches file paths, with dots for slashes."""

from __future__ import annotations

import re
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.counting.components import segments
from pytest_flops.counting.text import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ANY_DEPTH = "**"
_TOKEN = re.compile(r"\[(?:[!^].|[^!^])[^\]]*\]|.", re.DOTALL)


def matching(pattern: str, paths: Iterable[str]) -> list[str]:
    """The component paths that `pattern` names, in their own order.

    `*`, `?` and `[...]` (`[!...]` to exclude) stay within one dotted segment; `**` as a segment of
    its own stands for any number of segments, also none. A literal path matches itself.

    Raises:
        BudgetError: As `parse_pattern` does.
    """
    wanted = parse_pattern(pattern)
    return [path for path in paths if path == pattern or _matches(wanted, segments(path))]


def no_match(pattern: str, paths: Iterable[str]) -> str:
    """What to tell the author of a pattern that names none of the components there are."""
    paths = list(paths)
    near = get_close_matches(pattern, paths, n=3, cutoff=0.5)
    if near:
        advice = f"; did you mean {' or '.join(map(repr, near))}?"
    elif paths:
        advice = f"; there are {some(paths, 8)}"
    else:
        advice = "; the count has no components at all"
    return f"the pattern {pattern!r} matches no component{advice}"


@lru_cache(maxsize=1024)
def parse_pattern(pattern: str) -> tuple[str, ...]:
    """What each dotted segment of a component's path has to match.

    Raises:
        BudgetError: The pattern is empty, or has an empty segment or an unclosed bracket.
    """
    if not isinstance(pattern, str) or not pattern:
        raise BudgetError(f"{pattern!r} is no component pattern; e.g. 'layer_*.moe'")
    return tuple(_checked(segment, pattern) for segment in segments(pattern))


def _checked(segment: str, pattern: str) -> str:
    if not segment:
        raise BudgetError(f"the component pattern {pattern!r} has an empty segment between dots")
    tokens = _TOKEN.findall(segment)
    if "[" in tokens:
        raise BudgetError(f"the component pattern {pattern!r} has an unclosed bracket")
    return "".join(re.sub(r"\A\[\^", "[!", token) for token in tokens)


def _matches(segments: Sequence[str], path: Sequence[str]) -> bool:
    """Greedy matching that goes back to the latest `**` only, so it stays polynomial."""
    at = here = 0
    resume_at, resume_here = -1, 0
    while here < len(path):
        if at < len(segments) and segments[at] == _ANY_DEPTH:
            at += 1
            resume_at, resume_here = at, here
        elif at < len(segments) and fnmatchcase(path[here], segments[at]):
            at, here = at + 1, here + 1
        elif resume_at >= 0:
            resume_here += 1
            at, here = resume_at, resume_here
        else:
            return False
    return all(segment == _ANY_DEPTH for segment in segments[at:])
