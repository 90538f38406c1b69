"""`FLOPsCounter`: the analytic counter of ResNet-BK, which computes from the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.components import nearest, summed_up
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement, Rules
from pytest_flops.counting.metric import QUANTITIES
from pytest_flops.files import write_atomically
from pytest_flops.resnet_bk.analytic import executed, published
from pytest_flops.resnet_bk.config import ResNetBKConfig, config_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from pytest_flops.resnet_bk.model import ConfigurableResNetBK


# Each module has `step_costs`, what each component path costs by itself, and `OPTIMIZERS`, FLOPs
# of one step per trainable parameter and per tensor of them.
_RULES: dict[str, ModuleType] = {"published": published, "executed": executed}
_RULER = 70


class FLOPsCounter:
    """Counts one training step of a ResNet-BK without running it.

    It reads the model's configuration and does not notice when the model's code changes; the meter
    and the parity check do. Only the optimizer's FLOPs depend on the model itself: frozen
    parameters cost nothing.

    Args:
        model: The model to count, or its configuration.
        batch_size: Sequences per step, B.
        seq_len: Tokens per sequence, N.
        rules: `"published"` (the reference page's, to the digit) or `"executed"` (what runs).

    Raises:
        ValueError: The model is another, the rules are unknown, a size is not an integer of at
            least 1, or the sequence is longer than the position table.
    """

    def __init__(
        self,
        model: ConfigurableResNetBK | ResNetBKConfig,
        batch_size: int,
        seq_len: int,
        rules: Rules = "published",
    ) -> None:
        self._parameters: Mapping[str, Sequence[int]]
        config = config_of(model)
        if isinstance(model, ResNetBKConfig):
            self._parameters = parameter_sizes(model)
        else:
            self._parameters = _trainable_sizes(model)
        _check_sizes(config, batch_size, seq_len)
        if rules not in _RULES:
            raise ValueError(f"unknown rules {rules!r}; known: {', '.join(_RULES)}")
        self.config = config
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.rules = rules
        self._formulas = _RULES[rules]

    @classmethod
    def from_config(
        cls, config: ResNetBKConfig, batch_size: int, seq_len: int, rules: Rules = "published"
    ) -> FLOPsCounter:
        """A counter that needs no model, hence no torch; every parameter is trainable."""
        return cls(config, batch_size, seq_len, rules)

    def count_bk_core_flops(self) -> FLOPsCount:
        """BK-Core of one layer."""
        return self.get_breakdown("none")["layer_0.bk_core"]

    def count_moe_flops(self) -> FLOPsCount:
        """The mixture of experts of one layer: gate, softmax and the experts visited."""
        return self.get_breakdown("none")["layer_0.moe"]

    def count_linear_flops(self, in_features: int, out_features: int) -> FLOPsCount:
        """A linear map of every token of the step, by the published rules (no bias)."""
        return published.linear(self.batch_size * self.seq_len, in_features, out_features)

    def count_embedding_flops(self) -> FLOPsCount:
        """Token and position embedding."""
        return self.get_breakdown("none")["embedding"]

    def count_layernorm_flops(self) -> FLOPsCount:
        """One LayerNorm over the residual stream."""
        return self.get_breakdown("none")["final_layernorm"]

    def count_output_projection_flops(self) -> FLOPsCount:
        """The projection of BK-Core's two features to the width, in one layer."""
        return self.get_breakdown("none")["layer_0.output_proj"]

    def count_lm_head_flops(self) -> FLOPsCount:
        """The projection to the vocabulary."""
        return self.get_breakdown("none")["lm_head"]

    def count_forward_flops(self) -> int:
        """FLOPs of the forward pass."""
        return self.count_total_flops("none").forward

    def count_backward_flops(self) -> int:
        """FLOPs of the backward pass."""
        return self.count_total_flops("none").backward

    def count_optimizer_flops(self, optimizer: str = "adamw") -> int:
        """FLOPs of one optimizer step over the trainable parameters.

        Raises:
            ValueError: The rules know no such optimizer.
        """
        every_tensor = [size for sizes in self._parameters.values() for size in sizes]
        return self._optimizer_flops(optimizer, every_tensor)

    def count_total_flops(self, optimizer: str = "adamw") -> FLOPsCount:
        """The whole training step."""
        optimizer_step = FLOPsCount(optimizer=self.count_optimizer_flops(optimizer))
        return sum(self._step_costs().values(), optimizer_step)

    def get_breakdown(self, optimizer: str = "adamw") -> dict[str, FLOPsCount]:
        """Every component's cost in every phase, by dotted path; a parent contains its children."""
        own = self._step_costs()
        for path, sizes in self._parameters.items():
            step = self._optimizer_flops(optimizer, sizes)
            own[path] = own.get(path, FLOPsCount()) + FLOPsCount(optimizer=step)
        return summed_up(own)

    def measurement(self, optimizer: str = "adamw") -> Measurement:
        """Count and breakdown as plain data, for budgets and reports."""
        return Measurement(
            count=self.count_total_flops(optimizer),
            components=self.get_breakdown(optimizer),
            source="analytic",
            rules=self.rules,
        )

    def summary(self, optimizer: str = "adamw") -> str:
        """The count and the forward breakdown of the top-level components, as a text table."""
        config, total = self.config, self.count_total_flops(optimizer)
        double, single = "=" * _RULER, "-" * _RULER
        forward = {path: cost.forward for path, cost in self.get_breakdown("none").items()}
        top_level = sorted(
            (path for path in forward if "." not in path), key=lambda path: -forward[path]
        )
        lines = [
            double,
            "FLOPs Counter Summary",
            double,
            f"Model: ResNet-BK (d={config.d_model}, L={config.n_layers}, N={self.seq_len})",
            f"Batch Size: {self.batch_size}",
            f"MoE: {config.num_experts} experts, top-{config.experts_per_token}",
            single,
            _summary_row("Forward Pass:", total.forward),
            _summary_row("Backward Pass:", total.backward),
            _summary_row("Optimizer Step:", total.optimizer),
            single,
            _summary_row("Total per Step:", total.total),
            double,
            "",
            "Component Breakdown (Forward Pass):",
            single,
        ]
        for path in top_level:
            share = 100 * forward[path] / total.forward
            lines.append(f"  {path:<20}: {forward[path]:>14,} FLOPs ({share:5.1f}%)")
        return "\n".join([*lines, double])

    def print_summary(self, optimizer: str = "adamw") -> None:
        """Print `summary` to standard output."""
        print(self.summary(optimizer))

    def save_to_json(self, path: str | Path, optimizer: str = "adamw") -> None:
        """Write the counts, the breakdown and the model's metadata to a JSON file.

        Raises:
            OSError: The file cannot be written.
        """
        record = {
            "model": {
                "name": "ResNet-BK",
                "config": self.config.to_dict(),
                "trainable_parameters": sum(map(sum, self._parameters.values())),
            },
            "batch_size": self.batch_size,
            "seq_len": self.seq_len,
            "optimizer": optimizer,
            **self.measurement(optimizer).to_dict(),
        }
        write_atomically(Path(path), (json.dumps(record, indent=2) + "\n").encode())

    def _step_costs(self) -> dict[str, FLOPsCount]:
        costs: dict[str, FLOPsCount] = self._formulas.step_costs(
            self.config, self.batch_size, self.seq_len
        )
        return costs

    def _optimizer_flops(self, optimizer: str, sizes: Sequence[int]) -> int:
        known: dict[str, tuple[int, int]] = self._formulas.OPTIMIZERS
        if optimizer not in known:
            raise ValueError(
                f"unknown optimizer {optimizer!r}; the counting rules know {', '.join(known)}"
            )
        per_parameter, per_tensor = known[optimizer]
        return per_parameter * sum(sizes) + per_tensor * len(sizes)


def compare_models(
    model1: ConfigurableResNetBK | ResNetBKConfig,
    model2: ConfigurableResNetBK | ResNetBKConfig,
    *,
    batch_size: int,
    seq_len: int,
    model1_name: str = "Model 1",
    model2_name: str = "Model 2",
    optimizer: str = "adamw",
    rules: Rules = "published",
) -> dict[str, Any]:
    """Compare the training steps of two models.

    Returns:
        `"model1"` and `"model2"` with their names and counts; `"speedup"` by phase and `"total"`:
        how many times fewer FLOPs the second needs; `"summary"`, the same side by side as text.

    Raises:
        ValueError: As `FLOPsCounter`, or both models have one name.
    """
    first, second = (
        FLOPsCounter(model, batch_size, seq_len, rules).count_total_flops(optimizer).to_dict()
        for model in (model1, model2)
    )
    speedup = {q: first[q] / second[q] if second[q] else 1.0 for q in QUANTITIES}
    width = max(20, len(str(model1_name)), len(str(model2_name)))
    header = f"{'':<10} {model1_name:>{width}} {model2_name:>{width}} {'speedup':>9}"
    rows = (
        f"{q:<10} {first[q]:>{width},} {second[q]:>{width},} {speedup[q]:>8.2f}x"
        for q in QUANTITIES
    )
    return {
        "model1": {"name": model1_name, "flops": first},
        "model2": {"name": model2_name, "flops": second},
        "speedup": speedup,
        "summary": "\n".join([header, *rows]),
    }


def _check_sizes(config: ResNetBKConfig, batch_size: int, seq_len: int) -> None:
    for name, size in (("batch_size", batch_size), ("seq_len", seq_len)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {size!r}")
    if seq_len > config.n_seq:
        raise ValueError(
            f"seq_len {seq_len} is longer than the model's position table (n_seq "
            f"{config.n_seq}); give the configuration a larger n_seq"
        )


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


def _trainable_sizes(model: ConfigurableResNetBK) -> dict[str, list[int]]:
    """As `parameter_sizes`, of the trainable tensors, by the nearest path that it knows."""
    known = parameter_sizes(model.config)
    sizes: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            sizes.setdefault(nearest(name, known) or "(model)", []).append(parameter.numel())
    return sizes


def _summary_row(label: str, flops: int) -> str:
    return f"{label:<16}{flops:>15,} FLOPs ({flops / 1e9:.3f} GFLOPs)"
