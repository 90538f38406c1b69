"""`like="cuda"`: a step runs the operators that CUDA runs, without a GPU.

The lists that are expected here are written by hand from PyTorch's sources, which each case names
(`attention.cpp` and `sdp_utils.cpp` are in `aten/src/ATen/native/transformers`, the others in
`aten/src/ATen/native`). A build of PyTorch for CUDA runs forwards of fake tensors on CUDA without a
GPU too, and is asked itself; where a GPU is, real steps are.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as imported_by_name
from torch.optim import optimizer as optimizers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from pytest_flops import FLOPsMeter, count_flops
from pytest_flops.counting.meter.autocast_like_cuda import _NOT_IN_FLOAT32

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
needs_build = pytest.mark.skipif(torch.version.cuda is None, reason="PyTorch has no CUDA in it")

HALF, BRAIN, SINGLE, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64
B, H, N, W = 2, 3, 16, 8  # batch, heads, length, width
FLASH = "_scaled_dot_product_flash_attention"
EFFICIENT = "_scaled_dot_product_efficient_attention"
MATH = "_safe_softmax"  # of the mathematical form


class Applied(nn.Module):
    """A function of its inputs, each times a weight, so that all of them need a gradient."""

    def __init__(self, function: Callable[..., Tensor], dtype: torch.dtype = SINGLE) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*(x * self.weight for x in inputs))


class Log(TorchDispatchMode):
    """The operators that run, in their order, without views and what only allocates."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, _: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        allocates = name in (
            "_unsafe_view",
            "empty",
            "empty_like",
            "new_ones",
            "detach",
            "ones",
            "scalar_tensor",
        )
        if func.namespace == "aten" and not func.is_view and not allocates:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def forward_of(
    function: Callable[..., Any], *inputs: Tensor, like: str | None = "cuda"
) -> list[str]:
    """All operators of a forward, that of the product by the weight excepted."""
    with Log() as log:
        count_flops(Applied(function, inputs[0].dtype), *inputs, training=False, like=like)
    return log.names[len(inputs) :]


def costs(function: Callable[..., Tensor], *inputs: Tensor, like: str | None = "cuda"):
    model = Applied(function, inputs[0].dtype)
    found = count_flops(model, *inputs, optimizer="none", like=like)
    assert not found.uncounted
    return found


def qkv(dtype: torch.dtype, *, heads: int = H, keys: int = N, width: int = W) -> list[Tensor]:
    others = torch.ones(B, heads, keys, width, dtype=dtype)
    return [torch.ones(B, H, N, width, dtype=dtype), others, others]


CAUSAL, MASKED = {"is_causal": True}, {"attn_mask": torch.ones(N, N, dtype=torch.bool)}
# `select_sdp_backend` of cuda/sdp_utils.cpp tries flash, efficient and math; a comment names what
# decides. Of compute capability 8.0.
CHOICES = {
    "float16": (qkv(HALF), {}, FLASH),
    "bfloat16": (qkv(BRAIN), {}, FLASH),
    "causal": (qkv(BRAIN), CAUSAL, FLASH),
    "dropout": (qkv(BRAIN), {"dropout_p": 0.1}, FLASH),
    # check_dtypes_low_precision, greater_than_or_equal_sm80_mem_efficient_dtypes
    "float32": (qkv(SINGLE), {}, EFFICIENT),
    "float32, causal": (qkv(SINGLE), CAUSAL, EFFICIENT),
    "float64": (qkv(DOUBLE), {}, MATH),
    # check_for_attn_mask
    "mask": (qkv(BRAIN), MASKED, EFFICIENT),
    "bias": (qkv(BRAIN), {"attn_mask": torch.zeros(N, N, dtype=BRAIN)}, EFFICIENT),
    # check_flash_causal_non_square_seqlens
    "causal, longer keys": (qkv(BRAIN, keys=24), CAUSAL, EFFICIENT),
    # check_batch_size_and_num_heads_dense, supports_gqa
    "grouped": (qkv(BRAIN, heads=1), {"enable_gqa": True}, FLASH),
    "grouped, float32": (qkv(SINGLE, heads=1), {"enable_gqa": True}, MATH),
    # check_head_dim_size_flash
    "wide": (qkv(BRAIN, width=264), {}, EFFICIENT),
    # check_head_dim_size_mem_efficient: multiples of 4 in float32, of 8 in halves
    "float32, width 6": (qkv(SINGLE, width=6), {}, MATH),
    "float32, width 12": (qkv(SINGLE, width=12), {}, EFFICIENT),
    "mask, width 12": (qkv(BRAIN, width=12), MASKED, MATH),
    # check_tensor_shapes
    "three dimensions": ([torch.ones(B, N, W, dtype=BRAIN)] * 3, {}, MATH),
    # check_last_dim_stride_equals_1_dense
    "transposed": ([torch.ones(B, H, W, N, dtype=BRAIN).mT] * 3, {}, MATH),
}


@pytest.mark.parametrize(("inputs", "options", "kernel"), CHOICES.values(), ids=CHOICES)
def test_attention_runs_the_kernel_that_cuda_chooses_and_costs_the_same(inputs, options, kernel):
    def attend(*qkv: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*qkv, **options)

    cuda, cpu = (costs(attend, *inputs, like=like) for like in ("cuda", None))
    run = {name.removeprefix("aten.") for name in cuda.operations}
    assert [name for name in (FLASH, EFFICIENT, MATH) if name in run] == [kernel]
    backward = "_softmax_backward_data" if kernel == MATH else f"{kernel}_backward"
    assert backward in run
    assert cuda.count == cpu.count


def test_flash_attention_pads_heads_to_multiples_of_8():
    # attention.cpp, pad_last_dim<8>: what the kernel is asked for is as wide as that
    found = costs(F.scaled_dot_product_attention, *qkv(BRAIN, width=6))
    assert found.operations[f"aten.{FLASH}"].forward == 2 * (2 * B * H * N * N * 8)
    # The queries, the keys and the values; six columns of the result are a view.
    assert forward_of(F.scaled_dot_product_attention, *qkv(BRAIN, width=6)) == [
        *3 * ["constant_pad_nd"],
        FLASH,
    ]


def test_a_mask_is_added_and_its_rows_aligned():
    # attention.cpp: convert_boolean_attn_mask; preprocess_mask pads rows that are not multiples of
    # 16 and takes a slice
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mask = torch.ones(N, 24, dtype=torch.bool)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    assert forward_of(attend, *qkv(SINGLE, keys=24)) == ["where", "constant_pad_nd", EFFICIENT]


@pytest.mark.parametrize(
    ("backend", "kernel"),
    [(SDPBackend.MATH, MATH), (SDPBackend.EFFICIENT_ATTENTION, EFFICIENT)],
    ids=str,
)
def test_the_kernels_that_are_enabled_are_chosen_from(backend, kernel):
    with sdpa_kernel(backend):
        assert kernel in forward_of(F.scaled_dot_product_attention, *qkv(BRAIN))


def test_a_kernel_that_is_not_known_is_refused():
    with (
        sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
        pytest.raises(RuntimeError, match="like='cuda' knows"),
    ):
        forward_of(F.scaled_dot_product_attention, *qkv(BRAIN))


@pytest.mark.parametrize(
    "attend",
    [F.scaled_dot_product_attention, imported_by_name, torch._C._nn.scaled_dot_product_attention],
    ids=["attribute", "imported by name", "builtin"],
)
def test_every_name_of_the_function_meets_the_choice(attend):
    assert forward_of(attend, *qkv(BRAIN)) == [FLASH]


@pytest.mark.parametrize(
    ("module", "inputs"),
    [(nn.MultiheadAttention(8, 2), 3), (nn.TransformerEncoderLayer(8, 2, 16), 1)],
    ids=lambda value: type(value).__name__,
)
def test_the_attention_of_pytorchs_modules_is_cudas(module, inputs):
    given = [torch.ones(3, 2, 8)] * inputs
    named = {"need_weights": False} if inputs == 3 else {}
    found = count_flops(module, *given, like="cuda", **named)
    assert found.operations[f"aten.{EFFICIENT}"].forward > 0
    assert found.operations[f"aten.{EFFICIENT}_backward"].backward > 0
    assert found.count == count_flops(module, *given, **named).count


X = torch.ones(B, N, W)
# What CUDA runs, then the CPU.
FORWARDS = {
    # layer_norm.cpp: rms_norm_symint calls _fused_rms_norm, which on the CPU is rms_norm_composite
    "rms_norm": (
        lambda x: F.rms_norm(x, (W,), x.new_ones(W)),
        ["_fused_rms_norm"],
        ["pow", "mean", "add_", "rsqrt", "mul", "mul"],
    ),
    # ... except where the types differ
    "rms_norm, mixed": (
        lambda x: F.rms_norm(x, (W,), x.new_ones(W, dtype=BRAIN)),
        None,
        ["pow", "mean", "add_", "rsqrt", "mul", "mul"],
    ),
    # is_fused_kernel_acceptable of Dropout.cpp
    "dropout": (
        lambda x: F.dropout(x, 0.1),
        ["native_dropout"],
        ["bernoulli_", "div_", "mul"],
    ),
    "dropout of everything": (lambda x: F.dropout(x, 1.0), None, ["zeros", "mul"]),
    "dropout of nothing": (lambda x: F.dropout(x, 0.0), None, []),
    "dropout, evaluated": (lambda x: F.dropout(x, 0.1, training=False), None, []),
    "dropout in place": (
        lambda x: F.dropout(x, 0.1, inplace=True),
        None,
        ["bernoulli_", "div_", "mul_"],
    ),
    # SoftMax.cpp: softmax, log_softmax; of float16 alone
    "softmax": (
        lambda x: F.softmax(x.half(), -1, dtype=SINGLE),
        ["_to_copy", "_softmax"],
        ["_to_copy", "_to_copy", "_softmax"],
    ),
    "log_softmax": (
        lambda x: F.log_softmax(x.half(), -1, dtype=SINGLE),
        ["_to_copy", "_log_softmax"],
        ["_to_copy", "_to_copy", "_log_softmax"],
    ),
    "softmax of bfloat16": (
        lambda x: F.softmax(x.bfloat16(), -1, dtype=SINGLE),
        None,
        ["_to_copy", "_to_copy", "_softmax"],
    ),
    "layer_norm": (lambda x: F.layer_norm(x, (W,), x.new_ones(W)), None, ["native_layer_norm"]),
}


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize(("function", "cuda", "cpu"), FORWARDS.values(), ids=FORWARDS)
def test_a_function_runs_what_cuda_runs(function, cuda, cpu):
    assert forward_of(function, X, like=None) == cpu
    assert forward_of(function, X) == (cpu if cuda is None else cuda)
    assert costs(function, X).count == costs(function, X, like=None).count


def test_backwards_are_one_operator_too():
    def layer(x: Tensor) -> Tensor:
        return F.dropout(F.rms_norm(x, (W,), x.new_ones(W)), 0.1)

    found = costs(layer, X)
    # by element: times the scaled mask; the gradient of the norm's input, 8, and the scale's, 1;
    # per row 3; of the weight none was asked for
    n, rows = B * N * W, B * N
    assert found.operations["aten.native_dropout_backward"].backward == n
    assert found.operations["aten._fused_rms_norm_backward"].backward == 9 * n + 3 * rows


def test_bytes_launches_and_memory_are_those_of_the_operators():
    metrics = ["bytes", "launches", "peak_memory"]
    n, rows = B * N * W, B * N
    module, x = nn.RMSNorm(W), torch.ones(B, N, W)
    found = count_flops(module, x, training=False, like="cuda", metrics=metrics)
    # it reads the input and the scale, and writes the result and a float for each row
    assert found.of("bytes forward") == 4 * (n + W + n + rows)
    assert found.of("launches forward") == 1
    module = nn.Sequential(nn.Linear(W, W, bias=False), nn.Dropout(0.1))
    found = count_flops(module, x, optimizer="none", like="cuda", metrics=["bytes"])
    # the product; dropout reads its input and writes the result and a mask of a byte each; the sum
    # reads that and writes a number, and so does the gradient that the backward begins with
    assert found.of("bytes forward") == 4 * (n + W * W + n) + (4 + 4 + 1) * n + 4 * (n + 1) + 4


def half(x: Tensor) -> Tensor:
    return F.linear(x, x.new_ones(W, W))


# Of bfloat16, after a product that autocast has cast: two casts and the product come first. The
# rules are the lists AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE of ATen/autocast_mode.h.
PRODUCT = ["_to_copy", "_to_copy", "mm"]
AUTOCASTS = {
    "gelu": (lambda x: F.gelu(half(x)), [*PRODUCT, "gelu"]),
    "exp": (lambda x: half(x).exp(), [*PRODUCT, "_to_copy", "exp"]),
    "power": (lambda x: half(x) ** 3, [*PRODUCT, "_to_copy", "pow"]),
    "layer_norm": (
        lambda x: F.layer_norm(half(x), (W,), x.new_ones(W)),
        [*PRODUCT, "_to_copy", "native_layer_norm"],
    ),
    "softmax": (lambda x: F.softmax(half(x), -1), [*PRODUCT, "_to_copy", "_softmax"]),
    "softmax of bfloat16": (
        lambda x: F.softmax(half(x), -1, dtype=BRAIN),
        [*PRODUCT, "_softmax"],
    ),
    "sum": (lambda x: half(x).sum(-1), [*PRODUCT, "sum"]),
    "cumsum": (lambda x: half(x).cumsum(-1), [*PRODUCT, "cumsum"]),
    "loss": (
        lambda x: F.mse_loss(half(x), x),
        [*PRODUCT, "_to_copy", "mse_loss"],
    ),
    "float64": (lambda x: x.double().exp(), ["_to_copy", "exp"]),
    "attention": (
        lambda x: F.scaled_dot_product_attention(*[half(x)[None]] * 3),
        [*PRODUCT, FLASH],
    ),
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("function", "run"), AUTOCASTS.values(), ids=AUTOCASTS)
def test_autocast_casts_as_cudas(function, run, device):
    def autocast(x: Tensor) -> Tensor:
        with torch.autocast(device, BRAIN):
            return function(x)

    assert forward_of(autocast, X) == run


def test_what_is_cast_to_float32_is_what_pytorchs_header_lists():
    header = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    lists = re.findall(r"#define AT_FORALL_FP32\w*\(_\)(.*?)\n\n", header.read_text(), re.S)
    listed = {name for each in lists for name in re.findall(r"_\((\w+)", each)}
    assert {"softmax", "layer_norm", "exp"} < listed
    registered = torch._C._dispatch_get_registrations_for_dispatch_key
    more = {*registered("AutocastCUDA")} - {*registered("AutocastCPU")}
    # Libraries such as torchvision register theirs beside those of PyTorch's header.
    own = [name for name in more if name.startswith("aten::")]
    names = {name.removeprefix("aten::").partition(".")[0] for name in own}
    assert names & listed == names - set(_NOT_IN_FLOAT32)


def test_a_librarys_rule_for_autocast_on_cuda_is_left_to_it():
    @torch.library.custom_op("ours::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return 2 * x

    twice.register_autocast("cuda", torch.float32)
    assert count_flops(nn.Linear(4, 4), torch.ones(2, 4), like="cuda", training=False).count.total


def test_autocast_on_cuda_reaches_the_products():
    def autocast(x: Tensor) -> Tensor:
        with torch.autocast("cuda"):
            y = half(x)
        assert y.dtype == HALF  # the default of CUDA's
        return y

    model = Applied(autocast)
    found = count_flops(model, X, like="cuda", metrics=["full_precision", "peak_memory"])
    assert found.of("full_precision total") == 0
    assert autocast_of_the_cpu() == ["_to_copy", "_to_copy", "mm", "_softmax", "exp"]


def autocast_of_the_cpu() -> list[str]:
    """What real tensors run under the CPU's autocast."""
    with Log() as log, torch.autocast("cpu", BRAIN):
        F.softmax(half(torch.ones(1, W)), -1).exp()
    return log.names


def optimizer_of(name: str, **options: Any) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters: getattr(torch.optim, name)(parameters, **options)


@pytest.mark.parametrize(
    ("optimizer", "one"),
    [
        # optimizer.py: _default_to_fused_or_foreach; of adamw.py and sgd.py the multi_tensor form
        ("adamw", "_foreach_lerp_"),
        ("adam", "_foreach_lerp_"),
        ("sgd", "_foreach_add_"),
        (optimizer_of("Adagrad"), "_foreach_addcdiv_"),
        (optimizer_of("AdamW", fused=True), "_fused_adamw_"),
        (optimizer_of("SGD", fused=True), "_fused_sgd_"),
        (optimizer_of("AdamW", foreach=False), "lerp_"),
    ],
)
def test_optimizers_run_the_form_that_cuda_chooses(optimizer, one):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with Log() as log:
        found = count_flops(model, torch.ones(4, 8), optimizer=optimizer, like="cuda")
    parameters = 1 if one.startswith("_f") else 4
    assert log.names.count(one) == parameters
    assert not found.uncounted
    if isinstance(optimizer, str):
        assert found.count == count_flops(model, torch.ones(4, 8), optimizer=optimizer).count


def test_clipping_inside_an_optimizer_is_foreach():
    class Clipping(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 1.0)
            return super().step(closure)

    with Log() as log:
        count_flops(
            nn.Linear(8, 8), torch.ones(4, 8), optimizer=lambda p: Clipping(p, 0.1), like="cuda"
        )
    assert "_foreach_norm" in log.names


class Block(nn.Module):
    """A layer of a language model, by parts that a GPU runs otherwise."""

    def __init__(self, *, checkpointed: bool | None = None) -> None:
        super().__init__()
        self.norm, self.drop = nn.RMSNorm(32), nn.Dropout(0.1)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        if self.checkpointed is None:
            return self.layer(x)
        return checkpoint(self.layer, x, use_reentrant=self.checkpointed)

    def layer(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.drop(self.out(attended.transpose(1, 2).flatten(2)))


class Model(nn.Sequential):
    def __init__(self, **options: Any) -> None:
        super().__init__(nn.Linear(8, 32), Block(**options), Block(**options))


@pytest.mark.parametrize("dtype", [SINGLE, BRAIN])
@pytest.mark.parametrize("checkpointed", [None, False, True])
def test_a_whole_step_costs_the_same_and_moves_less(dtype, checkpointed):
    model, x = Model(checkpointed=checkpointed).to(dtype), torch.ones(2, 16, 8, dtype=dtype)
    cuda, cpu = (
        count_flops(model, x, like=like, metrics=["bytes", "launches", "full_precision"])
        for like in ("cuda", None)
    )
    # A checkpoint repeats what it has to up to the last tensor that it needs: the mask of dropout,
    # which CUDA's operator makes with the product, 1 more per element.
    more = 2 * (2 * 16 * 32) if checkpointed is False else 0
    assert cuda.recomputed == cpu.recomputed + more
    assert cuda.count == replace(cpu.count, backward=cpu.count.backward + more)
    if not more:
        assert cuda.components == cpu.components
    assert cuda.metrics["full_precision"].whole == cpu.metrics["full_precision"].whole
    for metric in ("bytes", "launches"):
        assert cuda.of(f"{metric} forward") < cpu.of(f"{metric} forward")
    kernel = FLASH if dtype == BRAIN else EFFICIENT
    assert f"aten.{kernel}_backward" in cuda.operations
    assert "aten.bernoulli_" not in cuda.operations


def names_of_the_cpu() -> list[str]:
    """What real tensors run now, and which optimizer would be chosen."""
    layer = nn.Linear(W, W)
    with Log() as log:
        F.dropout(F.rms_norm(imported_by_name(*qkv(SINGLE)), (W,)), 0.1)
        layer(torch.ones(1, W)).sum().backward()
        torch.optim.SGD(layer.parameters(), 0.1).step()
    return [*log.names, *autocast_of_the_cpu()]


def test_nothing_else_is_affected_and_all_is_put_back():
    before = names_of_the_cpu(), list(optimizers._foreach_supported_types)
    meanwhile: list[list[str]] = []

    class Failing(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            other = threading.Thread(target=lambda: meanwhile.append(names_of_the_cpu()))
            other.start()
            other.join()
            raise KeyError("x")

    with pytest.raises(KeyError):
        count_flops(Failing(), torch.ones(1), like="cuda")
    assert meanwhile == [before[0]]
    assert (names_of_the_cpu(), list(optimizers._foreach_supported_types)) == before
    assert costs(lambda x: F.rms_norm(x, (W,)), X, like=None).operations["aten.pow"].forward


def test_threads_may_count_at_the_same_time():
    counted: list[bool] = []

    def count(like: str | None) -> None:
        found = count_flops(Model(), torch.ones(2, 16, 8), like=like)
        counted.append((f"aten.{EFFICIENT}" in found.operations) == (like == "cuda"))

    threads = [threading.Thread(target=count, args=[like]) for like in ("cuda", None) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [True] * 6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"like": "gpu"}, "like must be 'cuda' or None, not 'gpu'"),
        ({"like": "cuda", "values": "real"}, "leave out values='real' or like='cuda'"),
    ],
)
def test_what_cannot_be_counted_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        count_flops(nn.Linear(8, 8), torch.ones(1, 8), **given)


def fake_forward_on_cuda(function: Callable[..., Any], *inputs: Tensor) -> list[str]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, torch.no_grad():
        fakes = [torch.empty_like(x, device="cuda") for x in inputs]
        with Log() as log:
            function(*fakes)
    return log.names


@needs_build
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("name", FORWARDS)
def test_pytorch_chooses_the_same_for_fakes_on_cuda(name):
    function = FORWARDS[name][0]
    assert fake_forward_on_cuda(function, X) == forward_of(function, X)


@needs_build
@pytest.mark.parametrize("name", AUTOCASTS)
def test_pytorch_casts_the_same_for_fakes_on_cuda(name):
    function, run = AUTOCASTS[name]
    if name == "attention" and not torch.cuda.is_available():
        pytest.skip("without a GPU, attention on CUDA has one form alone")
    torch.set_autocast_enabled("cuda", True)  # `torch.autocast` does so with a GPU alone
    torch.set_autocast_dtype("cuda", BRAIN)
    try:
        assert fake_forward_on_cuda(function, X) == run
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", HALF)


@needs_cuda
@pytest.mark.parametrize("dtype", [SINGLE, BRAIN])
@pytest.mark.parametrize("checkpointed", [None, False, True])
def test_a_real_step_on_cuda_runs_the_same_operators(dtype, checkpointed):
    metrics = ["bytes", "launches"]
    model, x = Model(checkpointed=checkpointed).to(dtype), torch.ones(2, 16, 8, dtype=dtype)
    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(backends):  # without cuDNN's, which newer devices prefer
        like = count_flops(model, x, like="cuda", metrics=metrics)
        model, x = model.cuda(), x.cuda()
        with FLOPsMeter(metrics=metrics) as meter:
            model(x).sum().backward()
            torch.optim.AdamW(model.parameters()).step()
    real = meter.measurement()
    assert real.operations == like.operations
    assert real.components == like.components
    for metric in metrics:
        assert real.metrics[metric].whole == like.metrics[metric].whole


@needs_cuda
@pytest.mark.parametrize("name", AUTOCASTS)
def test_a_model_on_the_gpu_counts_as_on_the_cpu(name):
    function, _ = AUTOCASTS[name]

    def autocast(x: Tensor) -> Tensor:
        with torch.autocast("cuda", BRAIN):
            return function(x)

    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(backends):
        cpu, gpu = (
            count_flops(Applied(autocast).to(device), X.to(device), like="cuda", metrics=["bytes"])
            for device in ("cpu", "cuda")
        )
    assert gpu == cpu


@needs_cuda
@pytest.mark.parametrize(("inputs", "options", "kernel"), CHOICES.values(), ids=CHOICES)
def test_a_real_attention_on_cuda_chooses_the_same_kernel(inputs, options, kernel):
    given = {name: x.cuda() if isinstance(x, Tensor) else x for name, x in options.items()}
    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(backends), Log() as log:
        F.scaled_dot_product_attention(*(x.cuda() for x in inputs), **given)
    assert [name for name in (FLASH, EFFICIENT, MATH) if name in log.names] == [kernel]


BUDGET = """\
version: 1
budgets:
  net:
    workload: {{model: 'builders:build', batch_size: 4, optimizer: none{like}}}
    limits: {{launches: {{forward: {launches}}}}}
"""
BUILDERS = """\
import torch
def build(batch_size):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.1))
    return model, torch.ones(batch_size, 8)
"""


@pytest.fixture
def net(project: Any) -> Any:
    project.ini("pythonpath = .")
    project.write("builders.py", BUILDERS)
    return project


def test_a_workload_is_counted_like_cuda_and_its_report_says_so(net):
    # The linear layer, the sum for a loss and the gradient that the backward begins with are 3;
    # dropout is 1 operator on CUDA, 3 on the CPU.
    net.budgets(BUDGET.format(like="", launches=6))
    assert net.run("budgets", "--flops-report=cpu").ret == 0
    net.budgets(BUDGET.format(like=", like: cuda", launches=3))
    net.fails("budgets", told=["*launches forward*4*"], failed=1)
    net.budgets(BUDGET.format(like=", like: cuda", launches=4))
    run = net.run("budgets", "--flops-report=reports", "--flops-compare=cpu/flops.json")
    run.stdout.fnmatch_lines(["*net (as on CUDA)*", "*the workload changed: like None -> cuda"])
    (entry,) = net.report()["entries"]
    assert entry["workload"]["like"] == "cuda"
    for page in ("flops.html", "flops.md"):
        text = (net.root / "reports" / page).read_text(encoding="utf-8")
        assert "as on CUDA" in text
        assert "as on CUDA" not in (net.root / "cpu" / page).read_text(encoding="utf-8")


def test_another_device_is_a_mistake_of_the_file(net):
    net.budgets(BUDGET.format(like=", like: cude", launches=4))
    net.refuses("budgets", told=["*net.workload.like: expected one of cuda, found 'cude'*"])


def test_real_values_run_on_their_own_device(net):
    net.budgets(BUDGET.format(like=", like: cuda, values: real", launches=4))
    net.fails("budgets", told=["*leave out values='real' or like='cuda'*"])
