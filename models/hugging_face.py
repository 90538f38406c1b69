"""Architectures of transformers, from their own configurations made small."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

import torch
import transformers.integrations
import transformers.loss.loss_utils
import transformers.models.auto.modeling_auto
from transformers import LlamaForCausalLM
from judge import Case, Step
from torch import Tensor

SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "text_vocab_size"), 100),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "emb_dim", "hidden_dim", "embedding_size"),
        32,
    ),
    **dict.fromkeys(
        (
            "intermediate_size", "ffn_dim", "d_ff", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim",
            "ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size", "d_inner",
            "expert_ffn_hidden_size", "intermediate_dim", "mlp_hidden_size", "shared_intermediate_size",
        ),
        64,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers",
            "num_encoder_layers", "num_decoder_layers", "num_experts_per_tok", "n_group", "topk_group",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads",
            "decoder_attention_heads", "num_key_value_heads", "num_local_experts", "num_experts",
            "n_routed_experts", "moe_num_experts", "num_kv_heads",
        ),
        4,
    ),
    **dict.fromkeys(("head_dim", "d_kv", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "qk_rope_head_dim",
                     "attention_head_size"), 8),
    "state_size": 8,
    "q_lora_rank": 16,
    "image_size": 32,
    "patch_size": 8,
    "max_position_embeddings": 64,
    "num_mel_bins": 8,
    "max_source_positions": 50,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}

TOKENS = torch.arange(32).reshape(2, 16) + 3
INPUTS: dict[str, dict[str, Tensor]] = {
    "text": {"input_ids": TOKENS, "labels": TOKENS},
    "ids": {"input_ids": TOKENS},
    "image": {"pixel_values": torch.ones(2, 3, 32, 32)},
    "sound": {"input_values": torch.ones(2, 800)},
    "spectrum": {"input_features": torch.ones(2, 8, 100)},
    "both": {"input_ids": TOKENS, "pixel_values": torch.ones(2, 3, 32, 32)},
}


def small(kind: type, changes: dict[str, Any]) -> Any:
    """A configuration with the sizes of `SMALL` where it has such a size, down to its parts."""
    known = {field.name for field in fields(kind)}
    options = {name: size for name, size in SMALL.items() if name in known}
    parts = {
        name: small(part, changes.pop(name, {})).to_dict()
        for name, part in kind.sub_configs.items()
        if part is not transformers.AutoConfig
    }
    return kind(**{**options, **parts, **changes})


def build(architecture: str, inputs: dict[str, Any], changes: dict[str, Any]) -> Step:
    kind = getattr(transformers, architecture)
    return Step(kind(small(kind.config_class, dict(changes))), named=inputs)


def case(architecture: str, inputs: str, **changes: Any) -> Case:
    return Case("transformers", architecture, partial(build, architecture, INPUTS[inputs], changes))

CASES = [case("LlamaForCausalLM","text"), case("ViTForImageClassification","image")]
import os
if os.environ.get("EXPLORE"):
    from transformers.models.auto import modeling_auto as m
    seen=set()
    kinds = {"CAUSAL_LM":"text","MASKED_LM":"text","SEQ_TO_SEQ_CAUSAL_LM":"text","IMAGE_CLASSIFICATION":"image","AUDIO_CLASSIFICATION":"sound","CTC":"sound","SPEECH_SEQ_2_SEQ":"spectrum","OBJECT_DETECTION":"image","SEMANTIC_SEGMENTATION":"image","DEPTH_ESTIMATION":"image","IMAGE_TEXT_TO_TEXT":"both","UNIVERSAL_SEGMENTATION":"image"}
    CASES=[]
    for k,i in kinds.items():
        names = getattr(m, f"MODEL_FOR_{k}_MAPPING_NAMES")
        for a in names.values():
            for a in (a if isinstance(a, tuple) else [a])[:1]:
                if a not in seen:
                    seen.add(a); CASES.append(case(a,i)); 
    other = {"clip":"both"}
    for t,a in m.MODEL_MAPPING_NAMES.items():
        a = a if isinstance(a,str) else a[0]
        stem=a.removesuffix("Model")
        if not any(s.startswith(stem+"For") or s.startswith(stem+"LM") for s in seen) and a not in seen:
            seen.add(a)
            try: main=getattr(transformers,a).main_input_name
            except Exception: continue
            CASES.append(case(a,{"input_ids":"ids","pixel_values":"image","input_values":"sound","input_features":"spectrum"}.get(main,"ids")))
