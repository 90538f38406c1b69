"""The fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.distributed.device_mesh import DeviceMesh

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
    from pytest_flops.resnet_bk.bk_core.operator import BKCoreOnDevice
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK
    from pytest_flops.session.recorder import Recorder


@pytest.fixture
def _flops_recorder(request: pytest.FixtureRequest) -> Recorder:
    from pytest_flops.session.hooks import RECORDER, hooks_of
    from pytest_flops.session.recorder import Recorder

    node = request.node
    if RECORDER not in node.stash:
        session = hooks_of(request.config).session
        node.stash[RECORDER] = Recorder(session, node.nodeid, budget=None)
    recorder: Recorder = node.stash[RECORDER]
    return recorder


@pytest.fixture
def flops(_flops_recorder: Recorder) -> Recorder:
    """The recorder of this test: `check(x)`, `measure()`, `scaling(builder, ...)`.

    A marked test that asks for it counts by itself; any other marked test is metered whole.
    """
    return _flops_recorder


@pytest.fixture
def fake_ranks() -> Iterator[Callable[..., DeviceMesh]]:
    """Makes this process one rank of many: `fake_ranks(dp_shard=8, tp=8)` returns their mesh.

    A second call puts another mesh in the place of the first; none outlives the test.
    """
    from pytest_flops.counting.meter.ranks import one_mesh_after_another

    yield from one_mesh_after_another()


@pytest.fixture
def flops_budget(_flops_recorder: Recorder) -> Budget:
    """The budget this test is held to, its markers merged."""
    if _flops_recorder.budget is None:
        pytest.fail(
            "flops_budget needs a test marked @pytest.mark.flops_budget(...)", pytrace=False
        )
    return _flops_recorder.budget


@pytest.fixture
def flops_counter(_flops_recorder: Recorder) -> Callable[..., FLOPsCounter]:
    """A factory of `FLOPsCounter`; what is not given comes from the budget's workload."""
    from pytest_flops.resnet_bk.factories import counter_factory

    budget = _flops_recorder.budget
    return counter_factory(budget.workload if budget else None)


@pytest.fixture
def resnet_bk(_flops_recorder: Recorder) -> Callable[..., ConfigurableResNetBK]:
    """A factory of ResNet-BK models.

    `resnet_bk()` follows the budget's workload (the baseline without one), `resnet_bk("d128-l8")`
    a preset, `resnet_bk(config)` a configuration; keywords replace fields. Models are on the meta
    device unless `device=` says otherwise: they have shapes and no weights.
    """
    from pytest_flops.resnet_bk.factories import model_factory

    budget = _flops_recorder.budget
    return model_factory(budget.workload if budget else None)


@pytest.fixture(params=["cpu", "cuda"])
def bk_core(request: pytest.FixtureRequest) -> BKCoreOnDevice:
    """The BK-Core operator on each device: the CPU always, CUDA where there is a GPU."""
    import torch

    from pytest_flops.resnet_bk.bk_core.operator import BKCoreOnDevice

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device: torch.cuda.is_available() is false")
    return BKCoreOnDevice(request.param)
