"""What parameters each component of a ResNet-BK owns, from its configuration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import ResNetBKConfig


def parameter_counts(config: ResNetBKConfig) -> dict[str, int]:
    """Parameters by component path, each counted once, at the component that owns it.

    A layer's own entry is its scalar `bk_scale`.
    """
    d, experts = config.d_model, config.num_experts
    layer = {
        "": 1,
        ".layernorm": 2 * d,
        ".moe.gate": d * experts + experts,
        ".moe.experts": experts * (d * 2 * d + 2 * d + 2 * d * d + d),
        ".v_proj": d + 1,
        ".output_proj": 2 * d + d,
    }
    counts = {"embedding.token": config.vocab_size * d, "embedding.position": config.n_seq * d}
    for index in range(config.n_layers):
        counts.update({f"layer_{index}{path}": count for path, count in layer.items()})
    counts["final_layernorm"] = 2 * d
    counts["lm_head"] = d * config.vocab_size + config.vocab_size
    return counts


def tensor_counts(config: ResNetBKConfig) -> dict[str, int]:
    """Parameter tensors by component path, as `parameter_counts`: weights, biases, tables."""
    layer = {
        "": 1,
        ".layernorm": 2,
        ".moe.gate": 2,
        ".moe.experts": 4 * config.num_experts,
        ".v_proj": 2,
        ".output_proj": 2,
    }
    counts = {"embedding.token": 1, "embedding.position": 1}
    for index in range(config.n_layers):
        counts.update({f"layer_{index}{path}": count for path, count in layer.items()})
    return counts | {"final_layernorm": 2, "lm_head": 2}
