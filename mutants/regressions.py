"""The regressions and tricks that `plant.py` plants: small edits of the project, as data."""

from __future__ import annotations

from dataclasses import dataclass

Edit = tuple[str, "str | None", "str | None"]
"""File, old text and new; without a new text, the file is deleted."""

MODEL = "pytest_flops/resnet_bk/model.py"
MOE = "pytest_flops/resnet_bk/moe.py"
OPERATOR = "pytest_flops/resnet_bk/bk_core/operator.py"
FORMULA = "pytest_flops/resnet_bk/bk_core/flops.py"
EXECUTED = "pytest_flops/resnet_bk/analytic/executed.py"
PUBLISHED = "pytest_flops/resnet_bk/analytic/published.py"
COUNTER = "pytest_flops/resnet_bk/analytic/counter.py"
PRODUCTS = "pytest_flops/counting/costs/products.py"
NORMS = "pytest_flops/counting/costs/normalization.py"
STEP = "budgets/test_training_step.py"
BUDGETS = "budgets/resnet_bk.yaml"
LOCK = "budgets/resnet_bk.lock.json"

FFN = "ffn = self.moe(self.layernorm(x))"
MIXED = "mixed: Tensor = x + (ffn + self.bk_scale * self.output_proj(features))"
LOGITS = "logits: Tensor = self.lm_head(self.final_layernorm(x))"
TOP_K = "weights, chosen = probabilities.topk(self.experts_per_token, dim=-1)"
CLAMPED = "features.clamp(-config.feature_clamp, config.feature_clamp)"
BLOCK = 'x = self.get_submodule(f"layer_{index}")(x)'
MIXTURE = "return mixed.reshape(x.shape)"
GATE = "probabilities = torch.softmax(self.gate(tokens), dim=-1)"
EXPERT = "output: Tensor = self.contract("
LOSS = "    loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())\n"
BACKWARD = "    loss.backward()\n"
OPTIMIZER = "torch.optim.AdamW(model.parameters())"
UPDATE = "    optimizer.step()\n"
STEP_CALL = "    training_step(model, optimizer, tokens)\n"


@dataclass(frozen=True)
class Mutant:
    """One planted regression: `new` in place of `old`, everywhere in `file`."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "an extra LayerNorm in each layer", MODEL, FFN, f"{FFN}\n        ffn = self.layernorm(ffn)"
    ),
    Mutant("the mixture runs twice", MODEL, FFN, f"{FFN}\n        ffn = ffn + self.moe(ffn)"),
    Mutant(
        "quadratic token mixing in each layer",
        MODEL,
        MIXED,
        f"ffn = torch.softmax(ffn @ ffn.transpose(1, 2), -1) @ ffn\n        {MIXED}",
    ),
    Mutant("a second residual addition", MODEL, "= x + (ffn", "= x + x + (ffn"),
    Mutant("BK-Core's scale becomes a vector product", MODEL, "self.bk_scale * self", "x * self"),
    Mutant(
        "BK-Core computed twice",
        MODEL,
        "features = self.bk_core(self.v_proj(ffn).squeeze(-1))",
        "v = self.v_proj(ffn).squeeze(-1)\n"
        "        features = self.bk_core(v) + 0 * self.bk_core(v)",
    ),
    Mutant(
        "each layer recomputed in backward (checkpointing)",
        MODEL,
        BLOCK,
        'layer = self.get_submodule(f"layer_{index}")\n'
        "            x = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)",
    ),
    Mutant(
        "features squared before the clamp",
        MODEL,
        CLAMPED,
        CLAMPED.replace("features.clamp", "(features * features).clamp"),
    ),
    Mutant("features clamped twice", MODEL, CLAMPED, f"{CLAMPED}.clamp(-9.0, 9.0)"),
    Mutant(
        "the potential is no longer clamped",
        MODEL,
        "potential.clamp(-config.v_max, config.v_max)",
        "potential",
    ),
    Mutant(
        "the head applied twice",
        MODEL,
        LOGITS,
        f"{LOGITS}\n        logits = logits + self.lm_head(x)",
    ),
    Mutant(
        "a softmax over the vocabulary",
        MODEL,
        LOGITS,
        f"{LOGITS}\n        logits = logits.softmax(-1)",
    ),
    Mutant("no final LayerNorm", MODEL, "self.lm_head(self.final_layernorm(x))", "self.lm_head(x)"),
    Mutant("scaled embeddings", MODEL, "return embedded", "return embedded * 0.5"),
    Mutant("no position embedding added", MODEL, " + self.position(positions)", ""),
    Mutant(
        "a hidden layer more than configured", MODEL, "config.n_layers):", "config.n_layers + 1):"
    ),
    Mutant(
        "one layer is skipped",
        MODEL,
        "for index in range(self.config.n_layers):",
        "for index in range(self.config.n_layers - 1):",
    ),
    Mutant("a wider expert", MOE, "2 * config.d_model", "3 * config.d_model"),
    Mutant(
        "top_k + 1 experts for each token",
        MOE,
        "self.experts_per_token = config.experts_per_token",
        "self.experts_per_token = config.experts_per_token + 1",
    ),
    Mutant(
        "a dense mixture in place of the routed one",
        MOE,
        "dense = self.experts_per_token == self.num_experts",
        "dense = True",
    ),
    Mutant(
        "a squared activation",
        MOE,
        "torch.relu(self.expand(tokens))",
        "torch.relu(self.expand(tokens)).square()",
    ),
    Mutant(
        "weights normalised again",
        MOE,
        TOP_K,
        f"{TOP_K}\n        weights = weights / weights.sum(-1, keepdim=True)",
    ),
    Mutant(
        "the gate without a bias",
        MOE,
        "nn.Linear(config.d_model, config.num_experts)",
        "nn.Linear(config.d_model, config.num_experts, bias=False)",
    ),
    Mutant(
        "BK-Core on two potentials",
        MODEL,
        "features = bk_core(",
        "twice = (self.h0_diag[:n] + potential, self.h0_super[: n - 1], self.h0_sub[: n - 1])\n"
        "        features = bk_core(*twice, self.z) * 0 + bk_core(",
    ),
    Mutant(
        "a second optimizer step",
        STEP,
        UPDATE,
        "    optimizer.step()\n    optimizer.step()\n",
    ),
    Mutant(
        "a second backward pass",
        STEP,
        BACKWARD,
        "    loss.backward(retain_graph=True)\n    loss.backward()\n",
    ),
    Mutant("the training step runs twice", STEP, STEP_CALL, STEP_CALL * 2),
    Mutant(
        "gradients clipped by norm",
        STEP,
        UPDATE,
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    optimizer.step()\n",
    ),
    Mutant(
        "weight averaging after the step",
        STEP,
        UPDATE,
        "    optimizer.step()\n    for p in model.parameters():\n        p.data.mul_(0.999)\n",
    ),
    Mutant(
        "a frozen embedding",
        MODEL,
        "        for table in (self.token, self.position):\n",
        "        self.token.weight.requires_grad_(False)\n"
        "        for table in (self.token, self.position):\n",
    ),
    Mutant("the test counts nothing any more", STEP, STEP_CALL, ""),
    Mutant(
        "the marker is gone", STEP, '@pytest.mark.flops_budget("resnet-bk-training-step")\n', ""
    ),
    Mutant(
        "the marker names another budget", STEP, "resnet-bk-training-step", "resnet-bk-trainingstep"
    ),
    Mutant("five layers in the workload", BUDGETS, "n_layers: 4", "n_layers: 5"),
    Mutant("a dense mixture in the workload", BUDGETS, "top_k: 1}", "top_k: 4}"),
    Mutant(
        "a larger vocabulary in the workload", BUDGETS, "vocab_size: 30000", "vocab_size: 30001"
    ),
    Mutant("a longer sequence in the workload", BUDGETS, "n_seq: 128", "n_seq: 129"),
    Mutant("a wrong unit in a limit", BUDGETS, "forward: 16.3 GFLOP", "forward: 16.3 GFLOPS"),
    Mutant("a limit in the wrong unit", BUDGETS, "forward: 16.3 GFLOP", "forward: 16.3 MFLOP"),
    Mutant("a pattern that matches nothing", BUDGETS, '"layer_*": {', '"block_*": {'),
    Mutant("a misspelt key", BUDGETS, "tolerance: 0%", "tolerence: 10%"),
    Mutant(
        "a record lowered by one FLOP", LOCK, '"forward": 16287760384', '"forward": 16287760383'
    ),
    Mutant(
        "a sublinear scaling limit",
        BUDGETS,
        "2048]\n        max_exponent: 1.0",
        "2048]\n        max_exponent: 0.9",
    ),
    Mutant("a sweep of two sizes", BUDGETS, "sizes: [64, 128, 256]", "sizes: [64, 128]"),
    # Ways of mixing, projecting and routing that a model of this kind grows.
    Mutant(
        "linear attention in each layer",
        MODEL,
        MIXED,
        f"ffn = ffn @ (ffn.transpose(1, 2) @ ffn) / ffn.shape[1]\n        {MIXED}",
    ),
    Mutant(
        "fused attention over repeated keys and values",
        MODEL,
        MIXED,
        "twice = ffn.repeat_interleave(2, 1)\n"
        "        ffn = nn.functional.scaled_dot_product_attention(ffn, twice, twice)\n"
        f"        {MIXED}",
    ),
    Mutant(
        "an adapter multiplied out before it is applied",
        MODEL,
        MIXED,
        "adapter = self.output_proj.weight[:, :1] @ self.v_proj.weight\n"
        "        ffn = ffn + nn.functional.linear(ffn, adapter)\n"
        f"        {MIXED}",
    ),
    Mutant(
        "an einsum that builds token x vocabulary x width",
        MODEL,
        "self.lm_head(self.final_layernorm(x))",
        'torch.einsum("bnd,vd->bnvd", self.final_layernorm(x), self.lm_head.weight).sum(-1)',
    ),
    Mutant(
        "embeddings looked up by a product with one-hot rows",
        MODEL,
        "self.token(tokens)",
        "nn.functional.one_hot(tokens, self.token.num_embeddings).float() @ self.token.weight",
    ),
    Mutant(
        "rotary positions in each layer",
        MODEL,
        FFN,
        f"{FFN}\n        angle = torch.arange(x.shape[1], device=x.device).float().unsqueeze(-1)\n"
        "        ffn = ffn * angle.cos() + ffn.roll(1, -1) * angle.sin()",
    ),
    Mutant(
        "a skip from the embedding to each layer",
        MODEL,
        "        for index in range(self.config.n_layers):\n            x = ",
        "        embedded = x\n"
        "        for index in range(self.config.n_layers):\n            x = embedded + ",
    ),
    Mutant("a head on each layer that nobody reads", MODEL, BLOCK, f"{BLOCK}; self.lm_head(x)"),
    Mutant(
        "dropout on the residual stream",
        MODEL,
        "(ffn + self",
        "nn.functional.dropout(ffn + self",
    ),
    Mutant(
        "capped logits",
        MODEL,
        LOGITS,
        f"{LOGITS}\n        logits = 30 * torch.tanh(logits / 30)",
    ),
    Mutant(
        "features quantised and back",
        MODEL,
        "return clamped.to(",
        "return (torch.round(clamped * 127) / 127).to(",
    ),
    Mutant(
        "a shared expert on every token",
        MOE,
        MIXTURE,
        "return (mixed + self.experts[0](tokens)).reshape(x.shape)",
    ),
    Mutant(
        "the mixture on a padded batch",
        MOE,
        "tokens = x.reshape(-1, x.shape[-1])",
        "tokens = nn.functional.pad(x.reshape(-1, x.shape[-1]), (0, 0, 0, 1))",
    ),
    Mutant(
        "experts padded to their capacity",
        MOE,
        "answers = torch.cat([expert(t) for",
        "answers = torch.cat([expert(nn.functional.pad(t, (0, 0, 0, 8)))[: len(t)] for",
    ),
    Mutant(
        "noise on the gate",
        MOE,
        GATE,
        GATE.replace("(tokens)", "(tokens + torch.randn_like(tokens))"),
    ),
    Mutant(
        "a balance loss computed and dropped",
        MOE,
        GATE,
        f"{GATE}\n        (probabilities.mean(0).square().sum() * self.num_experts)",
    ),
    Mutant(
        "a gated activation",
        MOE,
        "torch.relu(self.expand(tokens))",
        "nn.functional.silu(self.expand(tokens)) * torch.sigmoid(self.expand.bias)",
    ),
    Mutant(
        "an expert that is four maps deep",
        MOE,
        EXPERT,
        f"tokens = self.contract(self.expand(tokens))\n        {EXPERT}",
    ),
    Mutant(
        "weights normalised in each expert",
        MOE,
        "self.expand(tokens)",
        "nn.functional.linear(\n"
        "            tokens, nn.functional.normalize(self.expand.weight), self.expand.bias\n"
        "        )",
    ),
    # BK-Core, and gradients that nobody asked for.
    Mutant(
        "BK-Core as a dense inverse, cubic in the sequence",
        MODEL,
        "clamped = features",
        "dense = torch.diag_embed(potential) - 1j * torch.eye(n, device=potential.device)\n"
        "        features = torch.view_as_real(torch.linalg.inv(dense).diagonal(dim1=1, dim2=2))\n"
        "        clamped = features",
    ),
    Mutant(
        "a gradient of BK-Core's shift that nobody uses",
        MODEL,
        "            1j,\n",
        "            torch.tensor(1j, requires_grad=True),\n",
    ),
    Mutant(
        "gradients of the off-diagonals that nobody uses",
        OPERATOR,
        "any(off_diagonals), shift_too",
        "True, shift_too",
    ),
    Mutant(
        "a gradient of the frozen potential",
        MODEL,
        "self.h0_diag[:n] + ",
        "self.h0_diag[:n].clone().requires_grad_() * 1.0 + ",
    ),
    # What a training step grows.
    Mutant(
        "a loss on the logits' size",
        STEP,
        LOSS,
        f"{LOSS}    loss = loss + logits.logsumexp(-1).square().mean()\n",
    ),
    Mutant("label smoothing", STEP, "flatten())\n", "flatten(), label_smoothing=0.1)\n"),
    Mutant(
        "weight decay as a loss",
        STEP,
        LOSS,
        f"{LOSS}    loss = loss + sum(p.square().sum() for p in model.parameters())\n",
    ),
    Mutant(
        "a gradient penalty (double backward)",
        STEP,
        LOSS,
        f"{LOSS}    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)\n"
        "    loss = loss + slope.square().sum()\n",
    ),
    Mutant(
        "a gradient computed and dropped",
        STEP,
        BACKWARD,
        f"    torch.autograd.grad(loss, logits, retain_graph=True)\n{BACKWARD}",
    ),
    Mutant(
        "gradients accumulated over two half batches",
        STEP,
        BACKWARD,
        f"{BACKWARD}    half = model(tokens[:1, :-1]).flatten(0, 1)\n"
        "    cross_entropy(half, tokens[:1, 1:].flatten()).backward()\n",
    ),
    Mutant(
        "gradients scaled and unscaled",
        STEP,
        BACKWARD,
        "    (loss * 1024).backward()\n"
        "    for p in model.parameters():\n        p.grad.div_(1024)\n",
    ),
    Mutant(
        "gradients clipped by value",
        STEP,
        UPDATE,
        f"    torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)\n{UPDATE}",
    ),
    Mutant(
        "an evaluation in each step",
        STEP,
        UPDATE,
        f"{UPDATE}    with torch.no_grad():\n        model(tokens[:1, :-1])\n",
    ),
    Mutant("the perplexity, one FLOP", STEP, UPDATE, f"{UPDATE}    loss.exp()\n"),
    Mutant(
        "the norm of the weights, for a log",
        STEP,
        UPDATE,
        f"{UPDATE}    torch.nn.utils.get_total_norm(model.parameters())\n",
    ),
    Mutant(
        "an optimizer that keeps a maximum more",
        STEP,
        OPTIMIZER,
        OPTIMIZER.replace("())", "(), amsgrad=True)"),
    ),
    Mutant("an optimizer of more steps (NAdam)", STEP, "optim.AdamW(", "optim.NAdam("),
    # The rules that the analytic counter reads, and the operator's formula.
    Mutant(
        "executed rules: a cheaper LayerNorm",
        EXECUTED,
        "FLOPsCount(6 * tokens",
        "FLOPsCount(5 * tokens",
    ),
    Mutant(
        "executed rules: no bias", EXECUTED, ", tokens * out_features\n", ", 0 * out_features\n"
    ),
    Mutant(
        "executed rules: no second use",
        EXECUTED,
        "second_use = accumulation(tokens * d)",
        "second_use = accumulation(0)",
    ),
    Mutant(
        "executed rules: a softmax of three parts",
        EXECUTED,
        "FLOPsCount(5 * tokens * experts",
        "FLOPsCount(3 * tokens * experts",
    ),
    Mutant("executed rules: dropout once", EXECUTED, "2 * hidden * dropout", "hidden * dropout"),
    Mutant(
        "executed rules: AdamW's steps are not counted",
        EXECUTED,
        '"adamw": (14, 1)',
        '"adamw": (14, 0)',
    ),
    Mutant(
        "executed rules: one clamp forgotten",
        EXECUTED,
        "around = 4 * batch_size",
        "around = 2 * batch_size",
    ),
    Mutant(
        "the analytic counter forgets a bias", COUNTER, '".v_proj": (d, 1),', '".v_proj": (d,),'
    ),
    Mutant(
        "published rules: a dearer BK-Core",
        PUBLISHED,
        "FLOPsCount(34 * tokens",
        "FLOPsCount(35 * tokens",
    ),
    Mutant(
        "BK-Core's formula counts its backward twice",
        OPERATOR,
        "return backward_flops(*he_diag, ",
        "return 2 * backward_flops(*he_diag, ",
    ),
    Mutant(
        "BK-Core's formula counts a coupling too many",
        FORMULA,
        "27 * max(length - 1, 0)",
        "27 * length",
    ),
    Mutant(
        "the meter's products count one FLOP",
        PRODUCTS,
        "is_exact(tensor) else 2\n",
        "is_exact(tensor) else 1\n",
    ),
    Mutant("the meter's softmax is of three parts", NORMS, "SOFTMAX = 5\n", "SOFTMAX = 3\n"),
)

PLANTED = ("tests/counting/test_planted.py", "tests/counting/test_communication_planted.py")
"""Regressions that FLOPs do not show, each a `Step` of one model with what must catch it."""

GOOD = "Step()"
STEP_PROJECT = {
    "test_step.py": f"""\
import pytest
from planted import Step, after_a_step, run


@pytest.fixture
def prepared():
    return after_a_step({GOOD})


@pytest.mark.flops_budget(tolerance="3%")
def test_step(prepared):
    run(*prepared)
""",
    "pytest.ini": "[pytest]\npythonpath = .\n",
}

DEARER = (STEP, STEP_CALL, STEP_CALL * 4)
LAYERS = '"layer_*": {forward: 140 MFLOP, backward: 280 MFLOP}'
COUNT = '"count": {"forward": 728206, "backward": 1384328, "optimizer": 124984}'
WORKLOAD = """    workload:
      model: resnet_bk
      config: {d_model: 64, n_layers: 4, n_seq: 128, vocab_size: 30000, num_experts: 4, top_k: 1}
      batch_size: 32
      seq_len: 128
      optimizer: adamw
      rules: published
"""
SCALING = """    scaling:
      seq_len:
        sizes: [128, 256, 512, 1024, 2048]
        max_exponent: 1.0
        metrics: {peak_memory: 1.0}
      d_model:
        sizes: [64, 128, 256]
        max_exponent: 2.0
        components: {"layer_*.bk_core": 0.0}
"""


@dataclass(frozen=True)
class Trick:
    """A pull request that makes the gate weaker, and perhaps the model dearer at the same time.

    Attributes:
        name: What was done.
        edits: What it changes.
        before: Edits that the base has already.
    """

    name: str
    edits: tuple[Edit, ...]
    before: tuple[Edit, ...] = ()


TRICKS = (
    Trick("dearer, and the limit raised", (DEARER, (BUDGETS, "total: 4 MFLOP", "total: 40 MFLOP"))),
    Trick(
        "dearer, and the lock file deleted",
        (DEARER, (BUDGETS, "total: 4 MFLOP", "total: 40 MFLOP"), (LOCK, None, None)),
    ),
    Trick(
        "dearer, and the record renamed",
        (
            DEARER,
            (BUDGETS, "total: 4 MFLOP", "total: 40 MFLOP"),
            (LOCK, '"resnet-bk-training-step": {', '"resnet-bk-step": {'),
        ),
    ),
    Trick(
        "dearer, and the record of the whole raised by hand",
        (
            DEARER,
            (BUDGETS, "total: 4 MFLOP", "total: 40 MFLOP"),
            (
                LOCK,
                COUNT,
                '"count": {"forward": 9000000, "backward": 9000000, "optimizer": 9000000}',
            ),
        ),
    ),
    Trick(
        "dearer by what an earlier pull request recorded too much",
        ((STEP, UPDATE, f"{UPDATE}    loss.exp()\n"),),
        before=((LOCK, COUNT, COUNT.replace("728206", "728300")),),
    ),
    Trick(
        "dearer, and the tolerance raised",
        (DEARER, (BUDGETS, "      total: 4 MFLOP", "      total: 40 MFLOP\n    tolerance: 1000%")),
    ),
    Trick("four steps on half the batch", (DEARER, (STEP, "vocab_size, (2,", "vocab_size, (1,"))),
    Trick(
        "a dearer model, and rules that follow it",
        (
            (MODEL, "= x + (ffn", "= x + x + (ffn"),
            (EXECUTED, "FLOPsCount(3 * tokens * d_model, 3", "FLOPsCount(4 * tokens * d_model, 4"),
        ),
    ),
    Trick(
        "a component's limit dropped", ((BUDGETS, "        lm_head: {forward: 15.8 GFLOP}\n", ""),)
    ),
    Trick("a pattern that leaves a layer out", ((BUDGETS, '"layer_*": {', '"layer_[0-2]": {'),)),
    Trick(
        "a pattern so wide that its limit holds nothing",
        ((BUDGETS, LAYERS, '"**": {forward: 16 GFLOP, backward: 32 GFLOP}'),),
    ),
    Trick(
        "a limit raised that nobody needs yet", ((BUDGETS, "total: 49 GFLOP", "total: 490 GFLOP"),)
    ),
    Trick("the scaling limits dropped", ((BUDGETS, SCALING, ""),)),
    Trick(
        "a scaling limit raised",
        ((BUDGETS, "2048]\n        max_exponent: 1.0", "2048]\n        max_exponent: 2.0"),),
    ),
    Trick(
        "the component of a scaling limit dropped",
        ((BUDGETS, '        components: {"layer_*.bk_core": 0.0}\n', ""),),
    ),
    Trick("the large sizes of a sweep dropped", ((BUDGETS, "512, 1024, 2048]", "512]"),)),
    Trick("a smaller batch in the workload", ((BUDGETS, "batch_size: 32", "batch_size: 8"),)),
    Trick(
        "a cheaper optimizer in the workload", ((BUDGETS, "optimizer: adamw", "optimizer: sgd"),)
    ),
    Trick(
        "other counting rules in the workload", ((BUDGETS, "rules: published", "rules: executed"),)
    ),
    Trick("the workload dropped", ((BUDGETS, WORKLOAD, ""),)),
    Trick("a budget's only test deleted", ((STEP, None, None),)),
    Trick("the budget file deleted", ((BUDGETS, None, None),)),
)
