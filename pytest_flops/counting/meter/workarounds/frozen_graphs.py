"""A graph that was frozen for oneDNN runs operators that no dispatch mode sees.

PyTorch: `torch.jit.optimize_for_inference` replaces convolutions and some others by operators of
the interpreter (`prim::mkldnn_convolution`), which call their kernels past the dispatcher. They
would be missing without a word, so a module whose graph holds some is reported as uncounted.
Seen in: 2.11 to 2.13.
May go when: TorchScript, which is deprecated, is gone, or
`test_what_a_frozen_graph_runs_unseen_is_uncounted` passes without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.jit import ScriptModule
from torch.nn import Module


def hidden_operators(module: Module) -> list[str]:
    """The operators that a call of this module runs unseen, as `prim.mkldnn_convolution`."""
    graph = getattr(module, "graph", None) if isinstance(module, ScriptModule) else None
    return [
        kind.replace("::", ".")
        for kind in (() if graph is None else _kinds(graph))
        if kind.startswith(("prim::mkldnn_", "prim::MKLDNN"))
    ]


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)
