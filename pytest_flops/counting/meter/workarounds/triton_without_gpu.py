"""The compiler knows Triton's kernels only where Triton finds a GPU.

PyTorch: without one, Dynamo traces into the launch of a kernel, breaks the graph there and launches
it; and which arguments a kernel writes is asked of a driver, which Triton does not have. While code
is compiled in order to see what becomes of it, Triton counts as usable, for a GPU that is named.
Seen in: 2.11 to 2.14, with Triton 3.6 to 3.9.
May go when: `test_a_kernel_that_is_launched_directly_breaks_no_graph` passes without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from pytest_flops.counting.replacing import replaced


@contextmanager
def compiled_as_if_for_a_gpu() -> Iterator[None]:
    """While active, the compiler takes launches of kernels into its graphs.

    Raises:
        RuntimeError: By a launch in Triton's interpreter, whose Python code Dynamo cannot compile.
    """
    library: Any = import_module("torch.utils._triton")
    with ExitStack() as undo:
        if library.has_triton_package():
            launching = import_module("triton.runtime.jit").KernelInterface
            undo.enter_context(replaced(launching, "__getitem__", _compiled_launch))
            if not library.has_triton():
                driver: Any = import_module("triton.runtime").driver
                target = import_module("triton.backends.compiler").GPUTarget("cuda", 80, 32)
                undo.callback(driver.set_active, None)
                driver.set_active(SimpleNamespace(get_current_target=lambda: target))
                undo.enter_context(replaced(library, "has_triton", lambda *_: True))
        yield


def _compiled_launch(launch: Callable[..., Any], kernel: Any, grid: Any) -> Any:
    innermost = kernel
    while hasattr(innermost.fn, "run"):
        innermost = innermost.fn
    if type(innermost).__name__ == "InterpretedFunction":
        raise RuntimeError(
            f"the Triton kernel {innermost.fn.__name__} runs in Triton's interpreter, and the "
            "compiler's metrics are of compiled code: count them without TRITON_INTERPRET=1"
        )
    return launch(kernel, grid)
