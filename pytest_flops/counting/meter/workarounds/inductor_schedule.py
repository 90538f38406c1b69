"""What Inductor has fused is told by nothing public, and not before a C++ compiler has run.

PyTorch: the structured trace holds the generated code, where one C++ function may hold several
kernels. `torch._inductor.metrics` counts a kernel's inner loops, and bytes only while a log is on.
So each graph is lowered and scheduled by Inductor, which is where it fuses, and then runs as the
operators that it was made of: nothing is generated, and no compiler is needed.
Seen in: 2.11 to 2.14.
May go when: PyTorch has a public way to ask for both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.fx import Interpreter
from torch.utils._pytree import tree_leaves

from pytest_flops.counting.replacing import replaced


class Kernel(NamedTuple):
    """What Inductor runs at once.

    Attributes:
        is_generated: Whether Inductor generates it; else it is a call of a library's.
        bytes: What it reads and writes, as Inductor has it.
        traces: The stack traces of the operators that it is made of.
    """

    is_generated: bool
    bytes: int
    traces: tuple[str, ...]


Tell: TypeAlias = Callable[[list[Kernel]], None]


@contextmanager
def only_scheduled(tell: Tell) -> Iterator[None]:
    """While active, nothing that Inductor compiles is built; the kernels of each graph are told.

    Raises:
        RuntimeError: This version of PyTorch does not tell them.
    """

    def scheduled(_build: Any, graph: Any) -> SimpleNamespace:
        try:
            kernels = [*_kernels(graph)]
        except (AttributeError, ImportError, TypeError) as error:
            raise _not_here(error) from error
        tell(kernels)
        return SimpleNamespace(call=Interpreter(graph.module).boxed_run, __file__="")

    with ExitStack() as undo:
        try:
            with warnings.catch_warnings():  # of PyTorch's own deprecated code
                warnings.simplefilter("ignore")
                compile_fx = import_module("torch._inductor.compile_fx")
            lowering = import_module("torch._inductor.graph").GraphLowering
            undo.enter_context(replaced(lowering, "compile_to_module", scheduled))
            # Without caches, each graph would leave a folder of its own behind.
            undo.enter_context(replaced(compile_fx, "with_fresh_cache_if_config", _nowhere))
            for name, settings in _SETTINGS.items():
                undo.enter_context(import_module(f"torch.{name}.config").patch(settings))
        except (AttributeError, ImportError) as error:
            raise _not_here(error) from error
        yield


# A graph that is in a cache is not lowered, one that was not built must never come into it, and the
# number of threads decides what is fused. This setting of caches alone is stronger than
# `TORCHINDUCTOR_FX_GRAPH_CACHE=1` and what somebody's own code switches on. Of a product,
# `max-autotune` would build several kernels and take the one that is the fastest this time.
_SETTINGS = {
    "compiler": {"force_disable_caches": True},
    "_inductor": {
        "cpp.threads": 1,
        "max_autotune_gemm_backends": "ATEN",
        "max_autotune_conv_backends": "ATEN",
    },
}


def _nowhere(_: Any) -> AbstractContextManager[None]:
    return nullcontext()


def _not_here(error: Exception) -> RuntimeError:
    return RuntimeError(
        f"kernels and fused_bytes cannot be counted with torch {torch.__version__}, which tells "
        f"them otherwise than 2.11 to 2.14 do ({type(error).__name__}: {error})"
    )


def _kernels(graph: Any) -> Iterator[Kernel]:
    """Those of a graph, and of the graphs inside it: branches and bodies count once."""
    inductor = import_module("torch._inductor.virtualized").V
    ir, scheduler = (import_module(f"torch._inductor.{name}") for name in ("ir", "scheduler"))
    library = scheduler.ExternKernelSchedulerNode, scheduler.NopKernelSchedulerNode
    with inductor.set_graph_handler(graph):
        graph.init_wrapper_code()
        graph._update_scheduler()  # noqa: SLF001 - this is the fault
        for node in graph.scheduler.nodes:
            parts = tree_leaves([*vars(node.node).values()] if node.node else [])
            if inner := [part.graph for part in parts if isinstance(part, ir.Subgraph)]:
                for each in inner:
                    yield from _kernels(each)
            else:
                moved = node.get_read_write_buffers_sizes()
                yield Kernel(not isinstance(node, library), moved, _traces(node))


def _traces(node: Any) -> tuple[str, ...]:
    origins = {origin for each in node.get_nodes() for origin in each.node.origins}
    return tuple(origin.stack_trace for origin in origins if origin.stack_trace)
