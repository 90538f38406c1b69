"""What Triton kernels execute, as far as Triton's interpreter shows it (`TRITON_INTERPRET=1`).

It is what a kernel's formula is checked against: the one says what a launch computes by the rules
of `counting.costs`, the other what runs. The interpreter runs a kernel's Python, every operation of
which goes through one object, the builder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

from pytest_flops.counting.replacing import replaced


@dataclass
class Executed:
    """What kernels executed.

    Attributes:
        flops: By the rules of the cost table: 2 per multiply-add of `tl.dot`, 1 per element of
            floating-point arithmetic and per input element of a reduction; a `fma` is 2.
            Comparisons, `where`, casts and work on integers are 0. All elements of a block count,
            also those that a mask hides from loads and stores. `tl.dot_scaled` is not counted.
        loaded: Bytes that masks let through; what is loaded twice counts twice.
        stored: Likewise. An atomic operation loads and stores.
        alike: Whether each program of the grid is known to execute as much.
    """

    flops: int = 0
    loaded: int = 0
    stored: int = 0
    alike: bool = False

    def __str__(self) -> str:
        return f"{self.flops:,} FLOP, {self.loaded:,} B loaded and {self.stored:,} B stored"


@contextmanager
def executed() -> Iterator[Executed]:
    """Count what kernels execute in Triton's interpreter while active.

    ```python
    with executed() as work:
        kernel[grid](...)
    assert work.flops == ...
    ```
    """
    interpreter = import_module("triton.runtime.interpreter")
    work, builder = Executed(), interpreter.interpreter_builder
    with ExitStack() as undo:
        for name, note in _NOTES.items():
            if hasattr(builder, name):  # not in every version
                undo.enter_context(replaced(builder, name, partial(_noting, work, note)))
        for operation in (interpreter.ReduceOps, interpreter.ScanOps):
            undo.enter_context(replaced(operation, "apply_impl", partial(_reducing, work)))
        yield work


Note: TypeAlias = "Callable[..., None]"
"""Adds to the work what a call of the builder's executed, from its result and its arguments."""


def _noting(
    work: Executed, note: Note, method: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    out = method(*args, **kwargs)
    note(work, out, *args)
    return out


def _reducing(work: Executed, apply: Callable[..., Any], operation: Any, given: Any) -> Any:
    """Of a reduction or a scan by a function of one's own, what that function executes counts."""
    before = work.flops
    out = apply(operation, given)
    if work.flops == before and given[0].dtype.is_floating():
        work.flops += given[0].handle.data.size
    return out


def _elementwise(per_element: int, work: Executed, out: Any, *_operands: Any) -> None:
    work.flops += per_element * out.data.size


def _dot(work: Executed, out: Any, a: Any, *_others: Any) -> None:
    work.flops += 2 * out.data.size * a.data.shape[-1]


def _load(work: Executed, out: Any, pointers: Any, mask: Any, *_others: Any) -> None:
    work.loaded += _let_through(mask, pointers) * out.data.itemsize


def _store(work: Executed, _out: Any, pointers: Any, value: Any, mask: Any, *_others: Any) -> None:
    work.stored += _let_through(mask, pointers) * value.data.itemsize


def _atomic(
    work: Executed, out: Any, how: Any, pointers: Any, _value: Any, mask: Any, *_others: Any
) -> None:
    elements = _let_through(mask, pointers)
    work.loaded += elements * out.data.itemsize
    work.stored += elements * out.data.itemsize
    work.flops += elements if how.name == "FADD" else 0


def _let_through(mask: Any, pointers: Any) -> int:
    """How many elements; a mask may be one for all of them."""
    return int(mask.data.sum()) * int(pointers.data.size) // int(mask.data.size)


_ARITHMETIC = """
    fadd fsub fmul fdiv frem precise_divf approx_divf minimumf maximumf minnumf maxnumf clampf
    fneg fabs cos sin exp exp2 log log2 sqrt precise_sqrt rsqrt erf floor ceil
    """
_NOTES: Mapping[str, Note] = {
    **{f"create_{name}": partial(_elementwise, 1) for name in _ARITHMETIC.split()},
    "create_fma": partial(_elementwise, 2),
    "create_dot": _dot,
    "create_masked_load": _load,
    "create_masked_store": _store,
    "create_atomic_rmw": _atomic,
}
