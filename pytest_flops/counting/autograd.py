"""What the autograd engine runs in the calling thread.

PyTorch's profiler and its FLOP counter read these too; there is no public way.
"""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

# ruff: noqa: SLF001 - as above

graph_task: Callable[[], int] = torch._C._current_graph_task_id
"""The number of the engine's run; -1 outside any."""

running_node: Callable[[], Any] = torch._C._current_autograd_node
"""The node that is running; `None` outside any."""

next_sequence_number: Callable[[], int] = vars(torch.autograd)["_get_sequence_nr"]
"""The number that the thread gives to the next node that it records."""

sequence_number: Callable[[Any], int] = methodcaller("_sequence_nr")
"""The number of a node, as the thread that recorded it has numbered them."""

at_end_of_backward = torch.autograd.Variable._execution_engine.queue_callback
"""Calls a function when the engine's run ends; DDP's."""

ACCUMULATES_GRADIENT = 2**64 - 1
"""The sequence number of every node that writes to a leaf's `grad`, whoever recorded it."""
