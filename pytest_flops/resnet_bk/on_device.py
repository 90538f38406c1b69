"""`BKCoreOnDevice`: the BK-Core operator bound to a device, for tests over all devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_flops.resnet_bk.bk_core.operator import bk_core

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BKCoreOnDevice:
    """BK-Core on one device; tensors given to it are moved there first."""

    device: str

    def __call__(
        self,
        he_diag: Tensor,
        h0_super: Tensor,
        h0_sub: Tensor,
        z: complex | Tensor,
        **options: Any,
    ) -> Tensor:
        """As `pytest_flops.bk_core`."""
        device = self.device
        return bk_core(he_diag.to(device), h0_super.to(device), h0_sub.to(device), z, **options)
