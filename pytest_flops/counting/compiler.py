"""`CompilerEvents`: what `torch.compile` makes of code, as the compiler itself reports it.

Graph breaks, recompiles and graphs are read from its structured trace, which it writes for
`TORCH_TRACE` and tlparse: records on a logger, of a form that is the same in PyTorch 2.11 to 2.14.
What the compiler traces is not changed. The counters of `torch._dynamo.utils` would not do: a
branch on the values of a tensor and a break in a loop are no graph breaks there.

- A graph break is a place where the compiler ends a graph, or gives up a whole frame, also where an
  error of its own was suppressed. One in a function that was inlined is met again in that function.
- A recompile is a frame that was compiled before and whose guards fail. That the compiler refuses
  one more, since there were too many, is a recompile and a graph break.
- A graph is what the compiler hands to the backend.
- Kernels, and the bytes that they move, are what Inductor schedules for such a graph.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch

from pytest_flops.counting.arguments import refused_argument
from pytest_flops.counting.meter.fake_step import random_states_kept
from pytest_flops.counting.meter.lines import is_own, line_here, shown
from pytest_flops.counting.meter.workarounds.inductor_schedule import Kernel, only_scheduled
from pytest_flops.counting.meter.workarounds.triton_without_gpu import compiled_as_if_for_a_gpu
from pytest_flops.counting.metric import OF_INDUCTOR, TOTAL, Costs
from pytest_flops.counting.replacing import replaced
from pytest_flops.counting.spelling import refused_keyword

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.metric import Metric

with warnings.catch_warnings():  # of PyTorch's own deprecated code, for a run with -W error
    warnings.simplefilter("ignore")
    from torch import _dynamo as dynamo

_TRACE = logging.getLogger("torch.__trace")
_LONGEST = 200
_FRAME = re.compile(
    r'^  File "(?P<file>.+)", line (?P<line>[0-9]+), in (?P<name>.+)$', re.MULTILINE
)
_EXPLANATION = re.compile(
    r"^ *Explanation: (?P<text>.+?)(?=\n *Hint:|\n\n|\Z)", re.MULTILINE | re.DOTALL
)
_RESUMED = re.compile(r"torch_dynamo_resume_in_(?P<name>.+)_at_[0-9]+")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_COMPILATION = re.compile(r"[0-9]+/[0-9]+: ")  # before the failed guard, which compilation had it


def compiled(
    model: torch.nn.Module, how: bool | Mapping[str, Any], metrics: Sequence[Metric]
) -> torch.nn.Module:
    """The model compiled, unless it is already.

    Args:
        model: Any model.
        how: Keywords of `torch.compile`; `True` is none of them, and `False` leaves it as it is.
            Without a backend it is Inductor for the metrics that are of Inductor, and else
            `"eager"`, which runs each graph as it is: the others come before it. It has no modes.
        metrics: Those that are asked for.

    Raises:
        ValueError: `torch.compile` does not take one of the keywords.
    """
    if how is False or isinstance(model, dynamo.OptimizedModule):
        return model
    keywords: dict[str, Any] = {} if how is True else {**how}
    if refused := refused_keyword(torch.compile, keywords):
        raise ValueError(f"torch.compile {refused}")
    if refused := refused_argument(torch.compile, keywords):
        raise ValueError(f"torch.compile: {refused}")
    if "backend" not in keywords:
        keywords |= {"backend": "inductor"} if _of_inductor(metrics) else _EAGER
    was = vars(model).copy()
    made: Any = torch.compile(model, **keywords)
    for mark in vars(model).keys() - was.keys():  # `OptimizedModule` sets its own on the model
        delattr(model, mark)
    return made  # type: ignore[no-any-return]


_EAGER = {"backend": "eager", "mode": None, "options": None}


def _of_inductor(metrics: Iterable[Metric]) -> bool:
    return any(metric.name in OF_INDUCTOR for metric in metrics)


class CompilerEvents(logging.Handler):
    """Collects what the compiler does in the block, of this process, which begins anew for it.

    Whatever was compiled before is forgotten at both ends, so that a count does not depend on what
    ran before: who comes after compiles again. Random numbers are drawn for nobody else. Counters,
    settings and the compiler's own callbacks stay as they are. A graph of Inductor's runs as its
    operators: nothing is built.

    Args:
        metrics: The compiler's metrics that are asked for.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__()
        self._metrics = metrics
        self._told = {name: Counter[str]() for name in ("graph_breaks", "recompiles", "graphs")}
        self._broken: set[object] = set()  # compilations whose graph break is told
        self._with_graph: set[object] = set()  # compilations that have handed over a graph
        self._failed = False  # whether the backend of a graph has, which is told no further
        self._frames: dict[object, str] = {}
        self._seconds = 0.0
        self._undo = ExitStack()

    def __enter__(self) -> CompilerEvents:
        with ExitStack() as undo:
            if _of_inductor(self._metrics):
                undo.enter_context(only_scheduled(self._take))
            else:  # what it builds would end the process on fake tensors
                wrapper = torch._TorchCompileInductorWrapper  # noqa: SLF001
                undo.enter_context(replaced(wrapper, "__call__", _run_as_it_is))
            dynamo.reset_code_caches()
            undo.callback(dynamo.reset_code_caches)
            undo.enter_context(random_states_kept())
            # With it, it reads from disk which sizes have changed in an earlier process of the job.
            undo.enter_context(replaced(dynamo.pgo, "get_cache_key", lambda *_: None))
            undo.enter_context(compiled_as_if_for_a_gpu())
            # `logging.disable` would turn off the trace of PyTorch 2.11 and 2.12.
            undo.enter_context(replaced(_TRACE, "isEnabledFor", lambda *_: True))
            for handler in _TRACE.handlers[::-1]:  # which brings them back in their order
                # From pytest 9.2 on, its own would show the whole trace below a red test.
                if type(handler).__module__.startswith("_pytest."):
                    _TRACE.removeHandler(handler)
                    undo.callback(_TRACE.addHandler, handler)
            _TRACE.addHandler(self)
            undo.callback(_TRACE.removeHandler, self)
            self._undo = undo.pop_all()
        self._seconds -= time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds += time.perf_counter()
        self._undo.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Take in one record of the trace."""
        metadata: dict[str, Any] = record.metadata  # type: ignore[attr-defined]
        compilation = metadata.get("frame_id"), metadata.get("frame_compile_id")
        text = str(record.payload)  # type: ignore[attr-defined]
        artifact = metadata.get("artifact", {}).get("name")
        # A backend that fails on fake tensors is told in a longer form before.
        if artifact == "dynamo_graph_break_reason" and text.startswith("Graph break"):
            self._broken.add(compilation)
            self._told["graph_breaks"][_break_told(text)] += 1
        elif "dynamo_output_graph" in metadata:
            self._with_graph.add(compilation)
        elif "compilation_metrics" in metadata:
            self._end(compilation, metadata["compilation_metrics"])

    def _end(self, compilation: tuple[Any, Any], found: Mapping[str, Any]) -> None:
        """A frame was compiled, or was not; one that is not begun has no name."""
        if found["co_name"]:
            name = _RESUMED.sub(r"\g<name>, resumed", found["co_name"])
            place = f"{shown(found['co_filename'])}:{found['co_firstlineno']}"
            self._frames[compilation[0]] = f"{place} in {name}"
        frame, caller = self._frames.get(compilation[0], "a frame"), line_here()
        if caller and not frame.startswith(f"{caller} "):  # where a resumed one is resumed
            frame += f", called at {caller}"
        if guard := found["recompile_reason"]:
            guard = _COMPILATION.sub("", guard.partition("(HINT")[0], count=1)
            guard = _short(_RESUMED.sub(r"\g<name>", guard))
            self._told["recompiles"][f"{frame}: {guard}"] += 1
        if found["fail_type"] is None:
            self._told["graphs"][frame] += compilation in self._with_graph
        elif compilation not in self._broken:
            why = _reason(f"{found['fail_type']}: {found['fail_reason']}")
            self._told["graph_breaks"][f"{frame}, which runs uncompiled: {why}"] += 1
            self._failed |= compilation in self._with_graph
        self._broken.discard(compilation)
        self._with_graph.discard(compilation)

    def _take(self, kernels: Iterable[Kernel]) -> None:
        """What Inductor has scheduled of a graph; without any, nothing is told of its metrics."""
        for name in OF_INDUCTOR:
            self._told.setdefault(name, Counter())
        for kernel in kernels:
            place = _place(kernel.traces)
            self._told["kernels"][place] += kernel.is_generated
            self._told["fused_bytes"][place] += kernel.bytes

    def added_to(self, measurement: Measurement) -> Measurement:
        """The measurement with the metrics that are asked for, as far as anything was compiled.

        Where nothing was, breaks alone say something; where the backend of one graph failed, what
        it makes of the others is not the whole.
        """
        version = torch.__version__.partition("+")[0]
        totals = {
            name: told.total()
            for name, told in self._told.items()
            if not (self._failed and name in OF_INDUCTOR)
        }
        if not totals["graphs"]:
            totals = {"graph_breaks": totals["graph_breaks"]} if totals["graph_breaks"] else {}
        costs = {
            metric.name: Costs({TOTAL: totals[metric.name]}, {}, {"torch": version})
            for metric in self._metrics
            if metric.name in totals
        }
        return replace(
            measurement,
            metrics={**measurement.metrics, **costs},
            found_at={
                **measurement.found_at,
                **{
                    name: {line: {TOTAL: n} for line, n in told.items() if n}
                    for name, told in self._told.items()
                },
            },
            assumptions=(
                *measurement.assumptions,
                f"the compiler's metrics are of another run, which took {self._seconds:.1f} s",
            ),
        )


def _run_as_it_is(_compile: object, _backend: object, graph: Any, _inputs: object) -> Any:
    """Inductor's part where nobody asks for its kernels: breaks, recompiles and graphs are told."""
    return graph.forward


def _break_told(text: str) -> str:
    """A graph break in a line: the innermost line of somebody's own code, its function, and why."""
    text = text.partition("\nTraceback (most recent call last)")[0]
    reason, _, stack = text.partition("\nUser code traceback:")
    frames = [match.groups() for match in _FRAME.finditer(stack or text)]
    own = [frame for frame in frames if is_own(frame[0])]
    told = "an unknown line"
    if frames:
        file, line, name = (own or frames)[-1]
        told = f"{shown(file)}:{line} in {name}"
    if own and frames[-1] != own[-1]:
        told += f", inside {shown(frames[-1][0])}:{frames[-1][1]}"
    return f"{told}: {_reason(reason.partition('Graph Break Reason: ')[2] or reason)}"


def _place(traces: Iterable[str]) -> str:
    """The lines of somebody's own code that the operators of a kernel come from."""
    lines: dict[str, set[int]] = {}
    for trace in traces:
        frames = [*_FRAME.finditer(trace)]
        own = [match for match in frames if is_own(match["file"])]
        for innermost in (own or frames)[-1:]:
            lines.setdefault(shown(innermost["file"]), set()).add(int(innermost["line"]))
    told = (f"{file}:{', '.join(map(str, sorted(lines[file])))}" for file in sorted(lines))
    return _short(", ".join(told)) or "unknown lines"


def _reason(text: str) -> str:
    """The explanation that the compiler's own message holds, or else its first words."""
    explained = _EXPLANATION.search(text)
    return _short(explained["text"] if explained else text.partition("\n\n")[0])


def _short(text: str) -> str:
    """In one line, without addresses of objects, which differ in each process."""
    return shorten(_ADDRESS.sub("", text), _LONGEST, placeholder=" …")
