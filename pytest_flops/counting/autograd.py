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

graph_task = torch._C._current_graph_task_id  # the number of the engine's run; -1 outside any
running_node = torch._C._current_autograd_node
at_end_of_backward = torch.autograd.Variable._execution_engine.queue_callback  # DDP's

# The number of a node, and the one that the thread gives to the next that it records.
sequence_number: Callable[[Any], int] = methodcaller("_sequence_nr")
next_sequence_number: Callable[[], int] = vars(torch.autograd)["_get_sequence_nr"]
ACCUMULATES_GRADIENT = 2**64 - 1  # that of every node that writes to a leaf's `grad`
