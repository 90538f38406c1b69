"""Families of timm, each by one of its smallest models, on small images."""

from __future__ import annotations

from functools import partial

import timm
import torch
from judge import Case, Step

SIZED = """
    beit_base_patch16_224 cait_xxs24_224 convit_tiny crossvit_tiny_240 deit_tiny_patch16_224
    eva02_tiny_patch14_224 gcvit_xxtiny hiera_tiny_224 levit_128s test_vit test_vit2 test_vit3 test_vit4
    vit_relpos_small_patch16_224 swin_tiny_patch4_window7_224 swinv2_cr_tiny_224
    swinv2_tiny_window8_256 coatnet_nano_rw_224 maxvit_rmlp_pico_rw_256 mixer_s32_224 gmlp_ti16_224
    resmlp_12_224 mvitv2_tiny pit_xs_224 tnt_s_patch16_224 twins_svt_small visformer_tiny
    volo_d1_224 xcit_nano_12_p16_224 nest_tiny tiny_vit_5m_224 sequencer2d_s vit_small_r26_s32_224
    flexivit_small efficientformerv2_s0 efficientvit_m0 focalnet_tiny_srf samvit_base_patch16_224 efficientformer_l1
"""
"""These take the size of their images when they are built."""

UNSIZED = """
    botnet26t_256 halonet26t lambda_resnet26t repvgg_a0 mobileone_s0 gernet_s coat_lite_tiny convmixer_768_32 convnext_atto
    convnextv2_atto test_convnext cpubone_nano csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny densenet121 dla46_c dpn48b
    edgenext_xx_small efficientnet_b0 efficientnet_cc_b0_4e test_efficientnet tf_efficientnetv2_b0 efficientvim_m1
    efficientvit_b0 fasternet_t0 fastvit_t8 ghostnet_050 hardcorenas_a hgnetv2_b0 hrnet_w18_small iformer_t
    inception_next_atto inception_v3 inception_v4 inception_resnet_v2 lcnetv2_small lowformer_b0 test_mambaout caformer_s18 poolformer_s12
    mobilenetv3_small_050 lcnet_035 mobilevit_xxs mobilevitv2_050 nasnetalarge nextvit_small test_nfnet nf_resnet26
    pvt_v2_b0 rdnet_tiny regnetx_002 regnety_002 repghostnet_050 repvit_m0_9 res2net50_26w_4s resnest26d resnet10t test_resnet
    resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 shvit_s1 skresnet18 starnet_s050 swiftformer_xs tresnet_m
    vgg11 ese_vovnet19b_slim_dw vitamin_small_224 legacy_xception xception41 naflexvit_base_patch16_gap hieradet_small
"""


def build(name: str, side: int, **options: object) -> Step:
    model = timm.create_model(name, num_classes=10, **options)
    return Step(model, (torch.ones(2, 3, side, side),))


CASES = [
    *(Case("timm", name, partial(build, name, 64, img_size=64)) for name in SIZED.split()),
    *(Case("timm", name, partial(build, name, 64)) for name in UNSIZED.split()),
]
