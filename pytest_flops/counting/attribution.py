"""`Attribution`: the phase and the module of the operator that is running now, in any thread.

Phases are read from PyTorch, not declared. Inside the autograd engine is `backward`; inside
`Optimizer.step` (its closure excepted) is `optimizer`; the rest is `forward`. A module called while
the engine runs is a forward that activation checkpointing repeats: `recomputed`, a part of the
backward.

A backward operator belongs to the module whose forward recorded its autograd node. Nodes are
numbered in the order in which they are recorded, so it is enough to note that number whenever a
module begins or ends; the accumulation of a gradient belongs to the parameter's module. An
optimizer's operator belongs to the module of the parameter it updates, which is found through the
storages of parameters, gradients and states.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from pytest_flops.counting.module_paths import OUTSIDE, ModulePaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch.nn import Module
    from torch.optim import Optimizer

MeteredPhase: TypeAlias = Literal["forward", "backward", "recomputed", "optimizer"]

# The two readings PyTorch's own profiler and FLOP counter use too; there is no public face.
_graph_task = torch._C._current_graph_task_id  # noqa: SLF001
_running_node = torch._C._current_autograd_node  # noqa: SLF001
_next_node_number: Callable[[], int] = vars(torch.autograd)["_get_sequence_nr"]
_NO_TASK = -1


class Frame(NamedTuple):
    """A call in progress: of a module, of an optimizer's step, or of that step's closure."""

    phase: MeteredPhase
    module: int
    task: int
    call: object = None


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


@dataclass(slots=True)
class ParameterUpdates:
    """Which module the tensors belong to that one optimizer step works on."""

    optimizer: Optimizer
    paths: ModulePaths
    _modules: dict[int, int] = field(default_factory=dict)
    _states: int = -1

    def module_of(self, tensors: Iterable[Any]) -> int:
        """The module of the first tensor that is a parameter's, a gradient's or a state's."""
        keys = [key for key in map(_storage, tensors) if key is not None]
        found = self._find(keys)
        if found is None and self._refresh():
            found = self._find(keys)
        return OUTSIDE if found is None else found

    def derive(self, results: Iterable[Any], sources: Sequence[Any]) -> None:
        """What a step computes from a parameter's tensors belongs to the parameter's module."""
        module = self._find([key for key in map(_storage, sources) if key is not None])
        for key in map(_storage, results):
            if key is None:
                continue
            if module is None:
                self._modules.pop(key, None)
            else:
                self._modules[key] = module

    def _find(self, keys: Iterable[int]) -> int | None:
        return next((self._modules[key] for key in keys if key in self._modules), None)

    def _refresh(self) -> bool:
        """States are made in the first step, so they are read when a tensor is not known."""
        states = sum(len(state) for state in self.optimizer.state.values())
        if states == self._states:
            return False
        self._states = states
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                state = self.optimizer.state.get(parameter, {})
                module = self.paths.owner(parameter)
                for tensor in (parameter, parameter.grad, *state.values()):
                    key = _storage(tensor)
                    if key is not None:
                        self._modules[key] = module
        return True


def _storage(tensor: Any) -> int | None:
    """What a tensor shares with its views and with `tensor.data`; sparse tensors have none."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        return None
    try:
        return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - data_ptr() is 0 on meta
    except (NotImplementedError, RuntimeError):
        return None


def _nothing() -> None:
    """What happens at an event nobody listens to."""


class _ThreadState(threading.local):
    """What one thread is doing. PyTorch's engine and dispatcher keep the same per thread."""

    def __init__(self, timelines: list[Timeline]) -> None:
        self.frames = [_BASE]
        self.timeline = Timeline()
        self.node: object = None
        self.node_module = OUTSIDE
        self.last_node_number = 0
        self.task_without_graph = _NO_TASK
        timelines.append(self.timeline)


class Attribution:
    """Follows modules, autograd and optimizers through global hooks while it is active."""

    def __init__(self) -> None:
        self.paths = ModulePaths()
        self._timelines: list[Timeline] = []
        self._thread = _ThreadState(self._timelines)
        self._handles: list[Any] = []
        self.on_outermost_call: Callable[[], None] = _nothing
        self.on_outermost_return: Callable[[], None] = _nothing
        self.on_step: Callable[[], None] = _nothing

    @property
    def active(self) -> bool:
        """Whether the hooks are in place; a thread may outlive them."""
        return bool(self._handles)

    def start(self) -> None:
        """Register the hooks; all of them are PyTorch's own global ones."""
        self._handles = [
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
            register_optimizer_step_pre_hook(self._enter_step),
            register_optimizer_step_post_hook(self._leave_step),
        ]

    def stop(self) -> None:
        """Remove every hook."""
        while self._handles:
            self._handles.pop().remove()

    # --- where we are ---

    def locate(self) -> tuple[MeteredPhase, int]:
        """The phase and the module of the operator that is running in this thread."""
        thread = self._thread
        frame = thread.frames[-1]
        task = _graph_task()
        if task != frame.task:
            return self._locate_backward(thread, task)
        thread.last_node_number = _next_node_number()
        return frame.phase, frame.module

    def _locate_backward(self, thread: _ThreadState, task: int) -> tuple[MeteredPhase, int]:
        """A backward records no graph, or (`create_graph`) records one all along.

        So where one backward does both, the graph is recorded by a forward that repeats.
        """
        node = _running_node()
        if node is not thread.node:
            thread.node, thread.node_module = node, self._module_of_node(thread, node)
        recomputes = False
        if torch.is_grad_enabled():
            thread.timeline.mark(thread.last_node_number, thread.node_module)
            recomputes = task == thread.task_without_graph
        else:
            thread.task_without_graph = task
        thread.last_node_number = _next_node_number()
        return "recomputed" if recomputes else "backward", thread.node_module

    def see(self) -> None:
        """Take note of an operator that is free."""
        thread = self._thread
        if torch.is_grad_enabled():
            thread.last_node_number = _next_node_number()
        else:
            thread.task_without_graph = _graph_task()

    def _module_of_node(self, thread: _ThreadState, node: Any) -> int:
        if node is None:
            return OUTSIDE
        accumulated_into = getattr(node, "variable", None)
        if accumulated_into is not None:
            return self.paths.owner(accumulated_into)
        number = node._sequence_nr()  # noqa: SLF001 - as torch.profiler does
        own_first = sorted(self._timelines, key=lambda timeline: timeline is not thread.timeline)
        modules = (timeline.module(number) for timeline in own_first)
        return next((module for module in modules if module != OUTSIDE), OUTSIDE)

    @property
    def updates(self) -> ParameterUpdates | None:
        """The optimizer step in progress in this thread, if it is the innermost call."""
        call = self._thread.frames[-1].call
        return call if isinstance(call, ParameterUpdates) else None

    @property
    def caller(self) -> Frame:
        """The innermost call of this thread."""
        return self._thread.frames[-1]

    def adopt(self, frame: Frame) -> None:
        """Begin a thread as a part of the call that started it."""
        self._push(frame._replace(task=_NO_TASK))

    # --- hooks ---

    def _push(self, frame: Frame) -> None:
        thread = self._thread
        thread.frames.append(frame)
        thread.timeline.mark(_next_node_number(), frame.module)

    def _pop(self, call: object) -> None:
        """Drop the frame of a call, and what an exception left above it."""
        thread = self._thread
        if not any(frame.call is call for frame in thread.frames):
            return
        while thread.frames.pop().call is not call:
            pass
        thread.timeline.mark(_next_node_number(), self._recorder(thread))

    def _recorder(self, thread: _ThreadState) -> int:
        """Who records the next autograd nodes: the call in progress, or the running node."""
        frame = thread.frames[-1]
        return frame.module if _graph_task() == frame.task else thread.node_module

    def _enter_module(self, module: Module, _inputs: Any) -> None:
        frames = self._thread.frames
        while isinstance(frames[-1].call, ParameterUpdates):
            frames.pop()  # a step that raised: PyTorch calls no hook at its end
        if len(frames) == 1:
            self.on_outermost_call()
        task = _graph_task()
        caller = self._recorder(self._thread)
        number = self.paths.number(module, caller)
        phase: MeteredPhase = "forward" if task == _NO_TASK else "recomputed"
        if self.paths.is_stray(module) and task != _NO_TASK:
            phase = frames[-1].phase if frames[-1].task == task else "backward"
        self._push(Frame(phase, number, task, module))

    def _leave_module(self, module: Module, _inputs: Any, _output: Any) -> None:
        self._pop(module)
        if len(self._thread.frames) == 1:
            self.on_outermost_return()

    def _enter_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.on_step()
        updates = ParameterUpdates(optimizer, self.paths)
        self._push(Frame("optimizer", OUTSIDE, _graph_task(), updates))
        if len(args) > 1 and callable(args[1]):
            args = (args[0], self._outside_step(args[1]), *args[2:])
        elif callable(kwargs.get("closure")):
            kwargs = {**kwargs, "closure": self._outside_step(kwargs["closure"])}
        return args, kwargs

    def _leave_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        for frame in reversed(self._thread.frames):
            if isinstance(frame.call, ParameterUpdates) and frame.call.optimizer is optimizer:
                self._pop(frame.call)
                return

    def _outside_step(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """A step's closure is a training step of its own: forward and backward, not optimizer."""

        def run() -> Any:
            call = object()
            self._push(Frame("forward", OUTSIDE, _graph_task(), call))
            try:
                return closure()
            finally:
                self._pop(call)

        return run
