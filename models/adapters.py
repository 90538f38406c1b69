"""Methods of peft, each on a small Llama."""

from __future__ import annotations

from functools import partial
from typing import Any

import peft
import transformers
from hugging_face import TEXT, small
from judge import Case, Step

TARGETS = {"target_modules": ["q_proj", "v_proj"]}
TASK = {"task_type": "CAUSAL_LM"}
PROMPT = {**TASK, "num_virtual_tokens": 4}

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("LoraConfig", {**TARGETS, "r": 4}),
    ("LoraConfig", {**TARGETS, "r": 4, "use_dora": True}),
    ("LoraConfig", {**TARGETS, "r": 4, "use_rslora": True, "lora_dropout": 0.1}),
    ("AdaLoraConfig", {**TARGETS, "total_step": 10}),
    ("LoHaConfig", {**TARGETS, "r": 4}),
    ("LoKrConfig", {**TARGETS, "r": 4}),
    ("OFTConfig", {**TARGETS, "oft_block_size": 8}),
    ("BOFTConfig", {**TARGETS, "boft_block_size": 4}),
    ("HRAConfig", {**TARGETS, "r": 4}),
    ("IA3Config", {**TASK, **TARGETS, "feedforward_modules": []}),
    ("LNTuningConfig", {**TASK, "target_modules": ["input_layernorm"]}),
    ("VeraConfig", {**TARGETS, "r": 4}),
    ("VBLoRAConfig", {**TARGETS, "r": 4, "num_vectors": 8, "vector_length": 8, "topk": 2}),
    ("RandLoraConfig", {**TARGETS, "r": 4}),
    ("FourierFTConfig", {**TARGETS, "n_frequency": 10}),
    ("WaveFTConfig", {**TARGETS, "n_frequency": 10}),
    ("C3AConfig", {**TARGETS, "block_size": 8}),
    ("MissConfig", {**TARGETS, "r": 4}),
    ("RoadConfig", {**TARGETS, "group_size": 8}),
    ("DeloraConfig", {**TARGETS, "r": 4}),
    ("GraloraConfig", {**TARGETS, "r": 4, "gralora_k": 2}),
    ("HiraConfig", {**TARGETS, "r": 4}),
    ("ShiraConfig", {**TARGETS, "r": 4, "random_seed": 0}),
    ("TrainableTokensConfig", {"target_modules": ["embed_tokens"], "token_indices": [0, 1]}),
    ("PolyConfig", {**TASK, **TARGETS, "r": 4, "n_tasks": 2, "n_skills": 2}),
    ("PromptTuningConfig", PROMPT),
    ("PromptEncoderConfig", {**PROMPT, "encoder_hidden_size": 16}),
    ("PrefixTuningConfig", PROMPT),
    ("AdaptionPromptConfig", {**TASK, "adapter_layers": 1, "adapter_len": 4}),
]


def build(name: str, options: dict[str, Any]) -> Step:
    config = small(transformers.LlamaConfig, {"num_key_value_heads": 4})
    model = transformers.LlamaForCausalLM(config)
    inputs = dict(TEXT)
    if name == "PolyConfig":
        inputs["task_ids"] = inputs["input_ids"].new_zeros(2)
    return Step(peft.get_peft_model(model, getattr(peft, name)(**options)), named=inputs)


def title(name: str, options: dict[str, Any]) -> str:
    changes = [key for key in ("use_dora", "use_rslora") if key in options]
    return " ".join([name.removesuffix("Config"), *changes])


CASES = [Case("peft", title(*method), partial(build, *method)) for method in METHODS]
