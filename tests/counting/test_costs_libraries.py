"""Operators of other libraries: torchvision's, torchaudio's, communication between processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import _functional_collectives as functional
from torch.testing._internal.distributed.fake_pg import FakeStore

from pytest_flops.counting.costs import rule_of
from pytest_flops.counting.meter.meter import FLOPsMeter

# The schemas of torchvision 0.28, which need not be installed, nor fit this PyTorch.
_POOL = "float spatial_scale, int pooled_height, int pooled_width"
_SIZES = "int batch_size, int channels, int height, int width"
_ALIGNED = f"{_POOL}, {_SIZES}, int sampling_ratio, bool aligned"
_SENSITIVE = f"Tensor channel_mapping, {_POOL}, int sampling_ratio, {_SIZES}"
_MEAN = f"Tensor channel_mapping, {_POOL}, {_SIZES}"
_DEFORM = (
    "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, int stride_h, "
    "int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, int groups, "
    "int offset_groups, bool use_mask"
)
_PAIR, _FIVE = "(Tensor, Tensor)", "(Tensor, Tensor, Tensor, Tensor, Tensor)"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align(Tensor input, Tensor rois, {_POOL}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward(Tensor grad, Tensor rois, {_ALIGNED}) -> Tensor",
    f"roi_pool(Tensor input, Tensor rois, {_POOL}) -> {_PAIR}",
    f"_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, {_POOL}, {_SIZES}) -> Tensor",
    f"ps_roi_align(Tensor input, Tensor rois, {_POOL}, int sampling_ratio) -> {_PAIR}",
    f"_ps_roi_align_backward(Tensor grad, Tensor rois, {_SENSITIVE}) -> Tensor",
    f"ps_roi_pool(Tensor input, Tensor rois, {_POOL}) -> {_PAIR}",
    f"_ps_roi_pool_backward(Tensor grad, Tensor rois, {_MEAN}) -> Tensor",
    f"deform_conv2d({_DEFORM}) -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, {_DEFORM}) -> {_FIVE}",
)


@contextmanager
def operators_of(name: str, schemas: Sequence[str]) -> Iterator[torch.library.Library]:
    """While active, the operators of a library are there: its own, or of these schemas."""
    library = torch.library.Library(name, "FRAGMENT")
    if not hasattr(getattr(torch.ops, name), schemas[0].partition("(")[0]):
        for schema in schemas:
            library.define(schema)
    yield library
    library._destroy()


@pytest.fixture(scope="module")
def vision() -> Iterator[object]:
    with operators_of("torchvision", SCHEMAS) as library:
        if "torchvision" not in sys.modules:
            library.impl("nms", lambda dets, _scores, _threshold: torch.arange(len(dets)), "CPU")
        yield torch.ops.torchvision


# Two images of 4 channels of 8x8. One region of 4x6 pixels, and one of 2x2, at half the scale.
IMAGES = torch.ones(2, 4, 8, 8)
REGIONS = torch.tensor([[0.0, 0.0, 0.0, 12.0, 8.0], [1.0, 4.0, 4.0, 8.0, 8.0]])
POOLED = torch.ones(2, 4, 2, 3)  # each in bins of 2x3: 48 elements
SCORES = torch.ones(2, 1, 2, 3)  # of channels that stand for a position each
MAPPING = torch.zeros(2, 1, 2, 3, dtype=torch.int64)
SIZE = (2, 4, 8, 8)
# Samples of both regions without a ratio, in each bin and channel: of 4x6 pixels in 2x3 bins, and
# of 2x2 pixels, where a bin has one at least.
SAMPLES = 2 * 2 + 1 * 1
VISION = {
    # areas 3; of 10 pairs: corners 4, sides 4, their product, both areas less it 2, the quotient
    "nms": ((torch.ones(5, 4), torch.ones(5), 0.5), torch.ones(1), 3 * 5 + 12 * 10),
    # 2x2 samples of 9, each summed; a mean
    "roi_align": ((IMAGES, REGIONS, 0.5, 2, 3, 2, True), POOLED, 48 * 4 * (9 + 1) + 48),
    "roi_align without a ratio": (
        (IMAGES, REGIONS, 0.5, 2, 3, -1, True),
        POOLED,
        4 * 6 * SAMPLES * (9 + 1) + 48,
    ),
    # the gradient divided, and spread as it was interpolated
    "_roi_align_backward": ((POOLED, REGIONS, 0.5, 2, 3, *SIZE, 2, True), IMAGES, 48 * 4 * 9 + 48),
    "ps_roi_align": ((IMAGES, REGIONS, 0.5, 2, 3, 2), (SCORES, MAPPING), 12 * 4 * (9 + 1) + 12),
    "_ps_roi_align_backward": (
        (SCORES, REGIONS, MAPPING, 0.5, 2, 3, 2, *SIZE),
        IMAGES,
        12 * 4 * 9 + 12,
    ),
    # The first region begins at pixel 0 and ends at 4 and 6: 5 rows in 2 bins, 0 to 3 and 2 to 5; 7
    # columns in 3 bins, 0 to 3, 2 to 5 and 4 to 7. The second has 3 of each: bins of 0 to 2 and 1
    # to 3; three of one.
    "roi_pool": (
        (IMAGES, REGIONS, 0.5, 2, 3),
        (POOLED, POOLED),
        4 * ((3 + 3) * (3 + 3 + 3) + (2 + 2) * (1 + 1 + 1)),
    ),
    "_roi_pool_backward": ((POOLED, REGIONS, POOLED, 0.5, 2, 3, *SIZE), IMAGES, 48),
    # 4.5 rows in bins of 2.25 are 0 to 3 and 2 to 5; 6.5 columns in bins of 2.17 are 0 to 3, 2 to 5
    # and 4 to 7. The second begins at 2, and has 2.5: bins of 1.25 are 2 to 4 and 3 to 5, of 0.83
    # they are 2 to 3, 2 to 4 and 3 to 5.
    "ps_roi_pool": (
        (IMAGES, REGIONS, 0.5, 2, 3),
        (SCORES, MAPPING),
        (3 + 3) * (3 + 3 + 3) + (2 + 2) * (1 + 2 + 2),
    ),
    "_ps_roi_pool_backward": (
        (SCORES, REGIONS, MAPPING, 0.5, 2, 3, *SIZE),
        IMAGES,
        (3 + 3) * (3 + 3 + 3) + (2 + 2) * (1 + 2 + 2),
    ),
}


@pytest.mark.parametrize("name", VISION)
def test_an_operator_of_torchvision_costs_its_parts(vision, name):
    args, out, expected = VISION[name]
    rule = rule_of(getattr(vision, name.partition(" ")[0]).default)
    assert rule.cost(args, {}, out) == expected


def test_an_operator_of_torchvision_is_counted_where_it_runs(vision):
    with FLOPsMeter() as meter:
        vision.nms(torch.eye(5, 4), torch.ones(5), 0.5)
    assert not meter.uncounted
    assert meter.operations["torchvision.nms"].forward == 3 * 5 + 12 * 10


@pytest.mark.parametrize(("name", "ratio"), [("roi_align", (-1, True)), ("roi_pool", ())])
def test_what_only_the_values_of_regions_tell_has_no_cost_without_them(vision, name, ratio):
    regions = REGIONS.to("meta")
    rule = rule_of(getattr(vision, name).default)
    assert rule.cost((IMAGES, regions, 0.5, 2, 3, *ratio), {}, (POOLED, POOLED)) is None


# 6 filters of 4 channels and 3x3 taps, at 6x6 positions of two images
FILTERS, OFFSET, MASK = torch.ones(6, 4, 3, 3), torch.ones(2, 18, 6, 6), torch.ones(2, 9, 6, 6)
DEFORMED = torch.ones(2, 6, 6, 6)
PRODUCT = 2 * (2 * 36) * (6 * 36)
VALUES = 2 * 4 * 9 * 36  # that are interpolated
GEOMETRY = (1, 1, 0, 0, 1, 1, 1, 1)


def deformed(*wanted: str, use_mask: bool) -> tuple[object, ...]:
    """The arguments of a deformable convolution, of which some require a gradient."""
    given = {
        "input": IMAGES,
        "weight": FILTERS,
        "offset": OFFSET,
        "mask": MASK,
        "bias": torch.ones(6),
    }
    tensors = (each.clone().requires_grad_(name in wanted) for name, each in given.items())
    return (*tensors, *GEOMETRY, use_mask)


@pytest.mark.parametrize("use_mask", [True, False])
def test_a_deformable_convolution_costs_its_product_and_its_samples(vision, use_mask):
    rule = rule_of(vision.deform_conv2d.default)
    args = deformed(use_mask=use_mask)
    # every value interpolated, and times the mask; a sum for both coordinates of every tap
    expected = PRODUCT + VALUES * (9 + use_mask) + 2 * 18 * 36
    assert rule.cost(args, {}, DEFORMED) == expected
    assert rule.side_cost(args, {}, DEFORMED) == 2 * 6 * 36


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        # the values interpolated again and masked, and the product
        (("weight",), PRODUCT + VALUES * 10),
        # the product, and every value's gradient spread as it was made
        (("input",), PRODUCT + VALUES * 10),
        # two slopes of a value: two differences, an interpolation, its gradient, summed; masked
        (("offset",), PRODUCT + VALUES * (2 * (2 + 3 + 1 + 1) + 1)),
        # the value again, times its gradient, summed
        (("mask",), PRODUCT + VALUES * (9 + 2)),
        (
            ("input", "weight", "offset", "mask", "bias"),
            2 * PRODUCT + VALUES * (10 + 10 + 15 + 11),
        ),
    ],
)
def test_a_deformable_convolution_costs_the_gradients_that_are_wanted(vision, wanted, expected):
    rule = rule_of(vision._deform_conv2d_backward.default)
    args = (DEFORMED, *deformed(*wanted, use_mask=True))
    assert rule.cost(args, {}, None) == expected
    assert rule.side_cost(args, {}, None) == ("bias" in wanted) * 2 * 6 * 36


# The schemas of torchaudio 2.11, which need not be installed.
_LOOPS = "Tensor(a!) last_in, Tensor(b!) last_out, Tensor(c!) output_waveform"
_WRITTEN = "(Tensor(a!), Tensor(b!), Tensor(c!))"
_LOSS = (
    "Tensor targets, Tensor logit_lengths, Tensor target_lengths, int blank, float clamp, "
    "bool fused_log_softmax"
)
_ALIGNED_TO = "Tensor targets, Tensor input_lengths, Tensor target_lengths, int blank"
_FILTER = "Tensor a_coeff_flipped, Tensor(a!) padded_output_waveform"
AUDIO_SCHEMAS = (
    f"_lfilter_core_loop(Tensor input_signal_windows, {_FILTER}) -> Tensor(a!)",
    f"_overdrive_core_loop(Tensor waveform, Tensor temp, {_LOOPS}) -> {_WRITTEN}",
    f"rnnt_loss_forward(Tensor logits, {_LOSS}) -> {_PAIR}",
    f"forced_align(Tensor log_probs, {_ALIGNED_TO}) -> {_PAIR}",
)


@pytest.fixture(scope="module")
def audio() -> Iterator[object]:
    with suppress(ImportError, OSError):  # it may be built for another PyTorch
        import_module("torchaudio")
    with operators_of("torchaudio", AUDIO_SCHEMAS):
        yield torch.ops.torchaudio


# Two sounds of 3 channels and 100 samples; two of 6 and 5 steps, of 3 and 2 targets in 10 classes.
SOUND, LOGITS = torch.ones(2, 3, 100), torch.ones(2, 6, 4, 10)
LENGTHS = (torch.tensor([6, 5]), torch.tensor([3, 2]))
STATES = 6 * 4 + 5 * 3
TARGETS = torch.ones(2, 3, dtype=torch.int64)
AUDIO = {
    # of 4 coefficients the first is of the sample itself
    "_lfilter_core_loop": ((SOUND, torch.ones(3, 4), SOUND), 600 * 2 * 3),
    # the difference to the last, 0.995 of the last result, their sum; two products and their sum
    "_overdrive_core_loop": ((SOUND[0],) * 5, 300 * 6),
    # From both ends, two log-probabilities and their log-sum: 2 and 8. The gradient of a class is
    # an exponential of four terms, and twice another one is taken away.
    "rnnt_loss_forward": (
        (LOGITS, TARGETS, *LENGTHS, 0, -1.0, False),
        STATES * (2 * (2 + 8) + 4 * 10 + 2 * 5),
    ),
    "rnnt_loss_forward of logits": (
        (LOGITS, TARGETS, *LENGTHS, 0, -1.0, True),
        STATES * (2 * (2 + 8) + 4 * 10 + 2 * 5 + 5 * 10),
    ),
    # 3 targets, and a blank before, between and after them: a sum each in every step
    "forced_align": ((torch.ones(1, 8, 5), TARGETS[:1], *LENGTHS, 0), 8 * 7),
}


@pytest.mark.parametrize("name", AUDIO)
def test_an_operator_of_torchaudio_costs_its_parts(audio, name):
    args, expected = AUDIO[name]
    rule = rule_of(getattr(audio, name.partition(" ")[0]).default)
    assert rule.cost(args, {}, None) == expected


def test_how_many_states_a_transducer_has_only_lengths_tell(audio):
    lengths = (length.to("meta") for length in LENGTHS)
    args = (LOGITS, TARGETS, *lengths, 0, -1.0, True)
    assert rule_of(audio.rnnt_loss_forward.default).cost(args, {}, None) is None


@pytest.mark.usefixtures("audio")
def test_filters_and_losses_of_torchaudio_are_counted_where_they_run():
    functional = sys.modules.get("torchaudio.functional")
    if functional is None:
        pytest.skip("torchaudio is not installed, or for another PyTorch")
    # its lengths are 32-bit integers
    targets, lengths = TARGETS.int(), [length.int() for length in LENGTHS]
    with FLOPsMeter() as meter:
        functional.lfilter(torch.rand(2, 100), torch.tensor([1.0, 0.2]), torch.tensor([0.1, 0.2]))
        functional.overdrive(torch.rand(2, 100))
        functional.rnnt_loss(LOGITS.clone().requires_grad_(), targets, *lengths).backward()
        functional.forced_align(torch.randn(1, 8, 5).log_softmax(-1), targets[:1])
    assert not meter.uncounted
    found = {name: flops.total for name, flops in meter.operations.items() if "audio" in name}
    assert found == {
        "torchaudio._lfilter_core_loop": 200 * 2 * 1,
        "torchaudio._overdrive_core_loop": 200 * 6,
        "torchaudio.rnnt_loss_forward": STATES * (20 + 40 + 10 + 50),
        "torchaudio.forced_align": 8 * 7,
    }


def test_rules_of_a_library_are_loaded_with_its_first_operator():
    code = (
        "import sys, torch\n"
        "from pytest_flops import FLOPsMeter\n"
        "with FLOPsMeter():\n"
        "    torch.ones(2, 2) @ torch.ones(2, 2)\n"
        "assert not [name for name in sys.modules if '.costs.libraries' in name]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@contextmanager
def processes(count: int) -> Iterator[None]:
    """As the first of several processes, of which the others do not exist."""
    if dist.is_initialized():  # another test has left a group behind
        dist.destroy_process_group()
    dist.init_process_group("fake", rank=0, world_size=count, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def pieces(count: int, *shape: int) -> list[Tensor]:
    return [torch.ones(shape) for _ in range(count)]


COLLECTIVES = {
    "all_reduce": (lambda: dist.all_reduce(torch.ones(3, 4)), 12),
    "all_reduce of integers": (lambda: dist.all_reduce(torch.ones(3, dtype=torch.int64)), 0),
    "all_reduce of complex": (lambda: dist.all_reduce(torch.ones(3, dtype=torch.complex64)), 6),
    "reduce": (lambda: dist.reduce(torch.ones(3, 4), 0), 12),
    "reduce_scatter": (lambda: dist.reduce_scatter(torch.ones(3), pieces(4, 3)), 4 * 3),
    "reduce_scatter_tensor": (
        lambda: dist.reduce_scatter_tensor(torch.ones(3), torch.ones(12)),
        12,
    ),
    "functional all_reduce": (
        lambda: functional.wait_tensor(functional.all_reduce(torch.ones(3, 4), "sum", "0")),
        12,
    ),
    "functional reduce_scatter": (
        lambda: functional.reduce_scatter_tensor(torch.ones(12), "sum", 0, "0").clone(),
        12,
    ),
    "broadcast": (lambda: dist.broadcast(torch.ones(3, 4), 0), 0),
    "all_gather": (lambda: dist.all_gather(pieces(4, 3), torch.ones(3)), 0),
    "all_gather_into_tensor": (
        lambda: dist.all_gather_into_tensor(torch.ones(12), torch.ones(3)),
        0,
    ),
    "all_to_all": (lambda: dist.all_to_all_single(torch.ones(4), torch.ones(4)), 0),
    "functional all_gather": (
        lambda: functional.all_gather_tensor(torch.ones(3), 0, "0").clone(),
        0,
    ),
    "barrier": (dist.barrier, 0),
}


@pytest.mark.filterwarnings("ignore:.*is deprecated. Please use:FutureWarning")
@pytest.mark.parametrize(("run", "expected"), COLLECTIVES.values(), ids=COLLECTIVES)
def test_communication_costs_what_it_reduces(run, expected):
    with processes(4), FLOPsMeter() as meter:
        run()
    assert not meter.uncounted
    assert meter.count.forward == expected


def test_fully_sharded_data_parallel_costs_its_model_and_what_it_reduces():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with processes(4):
        model = nn.Linear(8, 8)
        fully_shard(model, mesh=init_device_mesh("cpu", (4,)))
        with FLOPsMeter() as meter:
            model(torch.ones(4, 8)).sum().backward()
    assert not meter.uncounted
    assert meter.count.forward == 2 * 4 * 64 + 32 + 32  # product, bias, the sum
    reduced = meter.operations["c10d._reduce_scatter_base_"].backward
    assert reduced == 64 + 8  # the gradients of weight and bias
