"""The body of a test inside a meter: that of pytest, and of unittest between hooks of its own."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import pytest


@contextmanager
def metering(
    item: pytest.Item, meter: Callable[[Callable[[], object]], AbstractContextManager[object]]
) -> Iterator[None]:
    """While active, the body of a test is metered; `meter` is told how to run it once more.

    unittest calls `setUp` and `tearDown` itself, so there the method alone is wrapped, as pytest
    does for `--trace`. A method that is a coroutine is left to unittest, and metered with them.
    """
    method = getattr(item, "obj", None)
    if not hasattr(item, "_excinfo") or method is None or iscoroutinefunction(method):

        def again() -> None:
            item.runtest()
            raise_kept(item)

        with meter(again):
            yield
        return

    @wraps(method)
    def metered(*args: Any, **kwargs: Any) -> Any:
        with meter(partial(method, *args, **kwargs)):
            return method(*args, **kwargs)

    item.obj = metered  # type: ignore[attr-defined]
    try:
        yield
    finally:
        item.obj = method  # type: ignore[attr-defined]


def raise_kept(item: pytest.Item) -> None:
    """Raise the failure or skip of a unittest test, which pytest keeps aside until its report."""
    for kept in getattr(item, "_excinfo", None) or ():
        raise kept.value
