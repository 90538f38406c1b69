"""Models of diffusers: UNets, diffusion transformers, and autoencoders."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import torch
from judge import Case, Step
from torch import ones

STEP = torch.ones(2, dtype=torch.int64)
IMAGE, LATENT, VIDEO, CLIP = (
    ones(2, 3, 32, 32),
    ones(2, 4, 16, 16),
    ones(2, 4, 3, 8, 8),
    ones(1, 3, 5, 16, 16),
)
TEXT, POOLED, MASK = ones(2, 8, 32), ones(2, 32), ones(2, 8)
ROWS = {"hidden_states": ones(2, 16, 4), "encoder_hidden_states": TEXT, "timestep": ones(2)}
PLACES = {"img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(8, 3)}

SAMPLE = {"sample": LATENT, "timestep": STEP}
PROMPTED = {**SAMPLE, "encoder_hidden_states": TEXT}
HIDDEN = {"hidden_states": LATENT, "timestep": STEP}
GUIDED = {**HIDDEN, "encoder_hidden_states": TEXT}
FILM = {"hidden_states": VIDEO, "timestep": STEP, "encoder_hidden_states": TEXT}

HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}
LATENTS = {"in_channels": 4, "out_channels": 4}
DIT = {**HEADS, **LATENTS, "sample_size": 16}
UNET = {**LATENTS, "block_out_channels": (32, 32), "norm_num_groups": 8, "layers_per_block": 1}
CROSS = {
    **UNET,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
ROPE = {"axes_dims_rope": (4, 6, 6)}
JOINT = {**HEADS, "in_channels": 4, "num_single_layers": 2, "joint_attention_dim": 32, **ROPE}
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (32, 32),
    "norm_num_groups": 8,
}

MODELS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "UNet1DModel",
        {"in_channels": 4, "out_channels": 4, "extra_in_channels": 64},
        {"sample": ones(2, 4, 64), "timestep": STEP},
    ),
    (
        "UNet2DModel",
        {
            **UNET,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        },
        SAMPLE,
    ),
    ("UNet2DConditionModel", CROSS, PROMPTED),
    (
        "UNet3DConditionModel",
        {
            **CROSS,
            "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
            "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
        },
        {**PROMPTED, "sample": VIDEO},
    ),
    (
        "UNetSpatioTemporalConditionModel",
        {
            "in_channels": 4,
            "block_out_channels": (32, 32),
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            "num_attention_heads": (2, 2),
            "cross_attention_dim": 32,
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 96,
            "layers_per_block": 1,
        },
        {**PROMPTED, "sample": ones(2, 3, 4, 16, 16), "added_time_ids": ones(2, 3)},
    ),
    (
        "UNetMotionModel",
        {
            **UNET,
            "cross_attention_dim": 32,
            "num_attention_heads": 2,
            "motion_num_attention_heads": 2,
            "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
            "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
        },
        {"sample": VIDEO, "timestep": STEP, "encoder_hidden_states": ones(6, 8, 32)},
    ),
    (
        "ControlNetModel",
        {
            "in_channels": 4,
            "block_out_channels": (32, 32),
            "norm_num_groups": 8,
            "layers_per_block": 1,
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "conditioning_embedding_out_channels": (16, 32),
        },
        {**PROMPTED, "controlnet_cond": ones(2, 3, 32, 32)},
    ),
    ("DiTTransformer2DModel", {**DIT, "norm_num_groups": 8}, {**HIDDEN, "class_labels": STEP}),
    (
        "PixArtTransformer2DModel",
        {**DIT, "cross_attention_dim": 32, "caption_channels": 32},
        {**GUIDED, "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    (
        "Transformer2DModel",
        {**HEADS, "in_channels": 4, "norm_num_groups": 4, "cross_attention_dim": 32},
        {"hidden_states": LATENT, "encoder_hidden_states": TEXT},
    ),
    (
        "SD3Transformer2DModel",
        {
            **DIT,
            "joint_attention_dim": 32,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 32,
            "pos_embed_max_size": 16,
        },
        {**GUIDED, "pooled_projections": POOLED},
    ),
    (
        "FluxTransformer2DModel",
        {**JOINT, "pooled_projection_dim": 32},
        {**ROWS, **PLACES, "pooled_projections": POOLED},
    ),
    (
        "Flux2Transformer2DModel",
        {**JOINT, "axes_dims_rope": (4, 4, 4, 4), "timestep_guidance_channels": 32},
        {**ROWS, "img_ids": torch.zeros(16, 4), "txt_ids": torch.zeros(8, 4), "guidance": ones(2)},
    ),
    (
        "ChromaTransformer2DModel",
        {
            **JOINT,
            "approximator_num_channels": 16,
            "approximator_hidden_dim": 32,
            "approximator_layers": 1,
        },
        {**ROWS, **PLACES},
    ),
    (
        "AuraFlowTransformer2DModel",
        {
            **LATENTS,
            "sample_size": 16,
            "num_mmdit_layers": 1,
            "num_single_dit_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "caption_projection_dim": 32,
            "pos_embed_max_size": 64,
        },
        GUIDED,
    ),
    (
        "SanaTransformer2DModel",
        {
            **DIT,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": 32,
            "caption_channels": 32,
        },
        GUIDED,
    ),
    (
        "QwenImageTransformer2DModel",
        {**HEADS, "in_channels": 4, "out_channels": 4, "joint_attention_dim": 32, **ROPE},
        {**ROWS, "encoder_hidden_states_mask": MASK.long(), "img_shapes": [(1, 4, 4)] * 2},
    ),
    (
        "Lumina2Transformer2DModel",
        {
            "in_channels": 4,
            "sample_size": 16,
            "hidden_size": 48,
            "num_layers": 1,
            "num_refiner_layers": 1,
            "num_attention_heads": 2,
            "num_kv_heads": 2,
            "multiple_of": 16,
            "axes_dim_rope": (8, 8, 8),
            "axes_lens": (32, 32, 32),
            "cap_feat_dim": 32,
        },
        {**GUIDED, "encoder_attention_mask": MASK.bool()},
    ),
    (
        "CogView4Transformer2DModel",
        {
            **DIT,
            "text_embed_dim": 32,
            "time_embed_dim": 32,
            "condition_dim": 16,
            "rope_axes_dim": (16, 16),
        },
        {**GUIDED, **dict.fromkeys(("original_size", "target_size", "crop_coords"), ones(2, 2))},
    ),
    (
        "CogVideoXTransformer3DModel",
        {
            **HEADS,
            **LATENTS,
            "time_embed_dim": 16,
            "text_embed_dim": 32,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 9,
            "max_text_seq_length": 8,
        },
        {**FILM, "hidden_states": ones(2, 3, 4, 8, 8)},
    ),
    (
        "LTXVideoTransformer3DModel",
        {**HEADS, **LATENTS, "cross_attention_dim": 32, "caption_channels": 32},
        {
            **ROWS,
            "timestep": STEP,
            "encoder_attention_mask": MASK,
            "num_frames": 1,
            "height": 4,
            "width": 4,
        },
    ),
    (
        "WanTransformer3DModel",
        {**HEADS, **LATENTS, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64},
        FILM,
    ),
    (
        "MochiTransformer3DModel",
        {
            **HEADS,
            "in_channels": 4,
            "pooled_projection_dim": 16,
            "text_embed_dim": 32,
            "time_embed_dim": 16,
        },
        {**FILM, "encoder_attention_mask": MASK.bool()},
    ),
    (
        "LatteTransformer3DModel",
        {
            **DIT,
            "patch_size": 2,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "num_embeds_ada_norm": 10,
            "caption_channels": 32,
            "cross_attention_dim": 32,
            "video_length": 3,
        },
        {**FILM, "hidden_states": ones(2, 4, 3, 16, 16)},
    ),
    (
        "StableAudioDiTModel",
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "num_key_value_attention_heads": 1,
            "cross_attention_dim": 32,
            "time_proj_dim": 16,
            "global_states_input_dim": 32,
            "cross_attention_input_dim": 32,
            "sample_size": 16,
        },
        {
            "hidden_states": ones(2, 4, 16),
            "timestep": ones(2),
            "encoder_hidden_states": TEXT,
            "global_hidden_states": ones(2, 1, 32),
        },
    ),
    ("AutoencoderKL", VAE, {"sample": IMAGE}),
    (
        "AutoencoderKLTemporalDecoder",
        {"down_block_types": ("DownEncoderBlock2D",) * 2, "block_out_channels": (32, 32)},
        {"sample": IMAGE, "num_frames": 1},
    ),
    (
        "AsymmetricAutoencoderKL",
        {
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "down_block_out_channels": (32, 32),
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "up_block_out_channels": (32, 32),
            "norm_num_groups": 8,
        },
        {"sample": IMAGE, "mask": ones(2, 1, 32, 32)},
    ),
    (
        "AutoencoderTiny",
        {
            "encoder_block_out_channels": (32, 32),
            "decoder_block_out_channels": (32, 32),
            "num_encoder_blocks": (1, 2),
            "num_decoder_blocks": (2, 1),
        },
        {"sample": IMAGE},
    ),
    (
        "AutoencoderDC",
        {
            "latent_channels": 4,
            "attention_head_dim": 8,
            "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "encoder_block_out_channels": (16, 16),
            "decoder_block_out_channels": (16, 16),
            "encoder_layers_per_block": (1, 1),
            "decoder_layers_per_block": (1, 1),
            "encoder_qkv_multiscales": ((), (5,)),
            "decoder_qkv_multiscales": ((), (5,)),
        },
        {"sample": IMAGE},
    ),
    (
        "AutoencoderKLWan",
        {
            "base_dim": 8,
            "z_dim": 4,
            "dim_mult": [1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [True],
        },
        {"sample": CLIP},
    ),
    (
        "AutoencoderKLCogVideoX",
        {
            "block_out_channels": (16, 16),
            "down_block_types": ("CogVideoXDownBlock3D",) * 2,
            "up_block_types": ("CogVideoXUpBlock3D",) * 2,
            "latent_channels": 4,
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
        {"sample": CLIP},
    ),
    (
        "AutoencoderOobleck",
        {
            "encoder_hidden_size": 8,
            "downsampling_ratios": [2, 4],
            "channel_multiples": [1, 2],
            "decoder_channels": 8,
            "decoder_input_channels": 4,
        },
        {"sample": ones(2, 2, 64)},
    ),
    ("VQModel", VAE, {"sample": IMAGE}),
]


def build(name: str, options: dict[str, Any], inputs: dict[str, Any]) -> Step:
    return Step(getattr(diffusers, name)(**options), named=inputs)


CASES = [Case("diffusers", name, partial(build, name, *rest)) for name, *rest in MODELS]
