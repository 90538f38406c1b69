"""A small convolutional network for images of 3 channels, and its builder for budgets."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Stage(nn.Module):
    """Halves the image, doubles the channels, and mixes with a depthwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.down = nn.Conv2d(channels, wide, kernel_size=3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, kernel_size=3, padding=1, groups=wide)

    def forward(self, image: Tensor) -> Tensor:
        """`(B, C, S, S)` to `(B, 2C, S/2, S/2)`."""
        down: Tensor = torch.relu(self.norm(self.down(image)))
        mixed: Tensor = down + self.depthwise(down)
        return mixed


class ConvNet(nn.Module):
    """Stem, three stages, average pooling, classifier: `(B, 3, S, S)` to `(B, classes)`."""

    def __init__(self, channels: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.stages = nn.Sequential(*(Stage(channels * 2**i) for i in range(3)))
        self.classifier = nn.Linear(channels * 8, classes)

    def forward(self, images: Tensor) -> Tensor:
        """The score of each class."""
        features = self.stages(self.stem(images))
        scores: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return scores


def build(batch_size: int, size: int = 32, channels: int = 16) -> tuple[nn.Module, Tensor]:
    """What `budgets/convnet.yaml` counts."""
    with torch.device("meta"):
        return ConvNet(channels), torch.empty(batch_size, 3, size, size)
