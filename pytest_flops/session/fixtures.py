"""The fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.counting.measurement import Rules
    from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
    from pytest_flops.resnet_bk.bk_core.operator import BKCoreOnDevice
    from pytest_flops.resnet_bk.config import ResNetBKConfig
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
    from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
    from pytest_flops.resnet_bk.config import ResNetBKConfig

    def make(
        model: ConfigurableResNetBK | ResNetBKConfig | None = None,
        *,
        batch_size: int | None = None,
        seq_len: int | None = None,
        rules: Rules | None = None,
    ) -> FLOPsCounter:
        budget = _flops_recorder.budget
        base = budget.workload if budget else None
        counted = model or _config_of(budget)
        config = counted if isinstance(counted, ResNetBKConfig) else counted.config
        return FLOPsCounter(
            counted,
            batch_size or (base and base.batch_size) or 1,
            seq_len or (base and base.seq_len) or config.n_seq,
            rules or (base and base.rules) or "published",
        )

    return make


@pytest.fixture
def resnet_bk(_flops_recorder: Recorder) -> Callable[..., ConfigurableResNetBK]:
    """A factory of ResNet-BK models.

    `resnet_bk()` follows the budget's workload (the baseline without one), `resnet_bk("d128-l8")`
    a preset, `resnet_bk(config)` a configuration; keywords replace fields. Models are on the meta
    device unless `device=` says otherwise: they have shapes and no weights.
    """
    import torch

    from pytest_flops.resnet_bk.model import ConfigurableResNetBK

    def make(
        config: ResNetBKConfig | str | None = None, *, device: str = "meta", **fields: Any
    ) -> ConfigurableResNetBK:
        with torch.device(device):
            return ConfigurableResNetBK(_config_of(_flops_recorder.budget, config, **fields))

    return make


@pytest.fixture(params=["cpu", "cuda"])
def bk_core(request: pytest.FixtureRequest) -> BKCoreOnDevice:
    """The BK-Core operator on each device: the CPU always, CUDA where there is a GPU."""
    import torch

    from pytest_flops.resnet_bk.bk_core.operator import BKCoreOnDevice

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device: torch.cuda.is_available() is false")
    return BKCoreOnDevice(request.param)


def _config_of(
    budget: Budget | None, config: ResNetBKConfig | str | None = None, **fields: Any
) -> ResNetBKConfig:
    from pytest_flops.budgets.errors import BudgetError
    from pytest_flops.resnet_bk.builder import NAME
    from pytest_flops.resnet_bk.config import PRESETS, ResNetBKConfig

    if isinstance(config, str):
        if config not in PRESETS:
            raise BudgetError(f"no preset {config!r}; presets: {', '.join(PRESETS)}")
        config = PRESETS[config]
    base: Mapping[str, Any] = {}
    if config is not None:
        base = config.to_dict()
    elif budget and budget.workload and budget.workload.model == NAME:
        base = budget.workload.config
    return ResNetBKConfig.from_dict({**base, **fields})
