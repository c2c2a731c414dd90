"""Observation encoders: an MLP for the state, ResNet-18 with GroupNorm and spatial softmax for images."""

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
        self.first_norm = nn.GroupNorm(outputs // 16, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(outputs // 16, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.GroupNorm(outputs // 16, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(h)) + self.shortcut(x))


def resnet18() -> nn.Sequential:
    """[B, 3, h, w] -> [B, 512, ceil(h/32), ceil(w/32)], from scratch."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.GroupNorm(4, 64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    width = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(width, outputs, stride), BasicBlock(outputs, outputs, 1)]
        width = outputs
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
    """[B, 3, h, w] normalised -> [B, features]."""

    def __init__(self, height: int, width: int, keypoints: int, features: int) -> None:
        super().__init__()
        self.backbone = resnet18()
        self.softmax = SpatialSoftmax(512, -(-height // 32), -(-width // 32), keypoints)
        self.head = nn.Linear(2 * keypoints, features)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.softmax(self.backbone(image)))
