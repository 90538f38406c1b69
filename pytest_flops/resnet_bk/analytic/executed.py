"""The executed counting rules of ResNet-BK: every operator that runs, in closed form.

`published.py` counts what the reference page counts. These formulas follow the model's code
operator by operator and cost each operator as the meter does (`counting/costs`), so that they equal
the meter to the last FLOP; `parity.py` compares the two. Imports no torch.

T = B*N tokens, width D, E experts of which each token visits K, vocabulary V. Where a tensor is
used twice, autograd adds the gradient of the second use to that of the first, 1 FLOP per element.
The addition is counted at the second use: at the layernorm (the other use is the residual), at
`v_proj` (the other is the sum) and at the gate (the others are the experts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.resnet_bk.bk_core.flops import backward_flops, forward_flops

if TYPE_CHECKING:
    from pytest_flops.resnet_bk.config import ResNetBKConfig

# FLOPs per parameter and per tensor of one step of `torch.optim` with its defaults; the same for
# its for-loop, `foreach` and fused forms. SGD: scale, subtract. Adam: moments 3 and 4, denominator
# 3, update 3; AdamW decays by one multiplication more. Both count the steps of every tensor.
OPTIMIZERS = {"none": (0, 0), "sgd": (2, 0), "adam": (13, 1), "adamw": (14, 1)}


def linear(tokens: int, in_features: int, out_features: int) -> FLOPsCount:
    """A product with its bias; backward two products, and the sum of the bias's gradient."""
    product, bias = 2 * tokens * in_features * out_features, tokens * out_features
    return FLOPsCount(product + bias, 2 * product + bias)


def layernorm(tokens: int, d_model: int) -> FLOPsCount:
    """Mean, variance, subtract, rescale, scale, shift; backward as `normalization.norm_backward`.

    Backward is 10 for the input's gradient, 2 for the scale's and 1 for the shift's.
    """
    return FLOPsCount(6 * tokens * d_model, 13 * tokens * d_model)


def embedding(tokens: int, d_model: int) -> FLOPsCount:
    """The sum of token and position; its gradient is summed over the batch for the positions."""
    return FLOPsCount(tokens * d_model, tokens * d_model)


def accumulation(elements: int) -> FLOPsCount:
    """A gradient added to that of an earlier use, or to that of a row looked up before."""
    return FLOPsCount(0, elements)


def gating(tokens: int, experts: int) -> FLOPsCount:
    """Softmax: maximum, subtract, exponential, sum, divide; backward 4."""
    return FLOPsCount(5 * tokens * experts, 4 * tokens * experts)


def routed_sum(tokens: int, d_model: int, visited: int) -> FLOPsCount:
    """Weighting and index-adding the answers of the visited experts.

    Backward: the weighting's gradients; index-adding those of the gathered rows and weights.
    """
    rows = tokens * visited
    backward = weighting_gradients(rows, d_model) + rows * d_model + rows
    return FLOPsCount(2 * rows * d_model, backward)


def dense_sum(tokens: int, d_model: int, experts: int) -> FLOPsCount:
    """Weighting the answers of all experts, and adding them up."""
    forward = (2 * experts - 1) * tokens * d_model
    return FLOPsCount(forward, experts * weighting_gradients(tokens, d_model))


def weighting_gradients(rows: int, d_model: int) -> int:
    """Of an answer times its weight: two products, the weight's summed over the width.

    At width 1 there is nothing to sum.
    """
    return (2 + (d_model > 1)) * rows * d_model


def expert(tokens: int, d_model: int, *, dropout: bool) -> FLOPsCount:
    """Linear D to 2D, ReLU, dropout (scaling and applying the mask), Linear 2D to D."""
    hidden = 2 * tokens * d_model
    activation = FLOPsCount(hidden + 2 * hidden * dropout, hidden + hidden * dropout)
    return linear(tokens, d_model, 2 * d_model) + activation + linear(tokens, 2 * d_model, d_model)


def bk_core(config: ResNetBKConfig, batch_size: int, seq_len: int) -> FLOPsCount:
    """Clamp, add the Laplacian's diagonal, the operator, clamp both features.

    A clamp differentiates by selecting, which is free.
    """
    around = 4 * batch_size * seq_len
    forward = forward_flops(batch_size, seq_len) + around
    return FLOPsCount(forward, backward_flops(batch_size, seq_len, config.gradient))


def mixing(tokens: int, d_model: int) -> FLOPsCount:
    """`x + (ffn + bk_scale * spec)`; backward both factors' gradients, the scalar's summed."""
    return FLOPsCount(3 * tokens * d_model, 3 * tokens * d_model)


def step_costs(config: ResNetBKConfig, batch_size: int, seq_len: int) -> dict[str, FLOPsCount]:
    """FLOPs that each component path costs by itself in training, children excluded.

    Args:
        config: The model.
        batch_size: Sequences B.
        seq_len: Tokens N of a sequence.
    """
    tokens, d = batch_size * seq_len, config.d_model
    costs = {
        "embedding": embedding(tokens, d),
        "embedding.token": accumulation(tokens * d),
        "embedding.position": accumulation(seq_len * d),
    }
    layer = _layer(config, batch_size, seq_len)
    for index in range(config.n_layers):
        costs.update({f"layer_{index}{path}": cost for path, cost in layer.items()})
    costs["final_layernorm"] = layernorm(tokens, d)
    costs["lm_head"] = linear(tokens, d, config.vocab_size)
    return costs


def _layer(config: ResNetBKConfig, batch_size: int, seq_len: int) -> dict[str, FLOPsCount]:
    tokens, d, experts = batch_size * seq_len, config.d_model, config.num_experts
    visited = config.experts_per_token
    second_use = accumulation(tokens * d)
    visits = expert(tokens * visited, d, dropout=config.dropout_p > 0)
    if visited == experts:
        combination = dense_sum(tokens, d, experts)
        visits += accumulation((experts - 1) * tokens * d)
    else:
        combination = routed_sum(tokens, d, visited)
    return {
        "": mixing(tokens, d),
        ".layernorm": layernorm(tokens, d) + second_use,
        ".moe": gating(tokens, experts) + combination,
        ".moe.gate": linear(tokens, d, experts) + second_use,
        ".moe.experts": visits,
        ".v_proj": linear(tokens, d, 1) + second_use,
        ".bk_core": bk_core(config, batch_size, seq_len),
        ".output_proj": linear(tokens, 2, d),
    }
