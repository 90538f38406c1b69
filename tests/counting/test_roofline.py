"""The roofline: the larger of computing and moving for every call, by hand on round devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils.checkpoint import checkpoint

from pytest_flops import FLOPsMeter
from pytest_flops.counting.roofline.device import Device, DeviceError, device, known_devices
from pytest_flops.counting.roofline.roofline import FasterThanTheBoundError, Roofline, roofline

T = 1e12
ROUND = Device(
    "round", "made up", bandwidth=T, peaks={"float32": T, "tf32": 2 * T, "bfloat16": 4 * T}
)
"""A byte takes 1 ps, and so does a FLOP in float32."""

# (8, 16) @ (16, 32), in float32.
FLOPS = 2 * 8 * 16 * 32  # 8,192
BYTES = 4 * (8 * 16 + 16 * 32 + 8 * 32)  # 3,584


def found(run: Callable[[], Any], at: Device = ROUND, **asked: bool) -> Roofline:
    with FLOPsMeter(metrics=["roofline"]) as meter:
        run()
    return roofline(meter.measurement(), at, **asked)


def picoseconds(run: Callable[[], Any], at: Device = ROUND, **asked: bool) -> float:
    return found(run, at, **asked).whole.seconds * 1e12


def product(dtype: torch.dtype = torch.float32) -> Callable[[], torch.Tensor]:
    a, b = torch.ones(8, 16, dtype=dtype), torch.ones(16, 32, dtype=dtype)
    return lambda: a @ b


@pytest.fixture
def _high_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_a_product_takes_its_flops_at_the_peak() -> None:
    whole = found(product()).whole
    assert (whole.flops, whole.moved) == (FLOPS, BYTES)
    assert whole.seconds * 1e12 == pytest.approx(8192)
    assert whole.intensity == pytest.approx(8192 / 3584)
    assert whole.compute_share == 1


def test_a_pointwise_call_takes_its_bytes_at_the_bandwidth() -> None:
    x = torch.ones(64)
    whole = found(lambda: x + x).whole  # reads x once, writes as much
    assert (whole.flops, whole.moved, whole.compute_share) == (64, 2 * 4 * 64, 0)
    assert whole.seconds * 1e12 == pytest.approx(512)


def test_what_is_no_product_is_computed_at_the_peak_of_float32() -> None:
    slow = Device("slow", "made up", bandwidth=1e18, peaks={"float32": T, "bfloat16": 1e18})
    x = torch.ones(64, dtype=torch.bfloat16)
    assert picoseconds(lambda: x + x, slow) == pytest.approx(64)


def test_the_bound_is_the_sum_over_calls_of_the_larger_of_both() -> None:
    x = torch.ones(64)
    run = product()
    whole = found(lambda: (run(), run(), x + x)).whole
    # Not the larger of the sums, which would be 2 x 8,192 + 64 against 2 x 3,584 + 512.
    assert whole.seconds * 1e12 == pytest.approx(2 * 8192 + 512)
    assert whole.compute_share == pytest.approx(2 * 8192 / (2 * 8192 + 512))


def test_a_product_runs_at_the_peak_of_its_operands_type() -> None:
    # 8,192 / 4 are 2,048 ps; half the bytes are 1,792 ps.
    half = found(product(torch.bfloat16))
    assert half.whole.seconds * 1e12 == pytest.approx(2048)
    assert half.products == {"bfloat16": FLOPS}


@pytest.mark.usefixtures("_high_precision")
def test_tf32_is_used_where_the_settings_of_pytorch_allow_it() -> None:
    assert picoseconds(product()) == pytest.approx(4096)


def test_tf32_is_used_where_it_is_asked_for_and_the_device_has_it() -> None:
    assert picoseconds(product()) == pytest.approx(8192)
    assert picoseconds(product(), tf32=True) == pytest.approx(4096)
    without = Device("old", "made up", bandwidth=T, peaks={"float32": T})
    old = found(product(), without, tf32=True)
    assert old.whole.seconds * 1e12 == pytest.approx(8192)
    assert old.products == {"float32": FLOPS}


def test_convolutions_use_tf32_as_cudnn_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    # 3 x 3 windows of 2 channels, at 8 x 8 places and for 4 channels.
    x, weight = torch.ones(1, 2, 10, 10), torch.ones(4, 2, 3, 3)
    flops = 2 * (2 * 3 * 3) * (8 * 8 * 4)
    run = lambda: F.conv2d(x, weight)  # noqa: E731
    for allowed, kind in ((True, "tf32"), (False, "float32")):
        with torch.backends.cudnn.flags(allow_tf32=allowed):
            assert found(run).products == {kind: flops}


@pytest.mark.parametrize(("causal", "share"), [(False, 1.0), (True, 0.5)])
def test_fused_causal_attention_may_skip_half(*, causal: bool, share: float) -> None:
    q = torch.ones(1, 1, 64, 32)
    fast = Device("fast", "made up", bandwidth=1e18, peaks={"float32": T})
    attention = found(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=causal), fast)
    flops = 2 * (2 * 64 * 64 * 32)  # two products
    assert attention.products == {"float32": flops}
    assert attention.whole.seconds * 1e12 == pytest.approx(share * flops)


def test_components_and_phases_hold_their_own_calls() -> None:
    layer = torch.nn.Linear(16, 32, bias=False)
    model = torch.nn.Sequential(layer)
    x = torch.ones(8, 16)
    step = found(lambda: model(x).sum().backward())
    # Forward the product; backward that of the weight's gradient, which is written once more.
    assert step.phases["optimizer"].seconds == 0
    assert step.components["0"].flops == 2 * FLOPS
    assert step.components["0"].seconds * 1e12 == pytest.approx(2 * 8192)
    parts = sum(bound.seconds for bound in step.phases.values())
    assert parts == pytest.approx(step.whole.seconds)
    outside = step.components["(outside modules)"].seconds
    assert outside + step.components["0"].seconds == pytest.approx(step.whole.seconds)


def test_what_a_checkpoint_computes_again_takes_time_and_is_no_model_flop() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(16, 32, bias=False), torch.nn.ReLU())
    x = torch.ones(8, 16, requires_grad=True)
    plain = found(lambda: layer(x).sum().backward())
    again = found(lambda: checkpoint(layer, x, use_reentrant=False).sum().backward())
    assert again.products == plain.products == {"float32": 3 * FLOPS}
    assert again.whole.flops > plain.whole.flops
    assert again.phases["backward"].seconds > plain.phases["backward"].seconds


def test_the_mfu_is_of_products_and_of_the_peak_that_most_run_at() -> None:
    single, half = product(), product(torch.bfloat16)
    step = found(lambda: (single(), half(), half()))
    seconds = 30_000e-12
    assert step.mfu(seconds) == pytest.approx(3 * FLOPS / seconds / (4 * T))
    with pytest.raises(FasterThanTheBoundError, match="is not this one's"):
        step.mfu(step.whole.seconds / 2)


def test_a_type_without_a_peak_is_refused() -> None:
    with pytest.raises(DeviceError, match="multiplies float64, for which round has no peak"):
        found(product(torch.float64))


def test_fakes_and_the_meta_device_are_bound_as_real_values_are() -> None:
    with torch.device("meta"):
        on_meta = product()
    assert picoseconds(on_meta) == picoseconds(product())


@pytest.mark.parametrize("name", known_devices())
def test_every_device_names_its_datasheet_and_computes_faster_in_smaller_types(name: str) -> None:
    known = device(name)
    assert known.source
    ladder = ("float32", "tf32", "bfloat16", "float8")
    peaks = [known.peaks[kind] for kind in ladder if kind in known.peaks]
    assert peaks == sorted(set(peaks))
    assert known.peaks.get("bfloat16") == known.peaks.get("float16")
    assert 1e11 < known.bandwidth < 1e13


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("a100-80", "NVIDIA A100"), ("h100-sxm", "NVIDIA H100"), ("mi300x", "AMD MI300X")],
)
def test_devices_agree_with_the_table_of_pytorchs_compiler(name: str, theirs: str) -> None:
    table = pytest.importorskip("torch._inductor.analysis.device_info")
    known, info = device(name), table.lookup_device_info(theirs)
    assert known.bandwidth == info.dram_bw_gbs * 1e9
    # Before torch 2.13 the table lists the H100's peaks with sparsity, and the A100's TF32 for it.
    is_old = theirs == "NVIDIA H100" and not hasattr(info, "tops_sparsity_factor")
    sparsity = 2 if is_old else getattr(info, "tops_sparsity_factor", 1)
    kinds = {"bfloat16": torch.bfloat16} | ({} if is_old else {"tf32": "torch.tf32"})
    for kind, dtype in kinds.items():
        assert known.peaks[kind] == pytest.approx(info.tops[dtype] / sparsity * 1e12, rel=0.002)
