"""Compute as a tested property of PyTorch models.

The public names below are imported when they are first used (PEP 562), so that importing this
package, which every pytest run of every user does, costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_flops.counting.count import FLOPsCount
    from pytest_flops.counting.counter import FLOPsCounter, compare_models
    from pytest_flops.counting.meter import FLOPsMeter, count_flops
    from pytest_flops.models.bk_operator import bk_core
    from pytest_flops.models.config import BASELINE_CONFIG, PRESETS, ResNetBKConfig
    from pytest_flops.models.resnet_bk import ConfigurableResNetBK

__version__ = "0.1.0"

_HOMES = {
    "BASELINE_CONFIG": "pytest_flops.models.config",
    "ConfigurableResNetBK": "pytest_flops.models.resnet_bk",
    "FLOPsCount": "pytest_flops.counting.count",
    "FLOPsCounter": "pytest_flops.counting.counter",
    "FLOPsMeter": "pytest_flops.counting.meter",
    "PRESETS": "pytest_flops.models.config",
    "ResNetBKConfig": "pytest_flops.models.config",
    "bk_core": "pytest_flops.models.bk_operator",
    "compare_models": "pytest_flops.counting.counter",
    "count_flops": "pytest_flops.counting.meter",
}

__all__ = [
    "BASELINE_CONFIG",
    "PRESETS",
    "ConfigurableResNetBK",
    "FLOPsCount",
    "FLOPsCounter",
    "FLOPsMeter",
    "ResNetBKConfig",
    "bk_core",
    "compare_models",
    "count_flops",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
