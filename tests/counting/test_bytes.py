"""`bytes`: every kind of operator by hand, what fake tensors say, and what real kernels touch.

`F32` and its kin are the sizes of elements; `N`, `D` are rows and columns of the matrices.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.metrics.operands import EXCEPTIONS

N, D, V = 8, 16, 64
F32, I64, BOOL, BF16 = 4, 8, 1, 2
MATRIX, ROW = F32 * N * D, F32 * D


def moved(run: Callable[[], object]) -> int:
    with FLOPsMeter(metrics=["bytes"]) as meter:
        run()
    return meter.measurement().of("bytes total")


def matrix() -> Tensor:
    return torch.ones(N, D)


def integers(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


Made = Callable[[], tuple[Callable[[], object], int]]
CASES: dict[str, Made] = {}


def case(make: Made) -> Made:
    CASES[make.__name__] = make
    return make


@case
def arguments_are_read_once_and_the_result_is_written_once():
    a, b = matrix(), matrix()
    return lambda: a + b, 3 * MATRIX


@case
def the_same_argument_twice_is_read_once():
    a = matrix()
    return lambda: a + a, 2 * MATRIX


@case
def views_of_the_same_memory_are_read_once():
    a = torch.ones(D, D)
    return lambda: a @ a.T, 2 * F32 * D * D


@case
def views_of_the_same_memory_in_another_dtype_are_read_once():
    a = torch.ones(N, D, 2)
    b = torch.view_as_complex(a)
    return lambda: torch.equal(b[2:].real, a[2:, :, 0]), F32 * (N - 2) * D


@case
def neighbouring_views_are_read_each():
    a = torch.ones(2 * N, D)
    return lambda: a[:N] + a[N:], 3 * MATRIX


@case
def a_dimension_of_stride_0_counts_once():
    a, b = matrix(), torch.ones(D)
    return lambda: a + b.expand(N, D), 2 * MATRIX + ROW


@case
def a_copy_of_an_expanded_row_reads_the_row():
    row = torch.ones(1, D)
    return lambda: row.expand(N, D).contiguous(), ROW + MATRIX


@case
def windows_that_overlap_are_read_once():
    a = torch.ones(2 * N)
    return lambda: a.unfold(0, N, 1).sum(), F32 * (2 * N) + F32


@case
def every_second_row_is_half_of_the_rows():
    a = torch.ones(2 * N, D)
    return lambda: a[::2] * 2, 2 * MATRIX


@case
def in_place_reads_and_writes():
    a, b = matrix(), matrix()
    return lambda: a.add_(b), 3 * MATRIX


@case
def out_is_only_written():
    a, b, c = matrix(), matrix(), matrix()
    return lambda: torch.add(a, b, out=c), 3 * MATRIX


@case
def out_that_is_an_argument_too_is_read_for_that():
    a, b = matrix(), matrix()
    return lambda: torch.add(a, b, out=b), 3 * MATRIX


@case
def a_copy_only_writes():
    a, b = matrix(), torch.ones(N, D, dtype=torch.bfloat16)
    return lambda: a.copy_(b), MATRIX + BF16 * N * D


@case
def fills_only_write():
    a = matrix()

    def run() -> None:
        a.zero_()
        a.fill_(1.0)

    return run, 2 * MATRIX


@case
def random_fills_only_write():
    a = matrix()

    def run() -> None:
        a.normal_()
        a.uniform_()
        a.bernoulli_(0.5)
        torch.rand_like(a)

    return run, 4 * MATRIX


@case
def probabilities_are_read_and_a_shape_is_not():
    a = matrix()
    return lambda: (a.bernoulli(), a.bernoulli(0.5)), (2 + 1) * MATRIX


@case
def views_and_what_only_allocates_are_free():
    a = matrix()
    return lambda: (a.t(), a[1:], a.view(-1), a.detach(), torch.empty(5), torch.empty_like(a)), 0


@case
def a_cast_reads_one_size_and_writes_another():
    a = matrix()
    return a.bfloat16, MATRIX + BF16 * N * D


@case
def a_single_element_is_read_by_item():
    a = torch.ones(())
    return a.item, F32


@case
def matrix_products_read_both_factors_and_the_bias():
    a, weight, bias = matrix(), torch.ones(V, D), torch.ones(V)
    return lambda: F.linear(a, weight, bias), MATRIX + F32 * (V * D + V + N * V)


@case
def what_is_multiplied_by_0_is_not_read():
    a, b, c = torch.empty(N, N), matrix(), torch.ones(D, N)
    return lambda: torch.addmm(a, b, c, beta=0), 2 * MATRIX + F32 * N * N


@case
def lists_are_flattened():
    a, b = matrix(), matrix()
    return lambda: (torch.cat([a, b]), torch.stack([a, b])), 2 * 4 * MATRIX


@case
def foreach_reads_and_writes_every_tensor():
    a, b = [matrix(), matrix()], [matrix(), matrix()]

    def run() -> None:
        torch._foreach_add_(a, b)
        torch._foreach_zero_(a)
        torch._foreach_copy_(a, b)

    return run, 2 * (3 + 1 + 2) * MATRIX


@case
def a_list_twice_is_read_once():
    a = [matrix(), matrix()]
    return lambda: torch._foreach_add_(a, a), 2 * 2 * MATRIX


@case
def an_embedding_reads_the_rows_that_it_takes():
    table, tokens = torch.ones(V, D), integers(N)
    return lambda: F.embedding(tokens, table), I64 * N + 2 * MATRIX


@case
def an_embedding_reads_no_more_than_its_table():
    table, tokens = torch.ones(2, D), integers(N)
    return lambda: F.embedding(tokens, table), I64 * N + 2 * ROW + MATRIX


@case
def an_index_reads_the_rows_that_it_takes():
    table, rows = torch.ones(V, D), integers(N)
    run = lambda: (table[rows], table.index_select(0, rows))  # noqa: E731
    return run, 2 * (I64 * N + 2 * MATRIX)


@case
def a_gather_reads_what_it_takes():
    table, places = torch.ones(N, V), integers(N, 1)
    return lambda: table.gather(1, places), (I64 + 2 * F32) * N


@case
def a_bag_takes_every_row_and_writes_their_sum():
    table, tokens, offsets = torch.ones(V, D), integers(N), torch.tensor([0])
    # Two of the bag's own integers per row and bag, and one of the largest: the schema's results.
    run = lambda: torch.ops.aten._embedding_bag(table, tokens, offsets)  # noqa: E731
    outs = torch.ops.aten._embedding_bag(table, tokens, offsets)
    return run, I64 * N + I64 + MATRIX + sum(out.nbytes for out in outs)


@case
def the_loss_reads_one_element_a_row():
    scores, targets = torch.ones(N, V), integers(N)
    # log_softmax reads and writes the matrix; the loss reads targets and one score for each, and
    # writes the loss and its weight.
    return lambda: F.cross_entropy(scores, targets), 2 * F32 * N * V + (I64 + F32) * N + 2 * F32


@case
def a_scatter_touches_what_it_puts():
    table, places, values = torch.ones(N, V), integers(N, 1), torch.ones(N, 1)

    def run() -> None:
        table.scatter_(1, places, values)
        table.scatter_add_(1, places, values)

    return run, (I64 + 2 * F32) * N + (I64 + 3 * F32) * N


@case
def rows_put_and_rows_added():
    table, rows, values = torch.ones(V, D), integers(N), matrix()

    def run() -> None:
        table[rows] = values
        table.index_put_((rows,), values, accumulate=True)
        table.index_copy_(0, rows, values)
        table.index_add_(0, rows, values)
        table.index_fill_(0, rows, 0.0)

    return run, 5 * I64 * N + (2 + 3 + 2 + 3 + 1) * MATRIX


@case
def indices_broadcast():
    table = torch.ones(V, V, D)
    rows, columns = integers(N, 1), integers(3)
    values = torch.ones(N, 3, D)
    run = lambda: table.index_put_((rows, columns), values)  # noqa: E731
    return run, I64 * (N + 3) + 2 * F32 * N * 3 * D


@case
def a_mask_puts_as_if_it_were_true_everywhere():
    table, mask, value = torch.ones(N, D), torch.zeros(N, dtype=torch.bool), torch.tensor(0.0)
    return lambda: table.index_put_((mask,), value), BOOL * N + F32 + MATRIX


@case
def a_functional_scatter_is_a_copy():
    table, rows, values = torch.ones(V, D), integers(N), matrix()
    run = lambda: table.index_add(0, rows, values)  # noqa: E731
    return run, 2 * F32 * V * D + I64 * N + MATRIX


@case
def shapes_alone_are_not_read():
    a = matrix()
    return lambda: (torch.zeros_like(a), a.new_ones(N, D), torch.full_like(a, 2.0)), 3 * MATRIX


@case
def a_loss_is_differentiated_without_its_scores():
    scores, targets = torch.ones(N, V), integers(N)
    one = torch.ones(())
    run = lambda: torch.ops.aten.nll_loss_backward(one, scores, targets, None, 1, -100, one)  # noqa: E731
    return run, F32 + I64 * N + F32 * N * V


@case
def convolutions_differentiate_what_is_asked_for():
    x, weight = torch.ones(1, 2, N, N), torch.ones(3, 2, 1, 1)
    grad = torch.ones(1, 3, N, N)
    geometry = (1, 1), (0, 0), (1, 1), False, (0, 0), 1

    def run(*mask: bool) -> None:
        torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, mask)

    # The weight's gradient reads the input; the input's reads the weight.
    of_weight = grad.nbytes + x.nbytes + weight.nbytes
    of_input = grad.nbytes + weight.nbytes + x.nbytes
    return lambda: (run(False, True, False), run(True, False, False)), of_weight + of_input


@case
def running_statistics_change_in_training_alone():
    x, weight, mean, var = torch.ones(N, D), torch.ones(D), torch.zeros(D), torch.ones(D)

    def run(training: bool) -> None:
        torch.native_batch_norm(x, weight, weight, mean, var, training, 0.1, 1e-5)

    # In both: input, weight (which is the bias too), statistics, result. In training: statistics
    # again, and the batch's own two, which the backward needs.
    return lambda: (run(False), run(True)), 2 * (2 * MATRIX + 3 * ROW) + 4 * ROW


@case
def attention_moves_its_operands_and_no_scores():
    q, k, v = (torch.ones(1, 2, N, D) for _ in range(3))
    # The result, and one logarithm of a sum for each row of scores.
    return lambda: F.scaled_dot_product_attention(q, k, v), 4 * 2 * MATRIX + F32 * 2 * N


@case
def sparse_tensors_move_values_and_indices():
    a = torch.eye(N).to_sparse()
    return lambda: a * 2, 2 * N * (F32 + 2 * I64)


@case
def compressed_tensors_move_three_parts():
    a, b = torch.eye(N).to_sparse_csr(), torch.ones(N, D)
    return lambda: a @ b, N * F32 + (N + 1) * I64 + N * I64 + 2 * MATRIX


@case
def quantised_tensors_move_their_elements():
    a = torch.quantize_per_tensor(matrix(), 0.1, 0, torch.qint8)
    return a.dequantize, N * D + MATRIX


@case
def what_torch_func_batches_is_counted_by_what_runs():
    a = matrix()
    return lambda: torch.func.vmap(lambda row: row + 1)(a), 2 * MATRIX


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_by_hand(name: str) -> None:
    run, expected = CASES[name]()
    assert moved(run) == expected


VALUES_ARE_NEEDED = {
    "a_single_element_is_read_by_item",
    "views_of_the_same_memory_in_another_dtype_are_read_once",  # equal
    "sparse_tensors_move_values_and_indices",
    "compressed_tensors_move_three_parts",
    "quantised_tensors_move_their_elements",
}


@pytest.mark.parametrize("name", sorted(CASES.keys() - VALUES_ARE_NEEDED))
@pytest.mark.filterwarnings("ignore")
def test_fake_tensors_move_as_much(name: str) -> None:
    with FakeTensorMode():
        run, expected = CASES[name]()
        assert moved(run) == expected


OTHERWISE_ON_META = {
    "attention_moves_its_operands_and_no_scores",  # by other operators
    "running_statistics_change_in_training_alone",  # returns the batch's in evaluation too
}


@pytest.mark.parametrize("name", sorted(CASES.keys() - VALUES_ARE_NEEDED - OTHERWISE_ON_META))
@pytest.mark.filterwarnings("ignore")
def test_meta_tensors_move_as_much(name: str) -> None:
    with torch.device("meta"):
        run, expected = CASES[name]()
        assert moved(run) == expected


@pytest.mark.parametrize("kind", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_a_gpt_step_moves_as_much_without_values(kind: dict[str, bool]) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, **kind)

    model, tokens = SmallGPT(), integers(2, N)
    counted = count_flops(model, tokens, optimizer=make, loss=loss_of, metrics=["bytes"])
    optimizer = make(model.parameters())
    with FLOPsMeter(metrics=["bytes"]) as meter:
        loss_of(model(tokens)).backward()
        optimizer.step()
    found = meter.measurement()
    for phase in ("forward", "backward", "optimizer"):
        assert counted.of(f"bytes {phase}") == found.of(f"bytes {phase}") > 0
    assert counted.of("bytes forward", "head") == found.of("bytes forward", "head") > 0


def loss_of(logits: Tensor) -> Tensor:
    targets = torch.zeros(logits.shape[:2], dtype=torch.int64)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class SmallGPT(nn.Module):
    """One block of attention and a feed-forward; tokens `(B, N)` to logits `(B, N, V)`."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.norm = nn.Embedding(V, D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.feed_forward = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))
        self.head = nn.Linear(D, V, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        batch, length, width = x.shape
        parts = self.qkv(self.norm(x)).view(batch, length, 3, 2, width // 2)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind()
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return self.head(x + self.feed_forward(x))


def test_the_arithmetic_intensity_of_a_product_is_the_published_one() -> None:
    """2 M N K / (2 (M N + N K + M K)) in half precision.

    NVIDIA, "Matrix Multiplication Background User's Guide", section "Math and Memory Bounds": its
    example of 8192 x 128 x 8192 has 124.1 FLOP a byte.
    """
    a = torch.empty(8192, 128, dtype=torch.float16, device="meta")
    b = torch.empty(128, 8192, dtype=torch.float16, device="meta")
    with FLOPsMeter(metrics=["bytes"]) as meter:
        a @ b
    intensity = meter.count.total / meter.measurement().of("bytes total")
    assert intensity == pytest.approx(124.1, abs=0.05)


ADAMW = 7  # reads parameter, gradient and two moments; writes parameter and two moments


@pytest.mark.parametrize(("amsgrad", "per_parameter"), [(False, ADAMW), (True, ADAMW + 2)])
def test_fused_adamw_moves_28_bytes_a_parameter(amsgrad: bool, per_parameter: int) -> None:
    parameters = [nn.Parameter(matrix()), nn.Parameter(torch.ones(D))]
    optimizer = torch.optim.AdamW(parameters, fused=True, amsgrad=amsgrad)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        with FLOPsMeter(metrics=["bytes"]) as meter:
            optimizer.step()
    # The steps: each is incremented, in place by the 1 of a tensor or of a number, and read.
    steps = 3 * F32 * len(parameters)
    found = meter.measurement().of("bytes optimizer")
    assert found - per_parameter * (MATRIX + ROW) - steps in (0, F32)


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_fused_sgd_reads_its_momentum_from_the_second_step_on(momentum: float) -> None:
    parameter = nn.Parameter(matrix())
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=momentum, fused=True)
    found = []
    for _ in range(2):
        parameter.grad = torch.ones_like(parameter)
        with FLOPsMeter(metrics=["bytes"]) as meter:
            optimizer.step()
        found.append(meter.measurement().of("bytes optimizer"))
    # Reads parameter and gradient, writes the parameter; and the momentum, if there is one.
    assert found == ([5 * MATRIX - MATRIX, 5 * MATRIX] if momentum else [3 * MATRIX] * 2)


def test_exceptions_name_arguments_that_their_operators_have() -> None:
    for full, exceptions in EXCEPTIONS.items():
        namespace, _, name = full.rpartition(".")
        library = getattr(torch.ops, namespace or "aten")
        forms = [getattr(library, f, None) for f in (name, f"{name}_", f"_foreach_{name}_")]
        schemas = [getattr(f, o)._schema for f in forms if f is not None for o in f.overloads()]
        known = {argument.name for schema in schemas for argument in schema.arguments}
        known |= {f"out[{place}]" for schema in schemas for place in range(len(schema.returns))}
        named = {*exceptions.read, *exceptions.written, *exceptions.elements}
        assert not schemas or named <= known, full


# --- what real kernels touch ---

TRACE = Path(__file__).with_name("page_trace.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
PAGE = 4096
SIDE = 1024  # a row fills a page, so that pages can be compared with bytes
CAN_TRACE = sys.platform == "linux" and platform.machine() == "x86_64" and PAGE == mmap.PAGESIZE


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if not CAN_TRACE or COMPILER is None:
        pytest.skip("pages are traced on Linux, on x86-64, with a C compiler")
    built = tmp_path_factory.mktemp("trace") / "page_trace.so"
    command = [COMPILER, "-O1", "-shared", "-fPIC", "-o", str(built), str(TRACE)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(built))


def in_pages_of_its_own(shape: tuple[int, ...]) -> tuple[Tensor, int]:
    """A tensor of ones, and the address of its first page."""
    region = mmap.mmap(-1, F32 * torch.Size(shape).numel())
    tensor = torch.frombuffer(region, dtype=torch.float32).view(shape)
    return tensor.fill_(1.0), tensor.data_ptr()


def touched(library: ctypes.CDLL, run: Callable[..., Tensor | None], *shapes: Any) -> int:
    """The bytes of the pages that a call really reads and writes, and of its new result."""
    tensors, addresses = zip(*map(in_pages_of_its_own, shapes), strict=True)
    for tensor, address in zip(tensors, addresses, strict=True):
        assert library.watch(ctypes.c_void_p(address), ctypes.c_size_t(tensor.nbytes)) == 0
    pages = (ctypes.c_size_t * 2)()
    library.start()
    try:
        new = run(*tensors)
    finally:
        library.stop(pages)
    made = new is not None and new.data_ptr() not in addresses
    return sum(pages) * PAGE + (new.nbytes if made and new is not None else 0)


def fused_adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor) -> None:
    settings = dict.fromkeys(("lr", "beta1", "beta2", "weight_decay", "eps"), 0.5)
    step = [torch.ones(())]
    torch._fused_adamw_([p], [g], [m], [v], [], step, amsgrad=False, maximize=False, **settings)


M = (SIDE, SIDE)
SOME = (16, SIDE)
ROWS = torch.arange(0, SIDE, SIDE // 16)
TARGETS = integers(SIDE)
aten = torch.ops.aten
KERNELS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "add": (lambda a, b, out: torch.add(a, b, out=out), (M, M, M)),
    "add in place": (lambda a, b: a.add_(b), (M, M)),
    "add to itself": (lambda a: a + a, (M,)),
    "add a row": (lambda a, row: a + row, (M, (SIDE,))),
    "copy_": (lambda a, b: a.copy_(b), (M, M)),
    "copy of a transpose": (lambda a: a.t().contiguous(), (M,)),
    "copy of an expanded row": (lambda a: a.expand(M).contiguous(), ((1, SIDE),)),
    "every second row": (lambda a: a[::2] * 2, (M,)),
    "cast": (lambda a: a.bfloat16(), (M,)),
    "zero_": (lambda a: a.zero_(), (M,)),
    "normal_": (lambda a: a.normal_(), (M,)),
    "zeros_like": (torch.zeros_like, (M,)),
    "mm": (lambda a, b, out: torch.mm(a, b, out=out), (M, M, M)),
    "mm with its own transpose": (lambda a: a @ a.t(), (M,)),
    "addmm": (torch.addmm, ((SIDE,), M, M)),
    "cat": (lambda a, b: torch.cat([a, b]), (M, M)),
    "sum": (lambda a: a.sum(0), (M,)),
    "softmax": (lambda a: a.softmax(-1), (M,)),
    "gelu backward": (aten.gelu_backward, (M, M)),
    "foreach": (lambda a, b: torch._foreach_mul_([a, b], 2.0) and None, (M, M)),
    "fused adamw": (fused_adamw, (M, M, M, M)),
    "index_select": (lambda a, out: torch.index_select(a, 0, ROWS, out=out), (M, SOME)),
    "embedding": (lambda a: F.embedding(ROWS, a), (M,)),
    "index_copy_": (lambda a, b: a.index_copy_(0, ROWS, b), (M, SOME)),
    "index_add_": (lambda a, b: a.index_add_(0, ROWS, b), (M, SOME)),
    "index_put_": (lambda a, b: a.index_put_((ROWS,), b), (M, SOME)),
    "nll_loss backward": (
        lambda a: aten.nll_loss_backward(a[0, 0], a, TARGETS, None, 1, -100, a[0, 0]),
        (M,),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_real_kernels_touch_as_much(library: ctypes.CDLL, name: str) -> None:
    """Page by page, in the CPU's kernels; small tensors beside the large ones are under 1 %."""
    run, shapes = KERNELS[name]
    expected = touched(library, run, *shapes)
    tensors = [torch.ones(shape) for shape in shapes]
    assert moved(lambda: run(*tensors)) == pytest.approx(expected, rel=0.01)
