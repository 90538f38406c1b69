"""Misspelt names: what was meant, by the nearest of those that are known."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def nearest(misspelt: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is nearest to; `None` where none is near."""
    return next(iter(get_close_matches(misspelt.lower(), [*known], n=1)), None)


def suggestion(misspelt: str, known: Sequence[str], otherwise: str = "accepted here:") -> str:
    """`; did you mean 'x'?` when something is near, else what is known."""
    near = nearest(misspelt, known)
    return f"; did you mean {near!r}?" if near else f"; {otherwise} {', '.join(known)}"


def refused_keyword(function: Callable[..., Any], keywords: Iterable[str]) -> str:
    """The first keyword that a function does not take, in words; empty if it may take them all."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):  # of C, or of no known signature
        return ""
    if any(each.kind is Parameter.VAR_KEYWORD for each in parameters):
        return ""
    known = [each.name for each in parameters if each.kind is not Parameter.POSITIONAL_ONLY]
    for key in keywords:
        if key not in known:
            return f"takes no keyword {key!r}{suggestion(str(key), known, 'it takes')}"
    return ""
