"""`Workload`: a model, its configuration and the step it takes; what a budget's count is of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.counting.measurement import Rules


@dataclass(frozen=True, slots=True)
class Workload:
    """What is counted: the model, its configuration, and one training step's inputs."""

    model: str  # the name of a registered builder, or "package.module:callable"
    config: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of the builder
    batch_size: int | None = None  # sequences per step; None leaves it to the builder
    seq_len: int | None = None  # tokens per sequence; None leaves it to the builder
    optimizer: str | Mapping[str, Any] = "adamw"  # of torch.optim or "none"; a mapping has keywords
    training: bool = True  # else the forward alone, in evaluation mode
    step: bool = False  # whether `model` names a function that makes a whole step, counted as it is
    rules: Rules | None = None  # counting rules; None is the `default_rules` of the builder
    values: Literal["fake", "real"] = "fake"  # whether the step runs, for code that asks for values
    like: Literal["cuda"] | None = None  # the device whose operators fakes run; None is their own
    mesh: Mapping[str, int] = field(default_factory=dict)  # ranks by dimension; none: one process
    parallelize: str | None = None  # "package.module:function", (model, mesh) -> parallel model
    rank: int = 0  # of the mesh, which the count is of
    compile: bool | Mapping[str, Any] = False  # for the compiler's metrics; keywords of it

    @property
    def inputs(self) -> dict[str, int]:
        """How many of what a step is given, as far as the workload says: samples, tokens."""
        if not self.batch_size:
            return {}
        tokens = {"token": self.batch_size * self.seq_len} if self.seq_len else {}
        return {"sample": self.batch_size, **tokens}

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return asdict(self)

    def at(self, dimension: str, size: int) -> Workload:
        """The same workload with one dimension set to `size`.

        `batch_size` and `seq_len` are the step's, and a name of the mesh is the mesh's; any other
        is a key of the configuration.
        """
        if dimension == "batch_size":
            return replace(self, batch_size=size)
        if dimension == "seq_len":
            return replace(self, seq_len=size)
        if dimension in self.mesh:
            return replace(self, mesh={**self.mesh, dimension: size})
        return replace(self, config={**self.config, dimension: size})
