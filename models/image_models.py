"""Families of timm, each by one of its smallest models, on small images."""

from __future__ import annotations

from functools import partial

import timm
import torch
from judge import Case, Step

SIZED = """
    cait_xxs24_224 convit_tiny deit_tiny_patch16_224 eva02_tiny_patch14_224 levit_128s test_vit
    vit_relpos_small_patch16_224 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256
    mixer_s32_224 gmlp_ti16_224 resmlp_12_224 pit_xs_224 tnt_s_patch16_224 twins_svt_small
    visformer_tiny efficientformerv2_s0 efficientvit_m0 coat_lite_tiny
"""
"""These take the size of their images when they are built."""

UNSIZED = """
    repvgg_a0 mobileone_s0 gernet_s convnext_atto cpubone_nano cs3darknet_focus_s cspnext_tiny
    dla46_c edgenext_xx_small efficientnet_b0 efficientvim_m1 efficientvit_b0 fasternet_t0
    fastvit_t8 ghostnet_050 hgnetv2_b0 iformer_t inception_next_atto lcnetv2_small lowformer_b0
    test_mambaout poolformer_s12 mobilenetv3_small_050 mobilevit_xxs mobilevitv2_050 test_nfnet
    pvt_v2_b0 regnetx_002 repghostnet_050 repvit_m0_9 res2net50_26w_4s resnest26d resnet10t
    resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 shvit_s1 skresnet18 starnet_s050
    swiftformer_xs ese_vovnet19b_slim_dw focalnet_tiny_srf test_convnext test_efficientnet
    test_resnet lcnet_035 regnety_002 hardcorenas_a convnextv2_atto nf_resnet26
"""


def build(name: str, side: int, **options: object) -> Step:
    model = timm.create_model(name, num_classes=10, **options)
    return Step(model, (torch.ones(2, 3, side, side),))


CASES = [
    *(Case("timm", name, partial(build, name, 64, img_size=64)) for name in SIZED.split()),
    *(Case("timm", name, partial(build, name, 64)) for name in UNSIZED.split()),
]
