"""`Attribution`: the phase and the module of the operator that is running now, in any thread.

Phases are read from PyTorch, not declared. Inside the autograd engine is `backward`. Inside
`Optimizer.step`, its closure excepted, is `optimizer`. The rest is `forward`. A module called while
the engine runs repeats its forward for activation checkpointing: that is `recomputed`, which is
added to the backward. To which module an optimizer's operator belongs, `parameter_updates` says.

The specification. Where one of these is broken, the total stays right, and FLOPs go to the wrong
module or phase; where 9 is, the total is wrong too.

1. **Threads.** Only a thread itself writes to its `ThreadState`. Other threads read its timeline
   during a backward, and its sums at the end.
2. **Frames.** `frames[-1]` is the innermost call in progress; `frames[0]` stands for no call, and
   stays. The end of a call drops its frame and all above it, which an exception has left. PyTorch
   calls no hook at the end of a step that raises, so the next module call drops frames of steps.
3. **Graph task.** PyTorch numbers the runs of its autograd engine: graph tasks, -1 outside any. A
   frame holds the task that its call began in. An operator belongs to `frames[-1]` if it runs in
   that task. If not, the engine has been entered since, and the operator belongs to the module that
   recorded the running autograd node.
4. **Nodes.** A thread numbers the nodes that it records, in that order: their sequence numbers. Its
   timeline says which module recorded which. It is marked when `frames[-1]` changes and, while a
   backward records a graph (`create_graph`), at each operator. A mark that was made never changes.
5. **Gradients of leaves.** The node that accumulates one is numbered 2**64 - 1, whoever recorded
   it. It belongs to the module that holds the parameter.
6. **Several threads** may each have recorded a node of the same number. If their timelines name
   several modules, it is the one that holds a parameter that the node leads to, else the running
   thread's own, else the first: a guess, which docs state.
7. **Identity.** Module numbers are looked up by `id()`. `ModulePaths` keeps every module that it
   has numbered alive until the meter ends, so no id becomes another module's.
8. **Other threads.** A call in a thread that no meter counts has a frame too, outside modules, so
   that only the outermost one is reported. It numbers no module.
9. **The end.** Once `active` is false nothing is written: a counted thread may outlive the meter,
   with the dispatch mode in it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn import Module
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flops.counting.autograd import (
    ACCUMULATES_GRADIENT,
    at_end_of_backward,
    graph_task,
    next_sequence_number,
    running_node,
    sequence_number,
)
from pytest_flops.counting.meter.lines import line_here
from pytest_flops.counting.meter.module_paths import OUTSIDE, ModulePaths
from pytest_flops.counting.meter.parameter_updates import ParameterUpdates
from pytest_flops.counting.meter.workarounds.frozen_graphs import hidden_operators
from pytest_flops.counting.metric import SYNCS, Metric
from pytest_flops.counting.metrics import PHASE, Call, Counter, MeteredPhase, Prices, counters

Place: TypeAlias = tuple[MeteredPhase, int, str]
"""What values are joined by: phase, module number and operator."""

LinesKey: TypeAlias = tuple[Metric, str | int, MeteredPhase, str]
"""What is added up by line; by the number of the module where no line is anybody's own."""

_NO_TASK = -1


class Frame(NamedTuple):
    """A call in progress: of a module, of an optimizer's step, or of that step's closure."""

    phase: MeteredPhase
    module: int  # the number of the module that its operators belong to
    task: int  # the graph task that the call began in
    call: object = None  # what tells it from others: the module, the optimizer, or any object
    updates: ParameterUpdates | None = None  # of a step


_NO_CALL = Frame("forward", OUTSIDE, _NO_TASK)


class Timeline:
    """Which module was recording autograd nodes when, in one thread."""

    def __init__(self) -> None:
        self._starts = [0]
        self._modules = [OUTSIDE]

    def mark(self, start: int, module: int) -> None:
        """Let the nodes from number `start` on be `module`'s; earlier ones stay as they are."""
        if start < self._starts[-1] or module == self._modules[-1]:
            return
        if start == self._starts[-1]:
            self._modules[-1] = module
        else:
            self._starts.append(start)
            self._modules.append(module)

    def module(self, node: int) -> int:
        """The module that recorded the node of this number."""
        return self._modules[bisect_right(self._starts, node) - 1]


@dataclass(slots=True)
class ThreadState:
    """What one thread is doing, and what it has counted.

    Each thread adds to sums of its own: an increment of shared ones could be lost.
    """

    counted: bool = False  # whether the meter has been entered in this thread
    flops: defaultdict[Place, int] = field(default_factory=lambda: defaultdict(int))
    # What the other metrics say.
    values: defaultdict[Place, dict[Metric, int]] = field(default_factory=lambda: defaultdict(dict))
    # The same by metric and line, as far as lines are asked for.
    lines: defaultdict[LinesKey, int] = field(default_factory=lambda: defaultdict(int))
    # Calls of what has no cost; module calls and steps if no meter counts this thread.
    uncounted: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    child_processes: int = 0  # how many this thread has started
    frames: list[Frame] = field(default_factory=lambda: [_NO_CALL])  # the outermost call first
    timeline: Timeline = field(default_factory=Timeline)
    # The autograd node that was running when last asked, and the module that recorded it.
    node: object = None
    node_module: int = OUTSIDE
    # The last graph task in which a backward recorded a graph, and the number that the next node
    # had at its last operator; the last task in which a backward recorded none.
    task: int = _NO_TASK
    next_number: int = 0
    task_without_graph: int = _NO_TASK


class _Local(threading.local):
    """The calling thread's state. One attribute: each reading of a thread-local one costs."""

    def __init__(self, threads: list[ThreadState]) -> None:
        self.state = ThreadState()
        threads.append(self.state)


class Attribution:
    """Follows modules, autograd and optimizers through global hooks while it is active."""

    def __init__(self, metrics: Sequence[Metric] = (), *, lines: bool = False) -> None:
        self.active = False
        self.metrics = metrics
        # Syncs are few, and a limit on them is of no use to somebody who cannot find them.
        self._told_by_line = {
            metric for metric in metrics if metric is SYNCS or (lines and metric.join == "sum")
        }
        self.counters: dict[Metric, Counter] = counters(metrics)
        self.paths = ModulePaths()
        self.threads: list[ThreadState] = []
        self.local = _Local(self.threads)
        self.remarks: dict[str, str] = {}  # by what they are about
        self._handles: list[Any] = []

    def start(self) -> None:
        """Register the hooks; all of them are PyTorch's own global ones."""
        self.active = True
        keep = self._handles.append  # one by one, so that `stop` finds them if this is interrupted
        keep(register_module_forward_pre_hook(self._enter_module))
        keep(register_module_forward_hook(self._leave_module, always_call=True))
        keep(register_optimizer_step_pre_hook(self._enter_step))
        keep(register_optimizer_step_post_hook(self._leave_step))
        for metric, counter in self.counters.items():
            counter.start(partial(self.note, metric))

    def stop(self) -> None:
        """Remove every hook."""
        self.active = False
        for counter in self.counters.values():
            counter.stop()
        while self._handles:
            self._handles.pop().remove()

    def note(self, metric: Metric, value: int) -> None:
        """Join a value of a metric at the place where the calling thread is."""
        if self.active:
            frame = self.call_in_progress()
            call = Call((), {}, None, 0, frame.phase, frame.module)
            self.join(self.local.state, call, "", [(metric, lambda _: value)])

    def join(self, thread: ThreadState, call: Call, operator: str, prices: Prices) -> None:
        """Join what metrics make of a call with the values of its place."""
        phase, module = call.phase, call.module
        values = thread.values[phase, module, operator]
        for metric, price in prices:
            value = price(call)
            if not value:
                continue
            # As `Metric.joined`, which would need an iterable of the two at every operator.
            if metric.join == "sum":
                values[metric] = values.get(metric, 0) + value
            elif value > values.get(metric, 0):
                values[metric] = value
            if metric in self._told_by_line and PHASE[phase] in metric.phases:
                thread.lines[metric, line_here() or module, phase, operator] += value

    # --- operators that autograd runs ---

    def phase_in_backward(self, thread: ThreadState, task: int) -> MeteredPhase:
        """The phase of an operator that the engine runs; to be called at each of them.

        Where a backward records a graph, what it has recorded since the last operator becomes the
        running node's module's.
        """
        if not torch.is_grad_enabled():  # it records no graph
            thread.task_without_graph = task
            return "backward"
        module = self.module_of_running_node(thread)
        number = next_sequence_number()
        if task != thread.task:
            # Of the first operator of a task it is only known that it has recorded one node.
            thread.next_number = number - 1
            at_end_of_backward(self._leave_backward)
        thread.timeline.mark(thread.next_number, module)
        thread.task, thread.next_number = task, number
        # A backward records no graph, or (`create_graph`) it does so all along. Where one does
        # both, the graph is recorded by a forward that a checkpoint repeats.
        return "recomputed" if task == thread.task_without_graph else "backward"

    def _leave_backward(self) -> None:
        """Let what is recorded after a backward be the caller's again."""
        thread = self.local.state
        thread.timeline.mark(next_sequence_number(), thread.frames[-1].module)

    def module_of_running_node(self, thread: ThreadState) -> int:
        """The module that recorded the autograd node that is running."""
        node = running_node()
        if node is not thread.node:
            thread.node, thread.node_module = node, self._module_of_node(thread, node)
        return thread.node_module

    def _module_of_node(self, thread: ThreadState, node: Any) -> int:
        if node is None:
            return OUTSIDE
        number = sequence_number(node)
        if number == ACCUMULATES_GRADIENT:
            return self.paths.owner(node.variable)
        own = thread.timeline.module(number)
        if len(self.threads) == 1:
            return own
        # Invariant 6. A number that this thread has not given yet is another thread's.
        if number >= next_sequence_number():
            own = OUTSIDE
        others = (other for other in self.threads if other is not thread)
        modules = [own, *(other.timeline.module(number) for other in others)]
        candidates = dict.fromkeys(module for module in modules if module != OUTSIDE)
        if len(candidates) > 1:
            for parameter in _parameters_of(node):
                if (owner := self.paths.owner(parameter)) in candidates:
                    return owner
        return next(iter(candidates), OUTSIDE)

    # --- other threads ---

    def call_in_progress(self) -> Frame:
        """The call that the calling thread is in, as a frame for a thread that works for it."""
        thread = self.local.state
        frame, task = thread.frames[-1], graph_task()
        if task != frame.task:  # invariant 3
            frame = Frame("backward", self.module_of_running_node(thread), task)
        return frame._replace(task=_NO_TASK, call=object())

    @contextmanager
    def during(self, call: Frame) -> Iterator[None]:
        """While active, what the calling thread runs is a part of a call."""
        self._push(call)
        try:
            yield
        finally:
            self._pop(call.call)

    def _counts(self, thread: ThreadState) -> bool:
        """Whether this meter counts the calling thread.

        Threads that PyTorch starts itself, for `torch.jit.fork` or for backwards nested more than
        60 deep, inherit the dispatch modes of the thread that they work for.
        """
        return thread.counted or any(each is self for each in _counting_here())

    def _report(self, thread: ThreadState, call: str) -> None:
        """Report a call in a thread that is not counted, unless another meter counts it."""
        if not any(_counting_here()):
            # threading.current_thread() would list a thread of C code for good.
            names = {each.ident: each.name for each in threading.enumerate()}
            name = names.get(threading.get_ident(), "without a name")
            thread.uncounted[f"({call} in thread {name})"] += 1

    # --- hooks ---

    def _push(self, frame: Frame) -> None:
        thread = self.local.state
        thread.frames.append(frame)
        thread.timeline.mark(next_sequence_number(), frame.module)

    def _pop(self, call: object) -> None:
        """Drop the frame of a call, and what an exception left above it."""
        thread = self.local.state
        frames = thread.frames
        if all(frame.call is not call for frame in reversed(frames)):
            return  # the call began before the meter
        while frames.pop().call is not call:
            pass
        thread.timeline.mark(next_sequence_number(), self._recorder(thread, graph_task()))

    def _recorder(self, thread: ThreadState, task: int) -> int:
        """The module that records the next nodes: that of the innermost call, or by invariant 3."""
        frame = thread.frames[-1]
        return frame.module if task == frame.task else self.module_of_running_node(thread)

    def _enter_module(self, module: Module, _inputs: Any) -> None:
        thread = self.local.state
        frames = thread.frames
        while frames[-1].updates is not None:
            frames.pop()  # invariant 2
        if not self._counts(thread):
            if len(frames) == 1:
                self._report(thread, f"module {type(module).__name__}")
            frames.append(_NO_CALL._replace(call=module))
            return
        task = graph_task()
        number = self.paths.number(module, self._recorder(thread, task))
        self._push(Frame(self._phase_of_call(module, frames[-1], task), number, task, module))
        for name in hidden_operators(module):
            thread.uncounted[name] += 1

    def _phase_of_call(self, module: Module, caller: Frame, task: int) -> MeteredPhase:
        # A thread that works for a call inside a backward has no task, but that call's phase.
        if task == _NO_TASK and caller.phase == "forward":
            return "forward"
        if not self.paths.is_stray(module):
            return "recomputed"
        # A graph that PyTorch made for the backward repeats nothing.
        return caller.phase if caller.task == task else "backward"

    def _leave_module(self, module: Module, _inputs: Any, _output: Any) -> None:
        self._pop(module)

    def _enter_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        thread = self.local.state
        if not self._counts(thread):
            self._report(thread, f"{type(optimizer).__name__}.step")
            return args, kwargs
        updates = ParameterUpdates(optimizer, self.paths)
        self._push(Frame("optimizer", OUTSIDE, graph_task(), optimizer, updates))
        if len(args) > 1 and callable(args[1]):
            args = (args[0], self._outside_step(args[1], updates), *args[2:])
        elif callable(kwargs.get("closure")):
            kwargs = {**kwargs, "closure": self._outside_step(kwargs["closure"], updates)}
        return args, kwargs

    def _leave_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        self._pop(optimizer)

    def _outside_step(
        self, closure: Callable[[], Any], updates: ParameterUpdates
    ) -> Callable[[], Any]:
        """A step's closure, which is a training step of its own: forward and backward."""

        def run() -> Any:
            with self.during(Frame("forward", OUTSIDE, graph_task(), object())):
                loss = closure()
            updates.read_again()
            return loss

        return run


def _counting_here() -> list[object]:
    """The attribution of each dispatch mode of the calling thread; None where it is not ours."""
    return [vars(mode).get("attribution") for mode in _get_current_dispatch_mode_stack()]


_VIEWS = ("TBackward0", "TransposeBackward0", "PermuteBackward0", "ViewBackward0")


def _parameters_of(node: Any) -> Iterator[torch.Tensor]:
    """The leaves whose gradient a node computes, itself or through a view."""
    for following, _ in node.next_functions:
        if following is not None and following.name() in _VIEWS:
            following = following.next_functions[0][0]  # noqa: PLW2901
        if following is not None and sequence_number(following) == ACCUMULATES_GRADIENT:
            yield following.variable
