"""Compute as a tested property of PyTorch models.

The public names below are imported when they are first used (PEP 562), so that importing this
package, which every pytest run of every user does, costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_flops.counting.count import FLOPsCount
    from pytest_flops.counting.meter.meter import FLOPsMeter, count_flops
    from pytest_flops.counting.meter.ranks import fake_ranks
    from pytest_flops.counting.metric import BYTE, CALL, ELEMENT, FLOP, Metric, Unit
    from pytest_flops.counting.metrics import Call, Counter
    from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter, compare_models
    from pytest_flops.resnet_bk.bk_core.operator import bk_core
    from pytest_flops.resnet_bk.config import BASELINE_CONFIG, PRESETS, ResNetBKConfig
    from pytest_flops.resnet_bk.model import ConfigurableResNetBK

__version__ = "0.1.0"

_HOMES = {
    "BASELINE_CONFIG": "pytest_flops.resnet_bk.config",
    "BYTE": "pytest_flops.counting.metric",
    "CALL": "pytest_flops.counting.metric",
    "Call": "pytest_flops.counting.metrics",
    "ConfigurableResNetBK": "pytest_flops.resnet_bk.model",
    "Counter": "pytest_flops.counting.metrics",
    "ELEMENT": "pytest_flops.counting.metric",
    "FLOP": "pytest_flops.counting.metric",
    "FLOPsCount": "pytest_flops.counting.count",
    "FLOPsCounter": "pytest_flops.resnet_bk.analytic.counter",
    "FLOPsMeter": "pytest_flops.counting.meter.meter",
    "Metric": "pytest_flops.counting.metric",
    "PRESETS": "pytest_flops.resnet_bk.config",
    "ResNetBKConfig": "pytest_flops.resnet_bk.config",
    "Unit": "pytest_flops.counting.metric",
    "bk_core": "pytest_flops.resnet_bk.bk_core.operator",
    "compare_models": "pytest_flops.resnet_bk.analytic.counter",
    "count_flops": "pytest_flops.counting.meter.meter",
    "fake_ranks": "pytest_flops.counting.meter.ranks",
}

__all__ = [
    "BASELINE_CONFIG",
    "BYTE",
    "CALL",
    "ELEMENT",
    "FLOP",
    "PRESETS",
    "Call",
    "ConfigurableResNetBK",
    "Counter",
    "FLOPsCount",
    "FLOPsCounter",
    "FLOPsMeter",
    "Metric",
    "ResNetBKConfig",
    "Unit",
    "bk_core",
    "compare_models",
    "count_flops",
    "fake_ranks",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
