"""`ResNetBKConfig`: every size and switch of a ResNet-BK, validated; imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pytest_flops.counting.spelling import suggestion

Gradient = Literal["exact", "diagonal", "hybrid"]

_AT_LEAST_ONE = ("vocab_size", "d_model", "n_layers", "n_seq", "num_experts", "top_k")
_POSITIVE = ("v_max", "feature_clamp")
_FRACTIONS = ("dropout_p", "grad_blend")


@dataclass(frozen=True)
class ResNetBKConfig:
    """The configuration of a `ConfigurableResNetBK`; the defaults are the published baseline.

    Attributes:
        vocab_size: Number of tokens V.
        d_model: Width D of the residual stream.
        n_layers: Number of residual blocks L.
        n_seq: Largest sequence length N; the length of the position table.
        num_experts: Experts E per mixture.
        top_k: Experts K each token visits; `top_k >= num_experts` is the dense mixture.
        dropout_p: Dropout inside the experts, in [0, 1).
        gradient: BK-Core's gradient rule: `exact`, `diagonal` or `hybrid`.
        grad_blend: Share of the hypothesis-7 gradient in `hybrid`, in [0, 1].
        v_max: The potential is clamped to +-v_max.
        feature_clamp: BK-Core's features are clamped to +-feature_clamp.

    Raises:
        ValueError: A value is of the wrong type or out of range; the message names the field.
    """

    vocab_size: int = 30000
    d_model: int = 64
    n_layers: int = 4
    n_seq: int = 128
    num_experts: int = 4
    top_k: int = 1
    dropout_p: float = 0.1
    gradient: Gradient = "exact"
    grad_blend: float = 0.5
    v_max: float = 3.0
    feature_clamp: float = 10.0

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
        for name in (*_POSITIVE, *_FRACTIONS):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number, not {value!r}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, not {value!r}")
        if not 0 <= self.dropout_p < 1:
            raise ValueError(f"dropout_p must be at least 0 and below 1, not {self.dropout_p!r}")
        check_gradient(self.gradient, self.grad_blend)

    @property
    def experts_per_token(self) -> int:
        """Experts a token really visits: `min(top_k, num_experts)`."""
        return min(self.top_k, self.num_experts)

    def to_dict(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ResNetBKConfig:
        """A configuration from field names and values; missing fields keep their defaults.

        Raises:
            ValueError: A key is no field (the message suggests the nearest), or a value is wrong.
        """
        known = [field.name for field in fields(cls)]
        for key in record:
            if key not in known:
                hint = suggestion(str(key), known, "known:")
                raise ValueError(f"ResNetBKConfig has no field {key!r}{hint}")
        return cls(**record)

    @classmethod
    def from_yaml(cls, path: str | Path) -> ResNetBKConfig:
        """A configuration from a YAML file whose top level is a mapping of fields.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no YAML, no mapping, or holds a wrong field or value.
        """
        import yaml

        path = Path(path)
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not readable as YAML: {error}") from error
        if not isinstance(record, Mapping):
            raise ValueError(f"{path}: expected a mapping of ResNetBKConfig fields")
        try:
            return cls.from_dict(record)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def check_gradient(gradient: str, grad_blend: float) -> None:
    """Refuse an unknown gradient rule, and a share outside [0, 1]."""
    if gradient not in get_args(Gradient):
        accepted = ", ".join(repr(rule) for rule in get_args(Gradient))
        raise ValueError(f"gradient must be one of {accepted}, not {gradient!r}")
    if not isinstance(grad_blend, int | float) or not 0 <= grad_blend <= 1:
        raise ValueError(f"grad_blend must be between 0 and 1, not {grad_blend!r}")


def config_of(model: Any) -> ResNetBKConfig:
    """A model's configuration; a configuration is its own.

    Raises:
        ValueError: It is neither.
    """
    config = getattr(model, "config", model)
    if not isinstance(config, ResNetBKConfig):
        found = type(model).__name__
        raise ValueError(f"expected a ResNetBKConfig or a ConfigurableResNetBK, not {found}")
    return config


BASELINE_CONFIG = ResNetBKConfig()

SIZE_GRID: dict[str, ResNetBKConfig] = {
    f"d{d_model}-l{n_layers}": ResNetBKConfig(d_model=d_model, n_layers=n_layers)
    for d_model in (64, 128, 256, 512)
    for n_layers in (4, 8, 12, 16)
}

PRESETS: dict[str, ResNetBKConfig] = {"baseline": BASELINE_CONFIG, **SIZE_GRID}
