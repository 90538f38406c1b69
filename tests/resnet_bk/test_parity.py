"""Parity: the analytic executed count equals the meter, and stops to when the model changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_flops.budgets.judging.hold import hold_parity
from pytest_flops.counting.measure import WorkloadError
from pytest_flops.counting.meter.meter import FLOPsMeter
from pytest_flops.resnet_bk import model as resnet_bk
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.analytic.parity import compare, parity
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, ResNetBKConfig
from pytest_flops.resnet_bk.model import ConfigurableResNetBK

OPTIMIZERS = {
    "none": None,
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
SMALL = ResNetBKConfig(vocab_size=13, d_model=6, n_layers=2, n_seq=9, num_experts=3, dropout_p=0.2)


def small(**changes) -> ResNetBKConfig:
    return ResNetBKConfig.from_dict({**SMALL.to_dict(), **changes})


def differences(records):
    return [record for record in records if not record.agrees]


def parity_of_a_real_step(config, batch_size, seq_len, optimizer, model=None):
    """As `parity`, but with real tensors and a step that really runs."""
    model = model or ConfigurableResNetBK(config)
    make_optimizer = OPTIMIZERS[optimizer]
    tokens = torch.randint(0, config.vocab_size, (batch_size, seq_len))
    with FLOPsMeter() as meter:
        model(tokens).sum().backward()
        if make_optimizer is not None:
            make_optimizer(model.parameters()).step()
    counter = FLOPsCounter.from_config(config, batch_size, seq_len, rules="executed")
    return compare(counter.measurement(optimizer), meter.measurement())


def test_the_baseline_agrees_to_the_last_flop():
    records = parity(BASELINE_CONFIG, batch_size=2, seq_len=16)
    assert not differences(records)
    assert {record.component for record in records} >= {
        None, "embedding", "embedding.token", "layer_0", "layer_3.moe.experts", "layer_0.bk_core",
        "layer_1.v_proj", "final_layernorm", "lm_head",
    }  # fmt: skip
    assert all(r.analytic > 0 for r in records if r.component in (None, "lm_head"))


CASES = {
    **{f"top_k={k}": small(top_k=k) for k in (1, 2, 3, 7)},
    "one expert": small(num_experts=1),
    "no dropout": small(dropout_p=0.0),
    "diagonal gradient": small(gradient="diagonal"),
    "hybrid gradient": small(gradient="hybrid", grad_blend=0.3),
    "one layer": small(n_layers=1),
}


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (1, 5), (2, 9)])
@pytest.mark.parametrize("step", [parity, parity_of_a_real_step], ids=["fake", "real"])
def test_every_component_and_phase_agrees(config, sizes, step):
    assert not differences(step(config, *sizes, "adamw"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", [parity, parity_of_a_real_step], ids=["fake", "real"])
def test_every_optimizer_agrees(optimizer, step):
    assert not differences(step(SMALL, 2, 4, optimizer))


def test_an_evaluation_agrees():
    config = small(top_k=2)
    model = ConfigurableResNetBK(config).eval()
    with FLOPsMeter() as meter, torch.no_grad():
        model(torch.randint(0, 13, (2, 9)))
    from pytest_flops.resnet_bk.analytic.executed import step_costs

    expected = sum(c.forward for c in step_costs(replace(config, dropout_p=0.0), 2, 9).values())
    assert meter.count.forward == expected


@pytest.mark.long
@given(
    config=st.builds(
        ResNetBKConfig,
        vocab_size=st.integers(1, 20),
        d_model=st.integers(1, 12),
        n_layers=st.integers(1, 2),
        n_seq=st.just(8),
        num_experts=st.integers(1, 4),
        top_k=st.integers(1, 5),
        dropout_p=st.sampled_from([0.0, 0.5]),
        gradient=st.sampled_from(["exact", "diagonal", "hybrid"]),
    ),
    batch_size=st.integers(1, 3),
    seq_len=st.integers(1, 8),
)
def test_any_configuration_agrees(config, batch_size, seq_len):
    assert not differences(parity(config, batch_size, seq_len))


class WithSecondBias(resnet_bk.ResNetBKLayer):
    """The regression: somebody adds a bias to the layer's output."""

    def __init__(self, config):
        super().__init__(config)
        self.second_bias = nn.Parameter(torch.zeros(config.d_model))

    def forward(self, x):
        return super().forward(x) + self.second_bias


class SquaredHead(nn.Linear):
    """The regression: somebody squares the head's activation."""

    def forward(self, x):
        return super().forward(x).square()


def with_second_bias():
    model = ConfigurableResNetBK(SMALL)
    model.layer_1 = WithSecondBias(SMALL)
    return model


def with_squared_head():
    model = ConfigurableResNetBK(SMALL)
    model.lm_head = SquaredHead(SMALL.d_model, SMALL.vocab_size)
    return model


@pytest.mark.parametrize(
    ("changed", "component", "forward"),
    [
        (with_second_bias, "layer_1", 2 * 4 * 6),
        (with_squared_head, "lm_head", 2 * 4 * 13),
    ],
)
@pytest.mark.parametrize("step", [parity, parity_of_a_real_step], ids=["fake", "real"])
def test_one_extra_operation_turns_parity_red_while_the_published_count_stays(
    changed, component, forward, step
):
    model = changed()
    red = differences(step(SMALL, 2, 4, "adamw", model=model))
    assert {record.component for record in red} == {None, component}
    (extra,) = [r for r in red if r.component == component and r.phase == "forward"]
    assert extra.metered - extra.analytic == forward
    before = FLOPsCounter(ConfigurableResNetBK(SMALL), 2, 4).count_total_flops("none")
    assert FLOPsCounter(model, 2, 4).count_total_flops("none") == before


def test_an_extra_operation_in_the_models_own_forward_shows_in_the_whole():
    class Scaled(ConfigurableResNetBK):
        def forward(self, tokens):
            return super().forward(tokens) * 2

    red = differences(parity(SMALL, 2, 4, model=Scaled(SMALL)))
    assert [(r.component, r.phase, r.metered - r.analytic) for r in red] == [
        (None, "forward", 2 * 4 * 13),
        (None, "backward", 2 * 4 * 13),
    ]


def test_a_missing_operation_turns_parity_red_too():
    model = ConfigurableResNetBK(SMALL)
    model.final_layernorm = nn.Identity()
    red = differences(parity(SMALL, 2, 4, model=model))
    assert ("final_layernorm", "forward", 0) in [(r.component, r.phase, r.metered) for r in red]


def test_verdicts_say_both_counts_and_pass_only_when_they_agree():
    good = hold_parity(parity(SMALL, 2, 4))
    assert good
    assert all(verdict.passed and verdict.kind == "parity" for verdict in good)
    bad = hold_parity(parity(SMALL, 2, 4, model=with_squared_head()))
    (verdict,) = [v for v in bad if (v.component, v.quantity) == ("lm_head", "forward")]
    assert not verdict.passed
    assert verdict.allowed - verdict.actual == 2 * 4 * 13


def test_a_parity_check_of_nothing_is_an_error():
    (verdict,) = hold_parity(())
    assert verdict.kind == "error"
    assert not verdict.passed


def test_an_operator_without_a_cost_is_an_error_and_not_a_pass():
    @torch.library.custom_op("parity_test::mystery", mutates_args=())
    def mystery(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    mystery.register_fake(torch.empty_like)
    mystery.register_autograd(lambda _context, gradient: gradient)

    class Mysterious(nn.Linear):
        def forward(self, x):
            return super().forward(mystery(x))

    model = ConfigurableResNetBK(SMALL)
    model.lm_head = Mysterious(SMALL.d_model, SMALL.vocab_size)
    with pytest.raises(WorkloadError, match=r"parity_test\.mystery is not counted"):
        parity(SMALL, 2, 4, model=model)


@pytest.mark.parametrize(("batch_size", "seq_len"), [(0, 4), (2, 0), (2, 10)])
def test_sizes_the_model_cannot_take_are_refused(batch_size, seq_len):
    with pytest.raises(WorkloadError, match="batch_size|seq_len"):
        parity(SMALL, batch_size, seq_len)
