"""Observation encoders: an MLP for vectors, ResNet-18 with GroupNorm and spatial softmax for images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(inputs: int, hidden: tuple[int, ...], features: int) -> nn.Sequential:
    """[B, inputs] -> [B, features], Mish between the layers."""
    layers: list[nn.Module] = []
    width = inputs
    for next_width in hidden:
        layers += [nn.Linear(width, next_width), nn.Mish()]
        width = next_width
    return nn.Sequential(*layers, nn.Linear(width, features))


class BasicBlock(nn.Module):
    """ResNet basic block (He et al. 2016) with GroupNorm: batch statistics and EMA weights do not mix."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = group_norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = group_norm(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), group_norm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(h)) + self.shortcut(x))


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of 16 channels; one group where there are fewer."""
    return nn.GroupNorm(max(1, channels // 16), channels)


def resnet18(width: int = 64, stages: int = 4, channels: int = 3) -> nn.Sequential:
    """[B, channels, h, w] -> [B, 2^(stages-1) width, h / 2^(stages+1), w / 2^(stages+1)], sizes rounded up.

    Args:
        width: of the first stage.
        stages: of the four; without the last ones small images keep a finer map.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 7, 2, 3, bias=False),
        group_norm(width),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2))[:stages]:
        layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers)


class SpatialSoftmax(nn.Module):
    """Expected image coordinates of K learned heat maps (Finn et al. 2016). [B, C, h, w] -> [B, 2K]."""

    def __init__(self, channels: int, height: int, width: int, keypoints: int) -> None:
        super().__init__()
        self.grid: Tensor
        self.maps = nn.Conv2d(channels, keypoints, 1)
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("grid", torch.stack([x, y], dim=-1).reshape(-1, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        attention = functional.softmax(self.maps(x).flatten(2), dim=-1)
        return (attention @ self.grid).flatten(1)


class ImageEncoder(nn.Module):
    """[B, C, h, w] normalised -> [B, features], and n frames [B, n, C, h, w] -> [B, n features] side by side.

    Args:
        shape: (C, h, w).
        stem, stages: width and stages of the ResNet.
    """

    def __init__(
        self, shape: tuple[int, ...], keypoints: int, features: int, stem: int = 64, stages: int = 4
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.backbone = resnet18(stem, stages, channels)
        stride = 2 ** (stages + 1)
        maps = stem * 2 ** (stages - 1)
        self.softmax = SpatialSoftmax(maps, -(-height // stride), -(-width // stride), keypoints)
        self.head = nn.Linear(2 * keypoints, features)

    def forward(self, image: Tensor) -> Tensor:
        if image.ndim == 5:
            return self.forward(image.flatten(0, 1)).unflatten(0, image.shape[:2]).flatten(1)
        return self.head(self.softmax(self.backbone(image)))
