"""Accumulating by index costs 1 per element that is accumulated, however it was given."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it

from pytest_flops.counting.costs import rule_of
from pytest_flops.counting.meter.meter import FLOPsMeter

ROWS = torch.tensor([0, 1, 0])
PAIR = torch.tensor([[0], [1]])  # broadcast with three rows: 2 x 3
SOURCE = torch.ones(3, 8)
FEW = torch.zeros(2, 4, dtype=torch.int64)  # fewer than the source has
COMPLEX = torch.complex(SOURCE, SOURCE)
BAGS, MANY = torch.zeros(2, 3, dtype=torch.int64), torch.ones(10, 4)


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def put(target: torch.Tensor, *indices: torch.Tensor | None, values: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten.index_put(target, indices, values, True)


ACCUMULATED = {
    "as many values as rows": (lambda: put(zeros(10, 8), ROWS, values=SOURCE), 3 * 8),
    "one number": (lambda: put(zeros(10), ROWS, values=torch.tensor(1.0)), 3),
    "one row": (lambda: put(zeros(10, 8), ROWS, values=torch.ones(8)), 3 * 8),
    "two indices that are broadcast": (
        lambda: put(zeros(2, 4, 5), PAIR, ROWS, values=torch.tensor(1.0)),
        2 * 3 * 5,
    ),
    "the second dimension": (lambda: put(zeros(7, 4), None, ROWS, values=torch.ones(3)), 7 * 3),
    # two of the three rows of four
    "a mask": (lambda: put(zeros(3, 4), ROWS == 0, values=torch.tensor(1.0)), 2 * 4),
    "a mask of both dimensions": (
        lambda: put(zeros(3, 3), torch.eye(3) > 0, values=torch.tensor(1.0)),
        3,
    ),
    "put": (lambda: zeros(4).put_(PAIR, torch.ones(2, 1), accumulate=True), 2),
    "index_add": (lambda: zeros(2, 8).index_add(0, ROWS, SOURCE), 3 * 8),
    "index_add of a scaled source": (
        lambda: zeros(2, 8).index_add(0, ROWS, SOURCE, alpha=0.5),
        2 * 3 * 8,
    ),
    "complex": (
        lambda: zeros(2, 8, dtype=torch.complex64).index_add(0, ROWS, COMPLEX),
        2 * 3 * 8,
    ),
    "a maximum": (lambda: zeros(2, 8).index_reduce(0, ROWS, SOURCE, "amax"), 3 * 8),
    # and a mean divides every element of the result
    "a mean": (lambda: zeros(2, 8).index_reduce(0, ROWS, SOURCE, "mean"), 3 * 8 + 2 * 8),
    "scatter_add": (lambda: zeros(3, 4).scatter_add(0, FEW, SOURCE), 2 * 4),
    "scatter_add of complex numbers": (
        lambda: zeros(3, 4, dtype=torch.complex64).scatter_add(0, FEW, COMPLEX),
        2 * 2 * 4,
    ),
    "scatter_reduce": (lambda: zeros(3, 4).scatter_reduce(0, FEW, SOURCE, "amax"), 2 * 4),
    "scatter_reduce of a mean": (
        lambda: zeros(3, 4).scatter_reduce(0, FEW, SOURCE, "mean"),
        2 * 4 + 3 * 4,
    ),
    "scatter of a number": (lambda: zeros(3, 4).scatter(0, FEW, 2.0, reduce="add"), 2 * 4),
    "scatter of a factor": (
        lambda: zeros(3, 4, dtype=torch.complex64).scatter(0, FEW, COMPLEX, reduce="multiply"),
        6 * 2 * 4,
    ),
    "segments": (
        lambda: torch.segment_reduce(torch.ones(4), "sum", lengths=torch.tensor([1, 3])),
        4,
    ),
    "means of segments": (
        lambda: torch.segment_reduce(torch.ones(4), "mean", lengths=torch.tensor([1, 3])),
        4 + 2,
    ),
    # 3 values of one column of 8 each
    "values of a sparse tensor": (
        lambda: torch.sparse_coo_tensor(ROWS[None], SOURCE, (2, 8)).coalesce(),
        3 * 8,
    ),
    "copies": (lambda: zeros(10, 8).index_put((ROWS,), SOURCE), 0),
    "integers": (lambda: put(zeros(10, dtype=torch.int64), ROWS, values=ROWS), 0),
}


@pytest.mark.filterwarnings("ignore:index_reduce:UserWarning", "ignore:The reduce argument")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(("run", "expected"), ACCUMULATED.values(), ids=ACCUMULATED)
def test_what_is_accumulated_is_counted(run, expected):
    with FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    assert meter.count.forward == expected


GRADIENTS = {
    # every row that was read, though one was read twice
    "embedding": (lambda rows: F.embedding(ROWS, rows), 3 * 4),
    "embedding scaled by frequency": (
        lambda rows: F.embedding(ROWS, rows, scale_grad_by_freq=True),
        2 * 3 * 4,
    ),
    "rows by index": (lambda rows: rows[ROWS], 3 * 4),
    "index_select": (lambda rows: rows.index_select(0, ROWS), 3 * 4),
    "gather": (lambda rows: rows.gather(0, PAIR), 2),
    "take": (lambda rows: rows.take(PAIR), 2),
    # 2 bags of 3 rows of 4
    "sums of bags": (lambda rows: F.embedding_bag(BAGS, rows, mode="sum"), 2 * 3 * 4),
    "means of bags": (lambda rows: F.embedding_bag(BAGS, rows), 2 * 3 * 4 + 2 * 4),
    "maxima of bags": (lambda rows: F.embedding_bag(BAGS, rows, mode="max"), 2 * 4),
    "weighted bags": (
        lambda rows: F.embedding_bag(
            BAGS, rows, mode="sum", per_sample_weights=torch.ones(BAGS.shape)
        ),
        2 * (2 * 3 * 4),
    ),
}


@pytest.mark.parametrize(("run", "expected"), GRADIENTS.values(), ids=GRADIENTS)
def test_a_gradient_is_accumulated_wherever_something_was_read(run, expected):
    rows = MANY.clone().requires_grad_()
    with FLOPsMeter() as meter:
        out = run(rows)
        out.backward(torch.ones_like(out))
    assert not meter.uncounted
    assert meter.count.backward == expected


def test_a_mask_without_values_has_no_cost():
    rule = rule_of(torch.ops.aten.index_put.default)
    mask = torch.ones(3, dtype=torch.bool, device="meta")
    assert rule.cost((zeros(3), [mask], zeros(1), True), {}, zeros(3)) is None
