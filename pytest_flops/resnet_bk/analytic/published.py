"""The published counting rules of ResNet-BK, to the digit, one function per kind of component.

Source: the FLOPs counter's reference page of the ResNet-BK project. A multiplication and an
addition are one FLOP each; a complex multiplication is 6, a complex addition 2, a complex
division 6. The rules leave out biases, `v_proj`, residual additions, clamps and routing;
`executed.py` counts those.

Every function takes sizes and returns FLOPs: B sequences of N tokens, width D, E experts of which
each token visits K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.count import FLOPsCount

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import ResNetBKConfig

# FLOPs per parameter and per tensor.
OPTIMIZERS = {"none": (0, 0), "sgd": (2, 0), "adam": (15, 0), "adamw": (15, 0)}


def linear(tokens: int, in_features: int, out_features: int) -> FLOPsCount:
    """A matrix product: one multiplication and one addition per weight and token.

    The backward pass is two such products, one for the input and one for the weight.
    """
    forward = 2 * tokens * in_features * out_features
    return FLOPsCount(forward, 2 * forward)


def softmax(tokens: int, width: int) -> FLOPsCount:
    """Exponential, sum and division: 3 per element; twice that backward."""
    return FLOPsCount(3 * tokens * width, 6 * tokens * width)


def experts(tokens: int, d_model: int, visited: int) -> FLOPsCount:
    """K experts of two products D to 2D to D, and 2D for the activation; twice that backward."""
    forward = tokens * visited * (8 * d_model * d_model + 2 * d_model)
    return FLOPsCount(forward, 2 * forward)


def layernorm(tokens: int, d_model: int) -> FLOPsCount:
    """Mean, variance, normalisation, scale and shift: 5 per element, either way."""
    return FLOPsCount(5 * tokens * d_model, 5 * tokens * d_model)


def embedding(tokens: int, d_model: int) -> FLOPsCount:
    """One addition per element, either way."""
    return FLOPsCount(tokens * d_model, tokens * d_model)


def bk_core(tokens: int) -> FLOPsCount:
    """The diagonal of the resolvent by theta/phi recursions: linear in the tokens.

    Forward 34 per token: 14 for theta, 14 for phi, 6 for the division. Backward 26: 6 for the
    square, 20 for the gradient.
    """
    return FLOPsCount(34 * tokens, 26 * tokens)


def step_costs(config: ResNetBKConfig, batch_size: int, seq_len: int) -> dict[str, FLOPsCount]:
    """Forward and backward FLOPs that each component path costs by itself, children excluded."""
    tokens, d = batch_size * seq_len, config.d_model
    layer = {
        "layernorm": layernorm(tokens, d),
        "moe": softmax(tokens, config.num_experts),
        "moe.gate": linear(tokens, d, config.num_experts),
        "moe.experts": experts(tokens, d, config.experts_per_token),
        "bk_core": bk_core(tokens),
        "output_proj": linear(tokens, 2, d),
    }
    costs = {"embedding": embedding(tokens, d)}
    for index in range(config.n_layers):
        costs.update({f"layer_{index}.{path}": cost for path, cost in layer.items()})
    costs["final_layernorm"] = layernorm(tokens, d)
    costs["lm_head"] = linear(tokens, d, config.vocab_size)
    return costs
