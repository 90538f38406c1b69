"""`replaced`: other people's functions, with something of ours around them for a while."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__tracebackhide__ = True  # an error of a call ends in the line that made it


@contextmanager
def replaced(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    """While active, a function is a call of `around` with the function itself and its arguments.

    Where somebody has put theirs around ours meanwhile, theirs stays, and ours in it: so ours has
    to do nothing then.
    """
    before, inherited = getattr(owner, name), name not in vars(owner)

    @wraps(before)
    def ours(*args: Any, **kwargs: Any) -> Any:
        return around(before, *args, **kwargs)

    try:
        setattr(owner, name, ours)
        yield
    finally:
        if vars(owner).get(name) is ours:
            delattr(owner, name) if inherited else setattr(owner, name, before)
