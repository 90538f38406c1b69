"""Arguments of a wrong type, told by the type hints of the function that they are given to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from numbers import Integral, Real
from textwrap import shorten
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse keyword arguments of a wrong type.

    Raises:
        ValueError: By the function, when it is called: `compile must be True, False or a mapping,
            not 'yes'`.
    """

    @wraps(function)
    def checking(*args: P.args, **kwargs: P.kwargs) -> R:
        if refused := refused_argument(function, kwargs):
            raise ValueError(refused)
        return function(*args, **kwargs)

    return checking


def refused_argument(function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """The first argument that a function's hints refuse, in words; empty if there is none.

    A hint that names a class of somebody's own is left to the function.
    """
    hints = get_type_hints(function)
    for name, value in given.items():
        hint = hints.get(name, Any)
        union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds = [_kind(each) for each in union]
        if not any(kind is None or kind.fits(value) for kind in kinds):
            *others, last = [word for kind in kinds if kind for word in kind.words]
            words = f"{', '.join(others)} or {last}" if others else last
            return f"{name} must be {words}, not {shorten(repr(value), 60, placeholder=' …')}"
    return ""


class _Kind(NamedTuple):
    fits: Callable[[Any], bool]
    words: tuple[str, ...]


def _kind(hint: Any) -> _Kind | None:
    """What fits a hint; `None` where that is not known here."""
    origin = get_origin(hint) or hint
    if origin is Literal:
        choices = get_args(hint)
        return _Kind(lambda value: value in choices, tuple(map(repr, choices)))
    if origin is Iterable and get_args(hint) == (str,):
        return _Kind(_are_strings, ("a list of strings",))
    return _KINDS.get(origin)


def _are_strings(value: Any) -> bool:
    if isinstance(value, Collection):  # anything else can be looked through but once
        return not isinstance(value, str) and all(isinstance(each, str) for each in value)
    return isinstance(value, Iterable)


def _of(kind: Any, *words: str) -> _Kind:
    return _Kind(lambda value: isinstance(value, kind) and not isinstance(value, bool), words)


_KINDS = {
    bool: _Kind(lambda value: isinstance(value, bool), ("True", "False")),
    NoneType: _of(NoneType, "None"),
    str: _of(str, "a string"),
    int: _of(Integral, "an integer"),
    float: _of(Real, "a number"),
    dict: _of(Mapping, "a mapping"),
    Mapping: _of(Mapping, "a mapping"),
    Callable: _of(Callable, "a function"),
}
