"""Plant regressions in ResNet-BK, its training step and its budgets; the gate must catch each.

    python mutants/plant.py [--write docs/mutants.md]

Each mutant is one small edit in a copy of the project, in which `pytest budgets` then runs. A
mutant that leaves the gate green is a hole in it, and this command fails. A mutant whose text is
no longer found is out of date, and this command fails as well.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = "pytest_flops/resnet_bk/model.py"
MOE = "pytest_flops/resnet_bk/moe.py"
OPERATOR = "pytest_flops/resnet_bk/bk_core/operator.py"
STEP = "budgets/test_training_step.py"
BUDGETS = "budgets/resnet_bk.yaml"
LOCK = "budgets/resnet_bk.lock.json"

FFN = "ffn = self.moe(self.layernorm(x))"
MIXED = "mixed: Tensor = x + (ffn + self.bk_scale * self.output_proj(features))"
LOGITS = "logits: Tensor = self.lm_head(self.final_layernorm(x))"
TOP_K = "weights, chosen = probabilities.topk(self.experts_per_token, dim=-1)"
CLAMPED = "features.clamp(-config.feature_clamp, config.feature_clamp)"
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
        'x = self.get_submodule(f"layer_{index}")(x)',
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
        "    optimizer.step()\n",
        "    optimizer.step()\n    optimizer.step()\n",
    ),
    Mutant(
        "a second backward pass",
        STEP,
        "    loss.backward()\n",
        "    loss.backward(retain_graph=True)\n    loss.backward()\n",
    ),
    Mutant("the training step runs twice", STEP, STEP_CALL, STEP_CALL * 2),
    Mutant(
        "gradients clipped by norm",
        STEP,
        "    optimizer.step()\n",
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    optimizer.step()\n",
    ),
    Mutant(
        "weight averaging after the step",
        STEP,
        "    optimizer.step()\n",
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
        "2048], max_exponent: 1.0}",
        "2048], max_exponent: 0.9}",
    ),
    Mutant("a sweep of two sizes", BUDGETS, "sizes: [64, 128, 256]", "sizes: [64, 128]"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", metavar="FILE", help="also write the table as Markdown")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("pytest_flops", "budgets"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "pytest.ini").write_text("[pytest]\ntestpaths = budgets\n")
        if run_gate(copy).returncode != 0:
            print("the gate is red before anything is planted")
            return 1
        rows = list(results(copy))
    if given.write:
        Path(given.write).write_text(as_markdown(rows), encoding="utf-8")
    caught = sum(how is not None for _, how in rows)
    print(f"\n{caught} of {len(rows)} planted regressions caught")
    return 0 if caught == len(rows) else 1


def results(copy: Path) -> Iterator[tuple[Mutant, str | None]]:
    """Each mutant with what caught it; `None` if nothing did."""
    for mutant in MUTANTS:
        file = copy / mutant.file
        original = file.read_text(encoding="utf-8")
        if mutant.old not in original:
            raise SystemExit(f"out of date: {mutant.name}: {mutant.file} has no {mutant.old!r}")
        file.write_text(original.replace(mutant.old, mutant.new), encoding="utf-8")
        how = caught_by(run_gate(copy))
        file.write_text(original, encoding="utf-8")
        print(f"{'caught' if how else 'MISSED':<8} {mutant.name:<52} {how or ''}", flush=True)
        yield mutant, how


def run_gate(copy: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--flops-report="]
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


def caught_by(gate: subprocess.CompletedProcess[str]) -> str | None:
    """Which items went red, or that the run was refused; a traceback of ours is no catch."""
    if gate.returncode == 0 or "INTERNALERROR" in gate.stdout:
        return None
    failed = re.findall(r"^FAILED \S+::(\S+)", gate.stdout, re.MULTILINE)
    if failed:
        return ", ".join(dict.fromkeys(failed))
    if re.search(r"^ERROR: ", gate.stderr, re.MULTILINE):
        return "usage error"
    return "stale budget" if "measured by no test" in gate.stdout else None


def as_markdown(rows: list[tuple[Mutant, str | None]]) -> str:
    lines = [
        "# Gates that cannot be fooled",
        "",
        "Regressions planted in this project by `make mutants`, one at a time, and the items of",
        "its gate that went red. The command fails if one gets through.",
        "",
        "| planted regression | in | caught by |",
        "|---|---|---|",
        *(f"| {mutant.name} | `{mutant.file}` | {how or '**missed**'} |" for mutant, how in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
