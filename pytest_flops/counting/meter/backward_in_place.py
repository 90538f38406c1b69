"""A backward inside the meter runs in the thread that calls it, not in a thread of the device.

Threads number the autograd nodes that they record each for itself, so of a node that a device's
thread has recorded for a double backward, or repeated for a checkpoint, the number alone would not
tell whose it is. What is executed is the same (`torch.autograd.set_multithreading_enabled`): the
compiler traces like this, and PyTorch means to make it the default (pytorch/pytorch#192082).
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.autograd import is_multithreading_enabled, set_multithreading_enabled

if TYPE_CHECKING:
    from collections.abc import Iterator


class _CallingThread(threading.local):
    """Its meters, which may overlap in any order, and what they have found."""

    meters = 0
    was_enabled = True


_calling_thread = _CallingThread()


@contextmanager
def backward_in_place() -> Iterator[None]:
    """While active, each backward that the calling thread calls runs in this thread."""
    if not _calling_thread.meters:
        _calling_thread.was_enabled = is_multithreading_enabled()
    _calling_thread.meters += 1
    try:
        set_multithreading_enabled(False)
        yield
    finally:
        _calling_thread.meters -= 1
        if not _calling_thread.meters:
            set_multithreading_enabled(_calling_thread.was_enabled)
