"""What parameters each component of a ResNet-BK owns, from its configuration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import ResNetBKConfig


def parameter_sizes(config: ResNetBKConfig) -> dict[str, tuple[int, ...]]:
    """The number of elements of every parameter tensor, by the path of the component it belongs to.

    A layer's own entry is its scalar `bk_scale`.
    """
    d, experts = config.d_model, config.num_experts
    layer = {
        "": (1,),
        ".layernorm": (d, d),
        ".moe.gate": (d * experts, experts),
        ".moe.experts": (d * 2 * d, 2 * d, 2 * d * d, d) * experts,
        ".v_proj": (d, 1),
        ".output_proj": (2 * d, d),
    }
    sizes: dict[str, tuple[int, ...]] = {
        "embedding.token": (config.vocab_size * d,),
        "embedding.position": (config.n_seq * d,),
    }
    for index in range(config.n_layers):
        sizes.update({f"layer_{index}{path}": own for path, own in layer.items()})
    return sizes | {
        "final_layernorm": (d, d),
        "lm_head": (d * config.vocab_size, config.vocab_size),
    }
