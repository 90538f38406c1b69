"""`Attribution`: the phase and the module of the operator that is running now, in any thread.

Phases are read from PyTorch, not declared. Inside the autograd engine is `backward`; inside
`Optimizer.step` (its closure excepted) is `optimizer`; the rest is `forward`. A module called while
the engine runs is a forward that activation checkpointing repeats: `recomputed`, a part of the
backward.

A backward operator belongs to the module whose forward recorded its autograd node. Nodes are
numbered in the order in which they are recorded, so it is enough to note that number whenever a
module begins or ends; the accumulation of a gradient belongs to the parameter's module. To whom an
optimizer's operator belongs, `parameter_updates.py` knows.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from pytest_flops.counting.meter import raw_threads
from pytest_flops.counting.meter.module_paths import OUTSIDE, ModulePaths
from pytest_flops.counting.meter.parameter_updates import ParameterUpdates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.nn import Module
    from torch.optim import Optimizer

MeteredPhase: TypeAlias = Literal["forward", "backward", "recomputed", "optimizer"]
LedgerKey: TypeAlias = tuple[MeteredPhase, int, str]

# The two readings PyTorch's own profiler and FLOP counter use too; there is no public face.
graph_task = torch._C._current_graph_task_id  # noqa: SLF001
_running_node = torch._C._current_autograd_node  # noqa: SLF001
_next_node_number: Callable[[], int] = vars(torch.autograd)["_get_sequence_nr"]
_at_the_end = torch.autograd.Variable._execution_engine.queue_callback  # noqa: SLF001 - as DDP does
_records_graph = torch.is_grad_enabled
_NO_TASK = -1
_ACCUMULATES = 2**64 - 1  # the number of every node that adds to a leaf's gradient: it runs first


class Frame(NamedTuple):
    """A call in progress: of a module, of an optimizer's step, or of that step's closure."""

    phase: MeteredPhase
    module: int
    task: int
    call: object = None
    updates: ParameterUpdates | None = None


_BASE = Frame("forward", OUTSIDE, _NO_TASK)


class Timeline:
    """Which module was recording autograd nodes when, in one thread."""

    def __init__(self) -> None:
        self._starts = [0]
        self._modules = [OUTSIDE]

    def mark(self, start: int, module: int) -> None:
        """From node `start` on, nodes belong to `module`; what is marked stays."""
        if start < self._starts[-1] or module == self._modules[-1]:
            return
        if start == self._starts[-1]:
            self._modules[-1] = module
        else:
            self._starts.append(start)
            self._modules.append(module)

    def module(self, node: int) -> int:
        """The module that recorded a node."""
        return self._modules[bisect_right(self._starts, node) - 1]


def _nothing() -> None:
    """What happens at an event nobody listens to."""


@dataclass(slots=True)
class ThreadState:
    """What one thread is doing, and its own book of costs, so that no increment can be lost.

    Attributes:
        flops: FLOPs by phase, module and operator.
        uncounted: Calls of operators without a cost.
        frames: The calls in progress, outermost first.
        timeline: Who recorded the autograd nodes of this thread.
    """

    flops: defaultdict[LedgerKey, int] = field(default_factory=lambda: defaultdict(int))
    uncounted: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    frames: list[Frame] = field(default_factory=lambda: [_BASE])
    timeline: Timeline = field(default_factory=Timeline)
    node: object = None
    node_module: int = OUTSIDE
    task: int = _NO_TASK
    task_without_graph: int = _NO_TASK
    next_number: int = 0


_VIEWS = ("TBackward0", "TransposeBackward0", "PermuteBackward0", "ViewBackward0")


def _parameters_of(node: Any) -> Iterator[torch.Tensor]:
    """The leaves whose gradient a node computes, itself or through a view."""
    for near, _ in node.next_functions:
        if near is None:
            continue
        if near.name() in _VIEWS:
            near = near.next_functions[0][0]  # noqa: PLW2901
        if near is not None and near._sequence_nr() == _ACCUMULATES:  # noqa: SLF001
            yield near.variable


Place: TypeAlias = tuple[MeteredPhase, int]
"""The phase and the module of an operator."""


class _Here(threading.local):
    """The calling thread's state; one attribute, since reading it is not free."""

    def __init__(self, threads: list[ThreadState], pytorchs: dict[int, int]) -> None:
        self.state = ThreadState()
        threads.append(self.state)
        if raw_threads.belongs_to_pytorch():
            pytorchs[raw_threads.number()] = threading.get_native_id()


class Attribution:
    """Follows modules, autograd and optimizers through global hooks while it is active."""

    def __init__(self) -> None:
        self.paths = ModulePaths()
        self.threads: list[ThreadState] = []
        self.unseen: set[str] = set()  # names of threads
        self.pytorchs_threads: dict[int, int] = {}  # PyTorch's own: native identifiers by number
        self.local = _Here(self.threads, self.pytorchs_threads)
        self._forward_frames: dict[int, Frame] = {}  # of modules that are numbered, and so kept
        self._handles: list[Any] = []
        self.active = False  # a thread may outlive the meter
        self.on_outermost_call: Callable[[], None] = _nothing
        self.on_outermost_return: Callable[[], None] = _nothing
        self.on_step: Callable[[], None] = _nothing

    def start(self) -> None:
        """Register the hooks; all of them are PyTorch's own global ones."""
        self.active = True
        keep = self._handles.append  # one by one: an interruption must find them
        keep(register_module_forward_pre_hook(self._enter_module))
        keep(register_module_forward_hook(self._leave_module, always_call=True))
        keep(register_optimizer_step_pre_hook(self._enter_step))
        keep(register_optimizer_step_post_hook(self._leave_step))

    def stop(self) -> None:
        """Remove every hook."""
        self.active = False
        while self._handles:
            self._handles.pop().remove()

    # --- where we are ---

    @property
    def here(self) -> ThreadState:
        """The calling thread's state."""
        return self.local.state

    def locate_in_backward(self, thread: ThreadState, task: int, free: bool) -> Place | None:
        """Where an operator belongs that autograd runs; None where nothing is to be written down.

        Args:
            thread: The calling thread's state.
            task: Autograd's task.
            free: The operator costs nothing, so that nobody needs to know.
        """
        if not self.active:
            return None
        if _records_graph():
            module = self._module_of_running_node(thread)
            return self._record_graph(thread, task), module
        thread.task_without_graph = task
        return None if free else ("backward", self._module_of_running_node(thread))

    def _module_of_running_node(self, thread: ThreadState) -> int:
        node = _running_node()
        if node is not thread.node:
            thread.node, thread.node_module = node, self._module_of_node(thread, node)
        return thread.node_module

    def _record_graph(self, thread: ThreadState, task: int) -> MeteredPhase:
        """The phase of an operator of backward that is recorded for a backward of its own.

        A backward records no graph, or (`create_graph`) it does so all along; where one does both,
        the graph is recorded by a forward that repeats. What was recorded since the last operator,
        the running node has recorded; of a task's first operator it is only known that it has
        recorded one node.
        """
        number = _next_node_number()
        if task == thread.task:
            since = thread.next_number
        else:
            since = number - 1
            _at_the_end(self._leave_graph)
        thread.timeline.mark(since, thread.node_module)
        thread.task, thread.next_number = task, number
        return "recomputed" if task == thread.task_without_graph else "backward"

    def _leave_graph(self) -> None:
        """What is recorded after a backward belongs to the call that it was a part of."""
        thread = self.local.state
        thread.timeline.mark(_next_node_number(), thread.frames[-1].module)

    def _module_of_node(self, thread: ThreadState, node: Any) -> int:
        if node is None:
            return OUTSIDE
        number = node._sequence_nr()  # noqa: SLF001 - as torch.profiler does
        if number == _ACCUMULATES:
            return self.paths.owner(node.variable)
        own = thread.timeline.module(number)
        if len(self.threads) == 1:
            return own
        # Threads number their nodes each for itself, so several may have recorded this number.
        # First of all, a thread runs what it has recorded; among several the parameters tell.
        if number >= _next_node_number():
            own = OUTSIDE
        others = (other for other in self.threads if other is not thread)
        modules = [own, *(other.timeline.module(number) for other in others)]
        candidates = dict.fromkeys(module for module in modules if module != OUTSIDE)
        if len(candidates) > 1:
            for parameter in _parameters_of(node):
                if (owner := self.paths.owner(parameter)) in candidates:
                    return owner
        return next(iter(candidates), OUTSIDE)

    @contextmanager
    def adopted_by(self, frame: Frame) -> Iterator[None]:
        """While active, this thread works for a call of another thread."""
        self._push(frame._replace(task=_NO_TASK))
        try:
            yield
        finally:
            self._pop(frame.call)

    # --- hooks ---

    def _push(self, frame: Frame) -> None:
        thread = self.local.state
        thread.frames.append(frame)
        thread.timeline.mark(_next_node_number(), frame.module)

    def _pop(self, call: object) -> None:
        """Drop the frame of a call, and what an exception left above it."""
        thread = self.local.state
        frames = thread.frames
        if frames[-1].call is call:
            frames.pop()
        elif any(frame.call is call for frame in frames):
            while frames.pop().call is not call:
                pass
        else:
            return
        thread.timeline.mark(_next_node_number(), self._recorder(thread, graph_task()))

    def _recorder(self, thread: ThreadState, task: int) -> int:
        """Who records the next autograd nodes: the call in progress, or the running node."""
        frame = thread.frames[-1]
        return frame.module if task == frame.task else self._module_of_running_node(thread)

    def _enter_module(self, module: Module, _inputs: Any) -> None:
        thread = self.local.state
        frames = thread.frames
        while frames[-1].updates is not None:
            frames.pop()  # a step that raised: PyTorch calls no hook at its end
        if len(frames) == 1:
            self.on_outermost_call()
        task = graph_task()
        frame = self._forward_frames.get(id(module)) if task == _NO_TASK else None
        if frame is None:
            frame = self._frame(module, thread, task)
        frames.append(frame)
        thread.timeline.mark(_next_node_number(), frame.module)

    def _frame(self, module: Module, thread: ThreadState, task: int) -> Frame:
        number = self.paths.number(module, self._recorder(thread, task))
        if task != _NO_TASK:
            phase = self._phase_in_backward(module, thread.frames[-1], task)
            return Frame(phase, number, task, module)
        frame = self._forward_frames[id(module)] = Frame("forward", number, task, module)
        return frame

    def _phase_in_backward(self, module: Module, caller: Frame, task: int) -> MeteredPhase:
        """A module that backward calls is recomputed, unless it is a graph PyTorch made for it."""
        if not self.paths.is_stray(module):
            return "recomputed"
        return caller.phase if caller.task == task else "backward"

    def _leave_module(self, module: Module, _inputs: Any, _output: Any) -> None:
        self._pop(module)
        if len(self.local.state.frames) == 1:
            self.on_outermost_return()

    def _enter_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.on_step()
        updates = ParameterUpdates(optimizer, self.paths)
        self._push(Frame("optimizer", OUTSIDE, graph_task(), updates, updates))
        if len(args) > 1 and callable(args[1]):
            args = (args[0], self._outside_step(args[1], updates), *args[2:])
        elif callable(kwargs.get("closure")):
            kwargs = {**kwargs, "closure": self._outside_step(kwargs["closure"], updates)}
        return args, kwargs

    def _leave_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        for frame in reversed(self.local.state.frames):
            if frame.updates is not None and frame.updates.optimizer is optimizer:
                self._pop(frame.call)
                return

    def _outside_step(
        self, closure: Callable[[], Any], updates: ParameterUpdates
    ) -> Callable[[], Any]:
        """A step's closure is a training step of its own: forward and backward, not optimizer."""

        def run() -> Any:
            call = object()
            self._push(Frame("forward", OUTSIDE, graph_task(), call))
            try:
                return closure()
            finally:
                self._pop(call)
                updates.read_again()

        return run
