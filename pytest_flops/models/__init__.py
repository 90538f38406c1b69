"""ResNet-BK, the reference model: configuration, BK-Core, mixture of experts, the model.

The names below are imported when they are first used (PEP 562): importing this package imports
no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_flops.models.bk_operator import bk_core
    from pytest_flops.models.config import BASELINE_CONFIG, PRESETS, ResNetBKConfig
    from pytest_flops.models.resnet_bk import ConfigurableResNetBK

_HOMES = {
    "BASELINE_CONFIG": "pytest_flops.models.config",
    "ConfigurableResNetBK": "pytest_flops.models.resnet_bk",
    "PRESETS": "pytest_flops.models.config",
    "ResNetBKConfig": "pytest_flops.models.config",
    "bk_core": "pytest_flops.models.bk_operator",
}

__all__ = ["BASELINE_CONFIG", "PRESETS", "ConfigurableResNetBK", "ResNetBKConfig", "bk_core"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
