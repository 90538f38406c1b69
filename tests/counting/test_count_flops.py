"""`count_flops`: a training step on fake tensors equals the same step on real ones."""

from __future__ import annotations

import importlib
import logging
import sys
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import how_to_count
from pytest_flops.counting.meter.data_dependence import DataDependentError
from pytest_flops.counting.meter.meter import FLOPsMeter, count_flops


class CausalAttention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, *, bias: bool):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, kv_heads * self.size, bias=bias)
        self.value = nn.Linear(width, kv_heads * self.size, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x):
        batch, length, width = x.shape

        def split(y, heads):
            return y.view(batch, length, heads, self.size).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            split(self.query(x), self.heads),
            split(self.key(x), self.kv_heads),
            split(self.value(x), self.kv_heads),
            is_causal=True,
            enable_gqa=self.kv_heads != self.heads,
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class GPTBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = CausalAttention(width, heads, heads, bias=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """GPT-2's shape: learned positions, tied head."""

    def __init__(self, vocab=50, width=16, heads=2, layers=2, length=8):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(length, width)
        self.h = nn.ModuleList(GPTBlock(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class LlamaBlock(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, inner: int):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(width), RMSNorm(width)
        self.self_attn = CausalAttention(width, heads, kv_heads, bias=False)
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        y = self.post_attention_layernorm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Llama's shape: grouped queries, gated feed-forward, RMS norms, no biases."""

    def __init__(self, vocab=50, width=16, heads=(4, 2), inner=24, layers=2):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab, width)
        self.layers = nn.ModuleList(LlamaBlock(width, *heads, inner) for _ in range(layers))
        self.norm = RMSNorm(width)
        self.lm_head = nn.Linear(width, vocab, bias=False)

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


TOKENS = torch.randint(0, 50, (2, 8))
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def step_for_real(model, optimizer):
    steps = OPTIMIZERS[optimizer](model.parameters())
    with FLOPsMeter() as meter:
        model(TOKENS).sum().backward()
        steps.step()
    return meter.measurement()


@pytest.mark.parametrize("family", [GPT, Llama])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_on_fake_tensors_counts_what_the_real_step_counts(family, optimizer):
    model = family()
    counted = count_flops(model, TOKENS, optimizer=optimizer)
    assert counted == step_for_real(model, optimizer)
    assert not counted.uncounted


@pytest.mark.parametrize("family", [GPT, Llama])
def test_a_model_on_meta_counts_what_it_counts_on_the_cpu(family):
    with torch.device("meta"):
        model = family()
    for tokens in (TOKENS, TOKENS.to("meta")):
        assert count_flops(model, tokens) == count_flops(family(), TOKENS)


def test_a_gpt_costs_its_textbook_products():
    vocab, d, layers, n, batch = 50, 16, 2, 8, 2
    measurement = count_flops(GPT(vocab, d, 2, layers, n), TOKENS, optimizer="none")
    tokens = batch * n
    # per layer 4 d^2 for attention and 8 d^2 for the feed-forward; scores and weighted sum 2 n d
    products = 2 * tokens * (layers * (12 * d**2 + 2 * n * d) + vocab * d)
    names = ("aten.addmm", "aten.mm", "aten._scaled_dot_product_flash_attention_for_cpu")
    assert sum(measurement.operations[name].forward for name in names) == products
    assert measurement.count.optimizer == 0


def test_the_model_is_left_as_it_was():
    model = GPT()
    model.h[0].eval()
    before = {name: (t, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    modes = [module.training for module in model.modules()]
    count_flops(model, TOKENS)
    for name, tensor in model.state_dict(keep_vars=True).items():
        original, values = before[name]
        assert tensor is original
        assert torch.equal(tensor, values)
        assert tensor.grad is None
    assert [module.training for module in model.modules()] == modes


def test_a_model_whose_forward_fails_is_left_as_it_was():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, _x):
            raise KeyError("the user's own")

    model = Failing()
    weight = model.layer.weight
    with pytest.raises(KeyError, match="the user's own"):
        count_flops(model, torch.ones(1, 2))
    assert model.layer.weight is weight


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_model_keeps_during_the_step_is_no_fake_tensor_afterwards(fails):
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.last, self.by_length, self.all = None, {}, []

        def forward(self, x):
            self.last = self.by_length[len(x)] = self.layer(x)
            self.all.append(self.last)
            self.new = self.last
            if fails:
                raise KeyError
            return self.last

    model = nn.Sequential(Caching())
    with pytest.raises(KeyError) if fails else nullcontext():
        count_flops(model, torch.ones(1, 2))
    assert (model[0].last, model[0].by_length, model[0].all) == (None, {}, [])
    assert not hasattr(model[0], "new")


def test_buffers_are_faked_and_kept():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4))
    count_flops(model, torch.ones(3, 2, 8))
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert model[1].num_batches_tracked.item() == 0


def test_frozen_parameters_cost_no_gradient_and_no_step():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    components = count_flops(model, torch.ones(3, 4), optimizer="sgd").components
    assert components["0"] == FLOPsCount(2 * 3 * 4 * 4 + 12)
    assert components["1"].optimizer == 2 * 10


def test_evaluation_counts_the_forward_alone_and_no_dropout():
    model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    assert count_flops(model, torch.ones(3, 4), training=False).count == FLOPsCount(48 + 6)
    assert count_flops(model, torch.ones(3, 4)).components["1"].forward == 2 * 6


def test_keyword_inputs_and_a_loss_of_ones_own():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, *, features, scale):
            return {"hidden": features, "scores": self.layer(features) * scale}

    measurement = count_flops(
        Named(),
        features=torch.ones(3, 4),
        scale=0.5,
        optimizer="none",
        loss=lambda output: output["scores"].square().mean(),
    )
    # a square and a mean of 6
    assert measurement.components["(outside modules)"].forward == 6 + 6


@dataclass
class Output:
    """An output as Hugging Face's models return it."""

    logits: torch.Tensor
    hidden: torch.Tensor
    loss: torch.Tensor | None = None


@pytest.mark.parametrize(
    ("shape", "outside"),
    [
        # the default loss is the sum of the first tensor with a gradient: 3 rows of 2
        (lambda y, x: (x, y), 6),
        (lambda y, x: {"features": x, "out": [y]}, 6),
        (lambda y, x: Output(logits=y, hidden=x), 6),
        # or the output's own
        (lambda y, x: Output(logits=y, hidden=x, loss=y[0, 0]), 0),
        (lambda y, _x: {"loss": y[0, 0], "logits": y}, 0),
    ],
)
def test_the_default_loss_finds_its_tensor_in_any_output(shape, outside):
    class Shaped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return shape(self.layer(x), x)

    components = count_flops(Shaped(), torch.ones(3, 4)).components
    assert components["(outside modules)"].forward == outside
    assert components["layer"].backward > 0


def test_an_output_without_a_gradient_asks_for_a_loss():
    class Deciding(nn.Module):
        def forward(self, x):
            return x.argmax(-1)

    with pytest.raises(ValueError, match="give count_flops.* a function from the output"):
        count_flops(Deciding(), torch.ones(3, 4))


def test_a_ctc_loss_counts_as_in_a_real_step_whose_targets_are_the_longest():
    class Speech(nn.Module):
        def __init__(self):
            super().__init__()
            self.classes, self.loss = nn.Linear(8, 5), nn.CTCLoss()

        def forward(self, sound, targets, steps, lengths):
            return self.loss(self.classes(sound).log_softmax(-1), targets, steps, lengths)

    step = (torch.ones(6, 2, 8), torch.ones(2, 3, dtype=torch.int64))
    step += (torch.tensor([6, 6]), torch.tensor([3, 3]))
    counted = count_flops(Speech(), *step, optimizer="none")
    with FLOPsMeter() as meter:
        Speech()(*step).sum().backward()
    assert counted.count == meter.count
    sound, *rest = step
    own_loss = nn.Sequential(nn.Linear(8, 5), nn.LogSoftmax(-1))
    counted_apart = count_flops(
        own_loss, sound, loss=lambda out: F.ctc_loss(out, *rest), optimizer="none"
    )
    assert counted_apart.operations["aten._ctc_loss"] == counted.operations["aten._ctc_loss"]
    # of 2 sequences, 6 steps, 2 * 3 + 1 states: 13; backward 15, and 6 per log-probability
    assert counted.operations["aten._ctc_loss"].forward == 13 * 2 * 6 * 7
    assert counted.operations["aten._ctc_loss_backward"].backward == 15 * 2 * 6 * 7 + 6 * 6 * 2 * 5


@pytest.mark.parametrize("sparse", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr])
def test_what_a_sparse_tensor_stores_is_not_known_and_not_taken_for_nothing(sparse):
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("neighbours", sparse(torch.eye(5)))

        def forward(self, x):
            return torch.sparse.mm(self.neighbours, x)

    counted = count_flops(Graph(), torch.ones(5, 7), training=False)
    (name,) = counted.uncounted
    assert name.endswith(" (of a sparse tensor without values)")
    assert "count a real step" in how_to_count(name)
    with FLOPsMeter() as meter:
        Graph()(torch.ones(5, 7))
    assert meter.count.forward == 2 * 5 * 7
    assert not meter.uncounted


def test_an_update_of_the_rows_that_were_looked_up_is_not_taken_for_nothing():
    def sparse_adam(parameters):
        return torch.optim.SparseAdam(parameters)

    model = nn.Embedding(10, 4, sparse=True)
    counted = count_flops(model, torch.tensor([1, 2]), optimizer=sparse_adam)
    assert "aten._values (of a sparse tensor without values)" in counted.uncounted


def test_a_step_without_a_gradient_says_so():
    frozen = nn.Linear(4, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="needs no gradient.*training=False"):
        count_flops(frozen, torch.ones(3, 4), loss=torch.Tensor.sum)
    assert count_flops(frozen, torch.ones(3, 4), training=False).count.forward == 2 * 3 * 4 * 2 + 6


def test_an_optimizer_of_ones_own():
    def rmsprop(parameters):
        return torch.optim.RMSprop(parameters, lr=0.1)

    model = nn.Sequential(nn.Linear(4, 2))
    measurement = count_flops(model, torch.ones(3, 4), optimizer=rmsprop)
    # squares averaged 1 + 3, root 1, epsilon 1, update 3; one counter per tensor
    assert measurement.components["0"].optimizer == 9 * 10 + 2


def test_an_unknown_optimizer_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'adamw'.* or 'none', .* not 'lion'"):
        count_flops(nn.Linear(4, 2), torch.ones(3, 4), optimizer="lion")


@pytest.mark.parametrize(
    ("depend", "operator"),
    [
        (
            lambda x: x * 2 if x.sum() > 0 else x,
            ".item(), float(tensor) or a tensor in an if (aten._local_scalar_dense)",
        ),
        (lambda x: x[x > 0], "a mask as an index (aten.nonzero)"),
        (lambda x: x.nonzero(), "nonzero()"),
        (torch.unique, "through aten._unique2, and"),
        (lambda x: x * float(x.detach().cpu().numpy().sum()), "through .numpy(), and"),
        (lambda x: x.tensor_split(torch.tensor([1]))[0], "through C++ code that reads its memory"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_code_that_depends_on_values_is_told_the_operator_and_what_to_do(depend, operator, device):
    class Dependent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4, device=device)

        def forward(self, x):
            return depend(self.layer(x))

    with pytest.raises(DataDependentError) as raised:
        count_flops(Dependent(), torch.ones(3, 4, device=device))
    assert operator in str(raised.value)
    assert "FLOPsMeter" in str(raised.value)


def adafactor(parameters):
    return torch.optim.Adafactor(parameters)


@pytest.mark.parametrize("optimizer", [torch.optim.Adafactor, adafactor, torch.optim.LBFGS])
def test_an_optimizer_that_asks_for_values_is_named(optimizer):
    name = "LBFGS" if optimizer is torch.optim.LBFGS else "Adafactor"
    with pytest.raises(DataDependentError, match=f"^the optimizer {name} depends") as raised:
        count_flops(nn.Linear(4, 4), torch.ones(3, 4), optimizer=optimizer)
    assert "a real step, in a marked test or by yourself: with FLOPsMeter()" in str(raised.value)
    assert ".py:" not in str(raised.value)


ASKING = """\
def scale(y):
    return y * y.sum().item()
"""


@pytest.mark.parametrize(
    ("folder", "told"),
    [("", "^the model's code depends"), ("site-packages", "^the library asking depends")],
)
def test_the_line_that_asks_for_values_is_named(folder, told, tmp_path, monkeypatch):
    path = tmp_path / folder / "asking.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(ASKING, encoding="utf-8")
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.delitem(sys.modules, "asking", raising=False)
    scale = importlib.import_module("asking").scale

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return scale(self.layer(x))

    with pytest.raises(DataDependentError, match=told) as raised:
        count_flops(Net(), torch.ones(3, 4))
    assert f"({path}:2)" in str(raised.value)


def test_an_operator_that_does_not_run_on_fakes_is_told_how_to_do_so():
    """As an operator that C++ registers, which has a kernel for the CPU and none for shapes."""
    library = torch.library.Library("test_count_flops", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")

    class Net(nn.Module):
        def forward(self, x):
            return torch.ops.test_count_flops.twice(x)

    line = Net.forward.__code__.co_firstlineno + 1
    told = rf"^the operator test_count_flops.twice does not say .* \(.*:{line}\): .*register_fake"
    with pytest.raises(RuntimeError, match=told):
        count_flops(Net(), torch.ones(3, 4))


def test_a_mistake_on_fake_tensors_is_told_once_by_its_error(caplog):
    class Mistaken(nn.Module):
        def forward(self, x):
            return x @ x

    with pytest.raises(RuntimeError, match=r"\[2, 3\]"):
        count_flops(Mistaken(), torch.ones(2, 3))
    assert not caplog.records
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    assert not logger.disabled
    assert not logger.filters


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_of_experts_count_as_in_a_real_step(dtype):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 8, 16, dtype=dtype))

        def forward(self, x):
            offsets = torch.tensor([1, 4], dtype=torch.int32)
            return torch._grouped_mm(x, self.weight, offs=offsets).square()

    model, x = Experts(), torch.ones(4, 8, dtype=dtype, requires_grad=True)
    faked = count_flops(model, x, optimizer="none")
    with FLOPsMeter() as real:
        model(x).sum().backward()
    assert faked.count == real.count
    # every row times its expert's matrix, and both gradients
    assert faked.operations["aten._grouped_mm"] == FLOPsCount(2 * 4 * 8 * 16, 2 * (2 * 4 * 8 * 16))


def test_checkpointing_is_counted_on_fake_tensors_too():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)

    measurement = count_flops(Checkpointed(), torch.ones(3, 4), optimizer="none")
    # all but the last product, whose result nothing saves
    assert measurement.recomputed == 2 * 3 * 4 * 8 + 24 + 24


def test_seventy_billion_parameters_need_no_memory():
    with torch.device("meta"):
        model = Llama(vocab=32000, width=8192, heads=(64, 8), inner=28672, layers=2)
    tokens = torch.zeros(4, 4096, dtype=torch.int64, device="meta")
    layer = count_flops(model, tokens).components["layers.1"]
    per_layer = sum(p.numel() for p in model.layers[1].parameters())
    # 9 parameter tensors: four projections of the attention, three of the feed-forward, two norms
    assert layer.optimizer == 14 * per_layer + 9
    weights = per_layer - 2 * 8192
    products = 2 * (4 * 4096) * weights + 4 * 4 * 4096 * 4096 * 8192
    assert products < layer.forward < products * 1.01


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_a_scripted_module_is_refused_before_anything_is_swapped():
    scripted = torch.jit.trace(nn.Linear(3, 4), torch.ones(2, 3))
    with pytest.raises(ValueError, match="scripted or traced module"):
        count_flops(scripted, torch.ones(2, 3))
    assert scripted(torch.ones(2, 3)).shape == (2, 4)


def test_a_modules_name_cannot_write_control_characters_to_a_terminal():
    model = nn.Sequential()
    model.add_module("\x1b[31mred", nn.Linear(3, 4))
    with FLOPsMeter() as meter:
        model(torch.ones(2, 3))
    assert "\x1b" not in meter.table()


@pytest.mark.parametrize("training", [False, True])
def test_an_exported_module_is_counted_in_the_mode_that_it_has(training):
    model = torch.export.export(nn.Linear(8, 2), (torch.ones(4, 8),)).module()
    counted = count_flops(model, torch.ones(4, 8), training=training, optimizer="none")
    assert counted.count.forward == 2 * 4 * 8 * 2 + 8 + 8 * training  # and the loss
