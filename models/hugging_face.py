"""Architectures of transformers, from their own configurations made small."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

import torch
import transformers.integrations
import transformers.loss.loss_utils
import transformers.models.auto.modeling_auto
from judge import Case, Step

# So that no process of a model has to import what all of them need.
PRELOADED = transformers.LlamaForCausalLM

SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "text_vocab_size"), 100),
    **dict.fromkeys(
        (
            "hidden_size",
            "d_model",
            "n_embd",
            "embed_dim",
            "dim",
            "emb_dim",
            "hidden_dim",
            "embedding_size",
        ),
        32,
    ),
    **dict.fromkeys(
        (
            "intermediate_size",
            "ffn_dim",
            "d_ff",
            "n_inner",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "ffn_hidden_size",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "d_inner",
            "expert_ffn_hidden_size",
            "intermediate_dim",
            "mlp_hidden_size",
            "shared_intermediate_size",
        ),
        64,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "num_layers",
            "n_layer",
            "n_layers",
            "encoder_layers",
            "decoder_layers",
            "num_encoder_layers",
            "num_decoder_layers",
            "num_experts_per_tok",
            "n_group",
            "topk_group",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "num_heads",
            "n_head",
            "n_heads",
            "encoder_attention_heads",
            "decoder_attention_heads",
            "num_key_value_heads",
            "num_local_experts",
            "num_experts",
            "n_routed_experts",
            "moe_num_experts",
            "num_kv_heads",
        ),
        4,
    ),
    **dict.fromkeys(
        (
            "head_dim",
            "d_kv",
            "kv_lora_rank",
            "qk_nope_head_dim",
            "v_head_dim",
            "qk_rope_head_dim",
            "attention_head_size",
        ),
        8,
    ),
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

CAUSAL = """
    AfmoeForCausalLM ApertusForCausalLM ArceeForCausalLM AriaTextForCausalLM BioGptForCausalLM
    BitNetForCausalLM BloomForCausalLM CohereForCausalLM Cohere2ForCausalLM CpmAntForCausalLM
    CTRLLMHeadModel DeepseekV2ForCausalLM DeepseekV3ForCausalLM DeepseekV32ForCausalLM
    DeepseekV4ForCausalLM DiffLlamaForCausalLM DogeForCausalLM Ernie4_5ForCausalLM
    Exaone4ForCausalLM FalconForCausalLM FalconH1ForCausalLM FalconMambaForCausalLM
    FlexOlmoForCausalLM GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM Gemma4ForCausalLM
    GlmForCausalLM Glm4ForCausalLM Glm4MoeForCausalLM GlmMoeDsaForCausalLM GPT2LMHeadModel
    GPTBigCodeForCausalLM GPTNeoXForCausalLM GptOssForCausalLM GraniteForCausalLM
    GraniteMoeForCausalLM HeliumForCausalLM HunYuanMoEV1ForCausalLM JambaForCausalLM
    KimiLinearForCausalLM Lfm2ForCausalLM LlamaForCausalLM Llama4ForCausalLM MambaForCausalLM
    MiniCPM3ForCausalLM MiniMaxForCausalLM MistralForCausalLM MixtralForCausalLM
    ModernBertDecoderForCausalLM MptForCausalLM NanoChatForCausalLM NemotronForCausalLM
    OlmoeForCausalLM Olmo2ForCausalLM OlmoHybridForCausalLM OpenAIGPTLMHeadModel OPTForCausalLM
    PersimmonForCausalLM PhiForCausalLM Phi3ForCausalLM PhimoeForCausalLM Qwen2ForCausalLM
    Qwen2MoeForCausalLM Qwen3ForCausalLM Qwen3MoeForCausalLM Qwen3NextForCausalLM
    RecurrentGemmaForCausalLM RwkvForCausalLM StableLmForCausalLM Starcoder2ForCausalLM
    xLSTMForCausalLM XGLMForCausalLM XLNetLMHeadModel CwmForCausalLM DoryForCausalLM
    Emu3ForCausalLM ExaoneMoeForCausalLM GraniteSWAForCausalLM HYV3ForCausalLM Jais2ForCausalLM
    MellumForCausalLM MiniMaxM2ForCausalLM MinistralForCausalLM Ministral3ForCausalLM
    GPTNeoXJapaneseForCausalLM GraniteMoeSharedForCausalLM LagunaForCausalLM Lfm3ForCausalLM
    HyperCLOVAXForCausalLM
"""
MASKING = """
    AlbertForMaskedLM BertForMaskedLM BigBirdForMaskedLM ConvBertForMaskedLM DebertaForMaskedLM
    DebertaV2ForMaskedLM DistilBertForMaskedLM ElectraForMaskedLM EsmForMaskedLM
    EuroBertForMaskedLM FunnelForMaskedLM LukeForMaskedLM MegatronBertForMaskedLM
    MobileBertForMaskedLM ModernBertForMaskedLM MPNetForMaskedLM MraForMaskedLM
    NystromformerForMaskedLM RemBertForMaskedLM RobertaForMaskedLM RoFormerForMaskedLM
    SqueezeBertForMaskedLM T5GemmaForConditionalGeneration XLMRobertaForMaskedLM YosoForMaskedLM
"""
TRANSLATING = """
    BartForConditionalGeneration BlenderbotForConditionalGeneration FNetForMaskedLM
    M2M100ForConditionalGeneration MarianMTModel MBartForConditionalGeneration
    NllbMoeForConditionalGeneration PegasusForConditionalGeneration
    PegasusXForConditionalGeneration PLBartForConditionalGeneration
"""
T5 = """
    LongT5ForConditionalGeneration MT5ForConditionalGeneration
    SwitchTransformersForConditionalGeneration T5ForConditionalGeneration
    UMT5ForConditionalGeneration
"""
SEEING = """
    BeitForImageClassification BitForImageClassification CLIPVisionModel
    Data2VecVisionForImageClassification DeiTForImageClassification DINOv3ViTModel
    Dinov2ForImageClassification
    FocalNetForImageClassification HGNetV2ForImageClassification IJepaForImageClassification
    MobileNetV1ForImageClassification MobileNetV2ForImageClassification
    MobileViTForImageClassification PoolFormerForImageClassification
    RegNetForImageClassification ResNetForImageClassification SamVisionModel SiglipVisionModel
    SwiftFormerForImageClassification TextNetForImageClassification ViTForImageClassification
    ViTMAEForPreTraining ViTMSNForImageClassification
"""
PYRAMIDS = """
    GLPNForDepthEstimation SegformerForImageClassification SegformerForSemanticSegmentation
"""
HEARING = """
    Data2VecAudioForCTC HubertForCTC SEWDForCTC SEWForCTC UniSpeechForCTC UniSpeechSatForCTC
    Wav2Vec2ConformerForCTC Wav2Vec2ForCTC WavLMForCTC
"""

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
VIT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}

TOKENS = torch.arange(32).reshape(2, 16) + 3
PADDED = (torch.arange(16) < torch.tensor([[16], [12]])).long()
IMAGE, SOUND = torch.ones(2, 3, 32, 32), torch.ones(2, 8000)

TEXT = {"input_ids": TOKENS, "labels": TOKENS, "attention_mask": torch.ones_like(TOKENS)}
PAIR = {"input_ids": TOKENS, "pixel_values": IMAGE}
PICTURE = {"pixel_values": IMAGE}
LARGER = {"pixel_values": torch.ones(2, 3, 64, 64)}
WAVE = {"input_values": SOUND}
SPECTRUM = {"input_features": torch.ones(2, 8, 100), "labels": TOKENS}

MASKED = {**TEXT, "attention_mask": PADDED}

WIDTHS = {"num_heads": [2, 2], "depths": [1, 1], "embed_dim": 16, "window_size": 4}
PYRAMID = {
    "hidden_sizes": [16, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
}
MAMBA = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}
DECODED = {"decoder_start_token_id": 0, "is_encoder_decoder": True}
SPEECH = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
PARTS = {
    "text_config": {"projection_dim": 32},
    "vision_config": {"projection_dim": 32},
    "projection_dim": 32,
}

MODELS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    *((name, {}, TEXT) for name in CAUSAL.split()),
    *((name, {}, TEXT) for name in TRANSLATING.split()),
    *((name, {}, MASKED) for name in MASKING.split()),
    *((name, {}, PICTURE) for name in SEEING.split()),
    *((name, SPEECH, WAVE) for name in HEARING.split()),
    *((name, DECODED, TEXT) for name in T5.split()),
    *((name, PYRAMID, LARGER) for name in PYRAMIDS.split()),
    ("Mamba2ForCausalLM", MAMBA, TEXT),
    (
        "BambaForCausalLM",
        {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1},
        TEXT,
    ),
    (
        "GraniteMoeHybridForCausalLM",
        {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1},
        TEXT,
    ),
    ("GPTJForCausalLM", {"rotary_dim": 4}, TEXT),
    ("CodeGenForCausalLM", {"rotary_dim": 4}, TEXT),
    ("GPTNeoForCausalLM", {"attention_types": [[["global", "local"], 1]]}, TEXT),
    (
        "ReformerForMaskedLM",
        {
            "axial_pos_shape": [4, 4],
            "axial_pos_embds_dim": [16, 16],
            "is_decoder": False,
            "attn_layers": ["local", "lsh"],
            "num_buckets": 2,
            "local_attn_chunk_length": 4,
            "lsh_attn_chunk_length": 4,
        },
        MASKED,
    ),
    ("LongformerForMaskedLM", {"attention_window": 4}, MASKED),
    ("LEDForConditionalGeneration", {"attention_window": 4}, MASKED),
    ("JetMoeForCausalLM", {}, TEXT),
    ("LongcatFlashForCausalLM", {}, TEXT),
    ("ProphetNetForConditionalGeneration", {}, TEXT),
    ("FSMTForConditionalGeneration", {}, TEXT),
    ("XLMWithLMHeadModel", {}, TEXT),
    ("IBertForMaskedLM", {}, TEXT),
    ("SwinForImageClassification", {**WIDTHS, "patch_size": 4}, PICTURE),
    ("Swinv2ForImageClassification", {**WIDTHS, "patch_size": 4}, PICTURE),
    ("ConvNextForImageClassification", PYRAMID, LARGER),
    ("ConvNextV2ForImageClassification", PYRAMID, LARGER),
    (
        "LevitForImageClassification",
        {
            "hidden_sizes": [16, 32, 32],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "image_size": 64,
            "patch_size": 16,
        },
        LARGER,
    ),
    ("YolosForObjectDetection", {"image_size": [32, 32], "num_detection_tokens": 4}, PICTURE),
    ("HieraForImageClassification", {"image_size": [32, 32]}, PICTURE),
    ("DetrForObjectDetection", {}, LARGER),
    ("ConditionalDetrForObjectDetection", {}, LARGER),
    ("DeformableDetrForObjectDetection", {}, LARGER),
    ("DabDetrForObjectDetection", {}, LARGER),
    ("MaskFormerForInstanceSegmentation", {}, LARGER),
    ("Mask2FormerForUniversalSegmentation", {}, LARGER),
    (
        "EncodecModel",
        {"num_filters": 4, "hidden_size": 16, "codebook_size": 32, "codebook_dim": 16},
        {"input_values": torch.ones(2, 1, 800)},
    ),
    ("WhisperForConditionalGeneration", {}, SPECTRUM),
    (
        "Speech2TextForConditionalGeneration",
        {"input_feat_per_channel": 8, "conv_channels": 32},
        {"input_features": torch.ones(2, 100, 8), "labels": TOKENS},
    ),
    (
        "ASTForAudioClassification",
        {"max_length": 64, "num_mel_bins": 16},
        {"input_values": torch.ones(2, 64, 16)},
    ),
    (
        "Wav2Vec2BertForCTC",
        {"feature_projection_input_dim": 8, "apply_spec_augment": False},
        {"input_features": torch.ones(2, 100, 8)},
    ),
    ("CLIPModel", PARTS, PAIR),
    ("SiglipModel", PARTS, PAIR),
    (
        "ViltModel",
        {},
        {**PAIR, "attention_mask": PADDED, "pixel_mask": torch.ones(2, 32, 32, dtype=torch.int64)},
    ),
    (
        "LlavaForConditionalGeneration",
        {
            "text_config": {"model_type": "llama", **LLAMA},
            "vision_config": {"model_type": "clip_vision_model", **VIT},
            "image_token_index": 99,
        },
        {
            **TEXT,
            "input_ids": torch.cat([torch.full((2, 16), 99), TOKENS], 1),
            "labels": torch.cat([TOKENS, TOKENS], 1),
            "attention_mask": torch.ones(2, 32, dtype=torch.int64),
            "pixel_values": IMAGE,
        },
    ),
    (
        "PatchTSTForPrediction",
        {"num_input_channels": 2, "context_length": 32, "prediction_length": 8},
        {"past_values": torch.ones(2, 32, 2), "future_values": torch.ones(2, 8, 2)},
    ),
    (
        "PatchTSMixerForPrediction",
        {"num_input_channels": 2, "context_length": 32, "prediction_length": 8},
        {"past_values": torch.ones(2, 32, 2), "future_values": torch.ones(2, 8, 2)},
    ),
    (
        "DecisionTransformerModel",
        {"state_dim": 4, "act_dim": 2},
        {
            "states": torch.ones(2, 8, 4),
            "actions": torch.ones(2, 8, 2),
            "rewards": torch.ones(2, 8, 1),
            "returns_to_go": torch.ones(2, 8, 1),
            "timesteps": torch.arange(8).expand(2, 8),
            "attention_mask": torch.ones(2, 8),
        },
    ),
]


def small(kind: type, changes: dict[str, Any]) -> Any:
    """A configuration with the sizes of `SMALL` where it has such a size, down to its parts."""
    options = {
        field.name: SMALL[field.name]
        for field in fields(kind)
        if field.name in SMALL and isinstance(field.default, int | float | None)
    }
    parts = {
        name: small(part, changes.get(name, {})).to_dict()
        for name, part in kind.sub_configs.items()
        if part is not transformers.AutoConfig
    }
    return kind(**{**options, **changes, **parts})


def build(architecture: str, changes: dict[str, Any], inputs: dict[str, Any]) -> Step:
    kind = getattr(transformers, architecture)
    return Step(kind(small(kind.config_class, changes)), named=inputs)


CASES = [Case("transformers", name, partial(build, name, *rest)) for name, *rest in MODELS]
