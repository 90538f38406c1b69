"""PyTorch's own samples of its operators: what one costs does not depend on how it is called.

`make operators` installs what PyTorch's samples need, and runs these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter.data_dependence import DataDependentError
from pytest_flops.counting.meter.meter import FLOPsMeter

pytest.importorskip("expecttest", reason="expecttest is not installed: make operators")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal import common_methods_invocations as samples_of

pytestmark = pytest.mark.filterwarnings("ignore")

SAMPLES = 5
# Which classes are targets; how many values a matrix stores; how long sequences are.
COST_DEPENDS_ON_VALUES = (
    "nn.functional.multilabel_margin_loss",
    "sparse.mm",
    "sparse.sampled_addmm",
    "nn.functional.ctc_loss",
)
DTYPES = (torch.float32, torch.complex64, torch.int64)
FOREACH = [
    op
    for kind in ("unary", "binary", "pointwise", "reduce")
    for op in getattr(samples_of, f"foreach_{kind}_op_db")
    if hasattr(torch, op.name.removeprefix("_foreach_"))
]
NEED_VALUES = (DataDependentError, DataDependentOutputException, DynamicOutputShapeException)
Cost: TypeAlias = tuple[FLOPsCount, bool]
Call: TypeAlias = tuple[list[Any], dict[str, Any]]


def cost(run: Callable[[], object]) -> Cost | None:
    """What a call costs, and whether that is all of it; None if it fails without a meter too."""
    torch.manual_seed(0)
    try:
        run()
    except Exception:
        return None
    torch.manual_seed(0)
    with FLOPsMeter() as meter:
        run()
    return meter.count, not meter.uncounted


def samples(op: Any, *, gradients: bool = False) -> Iterator[Any]:
    """Some of each kind of number; those that PyTorch can make."""
    for dtype in DTYPES:
        wanted = gradients and op.supports_autograd and dtype in op.backward_dtypes
        if dtype not in op.dtypes:
            continue
        with suppress(Exception):
            found = op.sample_inputs("cpu", dtype, requires_grad=wanted)
            yield from islice((each for each in found if each.input is not None), SAMPLES)


def placed(sample: Any, place: Callable[[Tensor], Tensor] = Tensor.clone) -> Call:
    """A sample's arguments, each tensor anew."""

    def again(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return place(leaf.detach()).requires_grad_(leaf.requires_grad)

    return tree_map(again, ([sample.input, *sample.args], sample.kwargs))


def check_forms(op: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    plain = cost(lambda: op.op(*args, **kwargs))
    if plain is None:
        return
    with torch.inference_mode():
        assert cost(lambda: op.op(*args, **kwargs)) in (plain, None), "inference mode"
    if op.supports_out and "out" not in kwargs:
        out = tree_map_only(Tensor, torch.empty_like, op.op(*args, **kwargs))
        assert cost(lambda: op.op(*args, **kwargs, out=out)) in (plain, None), "out="
    if op.inplace_variant is not None:
        inplace = cost(lambda: op.inplace_variant(args[0].clone(), *args[1:], **kwargs))
        assert inplace in (plain, None), "in place"


@pytest.mark.parametrize("op", samples_of.op_db, ids=lambda op: op.full_name)
def test_every_form_of_an_operator_costs_the_same(op):
    for sample in samples(op):
        check_forms(op, *placed(sample))


def run_with_gradients(op: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    out = op.op(*args, **kwargs)
    leaves = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if leaves:
        torch.autograd.backward(leaves, [torch.ones_like(leaf) for leaf in leaves])


def check_without_values(op: Any, sample: Any) -> None:
    real = cost(lambda: run_with_gradients(op, *placed(sample)))
    if real is None:
        return
    fake = FakeTensorMode()
    args, kwargs = placed(sample, fake.from_tensor)
    try:
        with fake, FLOPsMeter() as meter:
            run_with_gradients(op, args, kwargs)
    except NEED_VALUES:
        return
    except RuntimeError as error:
        if "data is not allocated yet" not in str(error):
            raise
        return
    assert (meter.count, not meter.uncounted) == real


@pytest.mark.parametrize(
    "op",
    [op for op in samples_of.op_db if op.name not in COST_DEPENDS_ON_VALUES],
    ids=lambda op: op.full_name,
)
def test_an_operator_and_its_gradient_cost_the_same_without_values(op):
    for sample in samples(op, gradients=True):
        check_without_values(op, sample)


def check_results(op: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    if cost(lambda: op.op(*args, **kwargs)) is None:
        return
    torch.manual_seed(0)
    expected = op.op(*args, **kwargs)
    torch.manual_seed(0)
    with FLOPsMeter():
        found = op.op(*args, **kwargs)
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize(
    "op",
    [op for op in samples_of.op_db if "empty" not in op.name],  # memory that nobody wrote
    ids=lambda op: op.full_name,
)
def test_what_is_counted_gives_the_same_results(op):
    for sample in samples(op):
        check_results(op, *placed(sample))
        with torch.inference_mode():
            check_results(op, *placed(sample))


def check_list_form(op: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    name = op.name.removeprefix("_foreach_")
    plain = torch.linalg.vector_norm if name == "norm" else getattr(torch, name)

    def at(position: int, given: Any) -> Any:
        return given[position] if isinstance(given, list | tuple) else given

    def one_by_one() -> None:
        for position in range(len(args[0])):
            named = {key: at(position, given) for key, given in kwargs.items()}
            plain(*(at(position, given) for given in args), **named)

    expected = cost(one_by_one)
    assert expected is None or cost(lambda: op.method_variant(*args, **kwargs)) in (expected, None)


@pytest.mark.parametrize("op", FOREACH, ids=lambda op: op.name)
def test_a_list_form_costs_what_the_plain_form_costs(op):
    for sample in samples(op):
        check_list_form(op, [sample.input, *sample.args], dict(sample.kwargs))
