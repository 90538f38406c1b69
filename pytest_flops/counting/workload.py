"""`Workload`: a model, its configuration and the step it takes; what a budget's count is of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.measurement import Rules

RESNET_BK = "resnet_bk"


@dataclass(frozen=True, slots=True)
class Workload:
    """What is counted: the model, its configuration, and one training step's inputs.

    Attributes:
        model: The name of a registered builder, or `"package.module:callable"`.
        config: Keyword arguments of the builder.
        batch_size: Sequences per step; `None` leaves it to the builder.
        seq_len: Tokens per sequence; `None` leaves it to the builder.
        optimizer: `"sgd"`, `"adam"`, `"adamw"` or `"none"`.
        rules: Counting rules; `None` is `"published"` for ResNet-BK and `"executed"` for the rest.
    """

    model: str
    config: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    seq_len: int | None = None
    optimizer: str = "adamw"
    rules: Rules | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return asdict(self)

    @property
    def counted_by(self) -> Rules:
        """The rules its counts follow, stated or by default."""
        return self.rules or ("published" if self.model == RESNET_BK else "executed")

    def at(self, dimension: str, size: int) -> Workload:
        """The same workload with one dimension set to `size`.

        `batch_size` and `seq_len` are the step's; any other name is a key of the configuration.
        ResNet-BK's position table is as long as its sequence, so `seq_len` moves `n_seq` too.
        """
        if dimension == "batch_size":
            return replace(self, batch_size=size)
        if dimension == "seq_len":
            config = {**self.config, "n_seq": size} if self.model == RESNET_BK else self.config
            return replace(self, seq_len=size, config=config)
        return replace(self, config={**self.config, dimension: size})
