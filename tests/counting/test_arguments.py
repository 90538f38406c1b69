"""Arguments of a wrong type, given to the public functions: what is wrong, what would be right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pytest_flops import (
    BASELINE_CONFIG,
    ConfigurableResNetBK,
    FLOPsCounter,
    FLOPsMeter,
    bk_core,
    compare_models,
    count_flops,
)

MODEL, X = nn.Linear(4, 8), torch.ones(3, 4)
NAMES = "a list of strings"
ONE_OF = "a string, a mapping or a function"


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("optimizer", None, ONE_OF),
        ("optimizer", ["adamw"], ONE_OF),
        ("loss", "mse", "a function or None"),
        ("training", 1, "True or False"),
        ("training", "no", "True or False"),
        ("metrics", "bytes", NAMES),
        ("metrics", ["bytes", 3], NAMES),
        ("metrics", None, NAMES),
        ("lines", "yes", "True or False"),
        ("values", True, "'fake' or 'real'"),
        ("values", "Real", "'fake' or 'real'"),
        ("like", "CUDA", "'cuda' or None"),
        ("parallelize", "package.module:function", "a function or None"),
        ("compile", "yes", "True, False or a mapping"),
        ("compile", ["fullgraph"], "True, False or a mapping"),
    ],
)
def test_count_flops_says_what_would_be_right(keyword: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole message is held
        count_flops(MODEL, X, **{keyword: value})
    assert str(refused.value) == f"{keyword} must be {expected}, not {value!r}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"fulgraph": True},
            "torch.compile takes no keyword 'fulgraph'; did you mean ",
        ),
        ({"fullgraph": "no"}, "torch.compile: fullgraph must be True or False, not 'no'"),
        ({"dynamic": "no"}, "torch.compile: dynamic must be True, False or None, not 'no'"),
        ({3: True}, "torch.compile takes no keyword 3; it takes "),
    ],
)
def test_keywords_of_torch_compile_are_held_to_its_own(given: Any, told: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        count_flops(MODEL, X, compile=given, metrics=["graphs"])
    assert str(refused.value).startswith(told)


def test_keywords_of_the_model_are_the_models() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, *, mode: object) -> Any:
            return x * len(str(mode))

    counted = count_flops(Scaled(), X, mode=[1, "two"], training=False)
    assert counted.count.forward == X.numel()


SIZES: dict[str, Any] = {"batch_size": 2, "seq_len": 8}
WRONG: Any = {"d_model": 8}
A_CONFIG = "expected a ResNetBKConfig or a ConfigurableResNetBK, not dict"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: FLOPsMeter(metrics=WRONG["d_model"]), f"metrics must be {NAMES}, not 8"),
        (lambda: FLOPsMeter(lines=WRONG), "lines must be True or False, not {'d_model': 8}"),
        (lambda: FLOPsCounter(WRONG, **SIZES), A_CONFIG),
        (lambda: FLOPsCounter.from_config(WRONG, **SIZES), A_CONFIG),
        (lambda: compare_models(BASELINE_CONFIG, WRONG, **SIZES), A_CONFIG),
        (lambda: ConfigurableResNetBK(WRONG), A_CONFIG),
        (
            lambda: bk_core(torch.zeros(1, 3), torch.ones(2), torch.ones(2), 1j, grad_blend=WRONG),
            "grad_blend must be between 0 and 1, not {'d_model': 8}",
        ),
    ],
)
def test_the_other_functions_say_so_too(call: Any, told: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        call()
    assert str(refused.value) == told
