"""The model: its size, its names, what it refuses, and that it learns."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import pytest_flops
from pytest_flops import BASELINE_CONFIG, PRESETS, ConfigurableResNetBK, ResNetBKConfig

TINY = ResNetBKConfig(vocab_size=17, d_model=8, n_layers=2, n_seq=12)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_baseline_has_4146120_parameters():
    with torch.device("meta"):
        assert _parameters(ConfigurableResNetBK(BASELINE_CONFIG)) == 4_146_120


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_the_parameters_its_sizes_say(preset):
    config = PRESETS[preset]
    with torch.device("meta"):
        model = ConfigurableResNetBK(config)
    v, d, e = config.vocab_size, config.d_model, config.num_experts
    expert = d * 2 * d + 2 * d + 2 * d * d + d
    layer = 2 * d + (d * e + e) + e * expert + (d + 1) + (2 * d + d) + 1
    assert (
        _parameters(model) == (v + config.n_seq) * d + config.n_layers * layer + 2 * d + d * v + v
    )


def test_the_modules_are_named_as_reports_name_components():
    model = ConfigurableResNetBK(TINY)
    assert [name for name, _ in model.named_children()] == [
        "embedding",
        "layer_0",
        "layer_1",
        "final_layernorm",
        "lm_head",
    ]
    assert [name for name, _ in model.layer_0.named_children()] == [
        "layernorm",
        "moe",
        "v_proj",
        "bk_core",
        "output_proj",
    ]
    assert isinstance(model.layer_0.moe.gate, nn.Linear)
    assert isinstance(model.embedding.token, nn.Embedding)
    assert model.layer_0.bk_scale.shape == ()


@pytest.mark.parametrize("length", [1, 5, 12])
def test_tokens_become_logits(length):
    logits = ConfigurableResNetBK(TINY)(torch.randint(0, 17, (3, length)))
    assert logits.shape == (3, length, 17)
    assert logits.isfinite().all()


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("gradient", ["exact", "diagonal", "hybrid"])
def test_every_parameter_gets_a_finite_gradient(top_k, gradient):
    config = ResNetBKConfig.from_dict({**TINY.to_dict(), "top_k": top_k, "gradient": gradient})
    model = ConfigurableResNetBK(config)
    model(torch.randint(0, 17, (3, 12))).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_features_are_the_green_function_of_the_laplacian_with_the_clamped_potential(dense_green):
    core = ConfigurableResNetBK(TINY).layer_0.bk_core
    potential = torch.tensor([[0.5, -7.0, 7.0, 1.0]])
    diagonal = torch.tensor([[-1.5, -5.0, 1.0, -1.0]], dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    expected = torch.view_as_real(dense_green(diagonal, ones, ones, 1j)).float()
    torch.testing.assert_close(core(potential), expected)


def test_features_are_clamped():
    core = ConfigurableResNetBK(ResNetBKConfig(n_seq=12, feature_clamp=0.1)).layer_0.bk_core
    assert core(torch.zeros(1, 12)).abs().max() == pytest.approx(0.1)


@pytest.mark.parametrize("gradient", ["exact", "hybrid"])
def test_it_learns_a_tiny_batch_by_heart(gradient):
    torch.manual_seed(0)
    config = ResNetBKConfig.from_dict({**TINY.to_dict(), "gradient": gradient, "d_model": 16})
    model = ConfigurableResNetBK(config)
    tokens = torch.randint(0, 17, (4, 12))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def loss() -> Tensor:
        logits = model(tokens[:, :-1])
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    first = loss().item()
    for _ in range(120):
        optimizer.zero_grad()
        step = loss()
        step.backward()
        optimizer.step()
    model.eval()
    assert loss().item() < first / 10


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool])
def test_tokens_of_another_dtype_are_refused(dtype):
    with pytest.raises(ValueError, match="tokens must be int64, not torch"):
        ConfigurableResNetBK(TINY)(torch.zeros(2, 5, dtype=dtype))


@pytest.mark.parametrize("shape", [(5,), (1, 2, 5), ()])
def test_tokens_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"tokens must have shape \(B, N\)"):
        ConfigurableResNetBK(TINY)(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("length", [0, 13])
def test_a_sequence_the_positions_do_not_reach_is_refused(length):
    with pytest.raises(ValueError, match=f"{length} positions; this model takes 1 to n_seq = 12"):
        ConfigurableResNetBK(TINY)(torch.zeros(2, length, dtype=torch.int64))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_it_runs_without_data_forward_and_backward(top_k):
    config = ResNetBKConfig.from_dict({**TINY.to_dict(), "top_k": top_k})
    with torch.device("meta"):
        model, tokens = ConfigurableResNetBK(config), torch.zeros(3, 12, dtype=torch.int64)
    model(tokens).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with FakeTensorMode():
        model, tokens = ConfigurableResNetBK(config), torch.zeros(3, 12, dtype=torch.int64)
        model(tokens).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_it_runs_under_autocast():
    model = ConfigurableResNetBK(TINY)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(torch.randint(0, 17, (3, 12))).float().logsumexp(-1).sum()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_it_trains_in_bfloat16():
    model = ConfigurableResNetBK(TINY).to(torch.bfloat16)
    logits = model(torch.randint(0, 17, (3, 12)))
    assert logits.dtype == torch.bfloat16
    logits.float().logsumexp(-1).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_state_dict_holds_parameters_alone():
    model = ConfigurableResNetBK(TINY)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_importing_the_package_imports_no_torch():
    modules = "pytest_flops.resnet_bk, pytest_flops.resnet_bk.bk_core.flops"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_the_public_names_are_found_where_they_are_announced():
    assert all(getattr(pytest_flops, name) is not None for name in pytest_flops.__all__)
    assert set(pytest_flops.__all__) <= set(dir(pytest_flops))
    with pytest.raises(AttributeError, match="bk_kore"):
        pytest_flops.bk_kore  # noqa: B018
