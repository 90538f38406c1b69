"""Lets torchvision import beside PyTorch for the CPU; import this before anything that does.

The torchvision of PyPI is built for CUDA, so its operators do not load beside a build without it,
and then its import fails where it registers fake kernels for two of them. No model here calls them.
"""

import torch

# Kept: the operators go with the object that defined them.
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
