"""Other people's functions with something of ours around them, for as long as somebody needs it."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

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


class Shared:
    """A change of the whole process, made for the first who needs it and undone with the last.

    Meters of two threads overlap in any order. One that undid a change of its own would undo that
    of a meter that still counts.

    Attributes:
        users: Who needs it now.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self.users: set[Any] = set()
        self._change = change
        self._lock = threading.RLock()
        self._undo = ExitStack()

    def begin(self, user: object) -> None:
        """Let it be there for one more."""
        with self._lock:
            if not self.users:
                self._undo.enter_context(self._change())
            self.users.add(user)

    def end(self, user: object) -> None:
        """Let one need it no longer."""
        with self._lock:
            self.users.discard(user)
            if not self.users:
                self._undo.close()
