"""Models of Hugging Face, built from a configuration: counted without weights as with them.

`make models` installs transformers and runs these.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_flops.counting.meter.meter import FLOPsMeter, count_flops

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: make models"
)

TOKENS = torch.zeros(2, 16, dtype=torch.int64)
TEXT = {"input_ids": TOKENS, "labels": TOKENS}
IMAGE = {"pixel_values": torch.zeros(2, 3, 32, 32), "labels": torch.zeros(2, dtype=torch.int64)}
SPEECH = {"input_features": torch.zeros(2, 8, 100), "labels": TOKENS}

ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
DECODER = {**ENCODER, "num_key_value_heads": 2, "vocab_size": 100, "head_dim": 8}
GPT = {"n_layer": 2, "n_head": 4, "vocab_size": 100, "bos_token_id": 0, "eos_token_id": 0}
MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "state_size": 8}
SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}

MODELS: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {
    "BertForMaskedLM": ({**ENCODER, "vocab_size": 100}, TEXT),
    "DebertaV2ForMaskedLM": ({**ENCODER, "vocab_size": 100}, TEXT),
    "LlamaForCausalLM": (DECODER, TEXT),
    "Qwen2ForCausalLM": (DECODER, TEXT),
    "GemmaForCausalLM": (DECODER, TEXT),
    "MixtralForCausalLM": ({**DECODER, "num_local_experts": 4}, TEXT),
    "GPT2LMHeadModel": ({**GPT, "n_embd": 32}, TEXT),
    "BloomForCausalLM": ({**GPT, "hidden_size": 32}, TEXT),
    "MambaForCausalLM": (MAMBA, TEXT),
    "Mamba2ForCausalLM": (
        {**MAMBA, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
        TEXT,
    ),
    "T5ForConditionalGeneration": (
        {
            "d_model": 32,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "d_kv": 8,
            "vocab_size": 100,
            "decoder_start_token_id": 0,
        },
        TEXT,
    ),
    "WhisperForConditionalGeneration": (
        {**SEQ2SEQ, "vocab_size": 100, "max_source_positions": 50, "num_mel_bins": 8},
        SPEECH,
    ),
    "ViTForImageClassification": ({**ENCODER, "image_size": 32, "patch_size": 8}, IMAGE),
    "SwinForImageClassification": (
        {
            "image_size": 32,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
        },
        IMAGE,
    ),
    "ConvNextForImageClassification": (
        {"hidden_sizes": [16, 16, 16, 16], "depths": [1, 1, 1, 1]},
        IMAGE,
    ),
}

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about itself


@pytest.mark.parametrize("name", MODELS)
def test_a_step_counted_without_weights_is_the_step_that_runs(name):
    options, inputs = MODELS[name]
    architecture = getattr(transformers, name)
    config = architecture.config_class(**options)
    with torch.device("meta"):
        weightless = architecture(config)
    counted = count_flops(weightless, **inputs)
    model = architecture(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    with FLOPsMeter() as meter:
        model(**inputs).loss.backward()
        optimizer.step()
    assert not counted.uncounted
    assert not meter.uncounted
    assert counted.count == meter.count
    assert counted.operations == meter.operations
