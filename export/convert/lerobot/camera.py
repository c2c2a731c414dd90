"""The image encoder of LeRobot's diffusion policy: resize, crop, ResNet, spatial softmax, one layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.models.encoders import SpatialSoftmax
from keystep.models.resnet import STRIDE, ResNet

Size = tuple[int, int]


@dataclass(frozen=True)
class CameraConfig:
    """Attributes:
    size: of the images as they are given; sizes are height, width.
    resize: what they are resized to, None: not at all. crop: of their middle, likewise.
    backbone: a name of `keystep.models.resnet.DEPTHS`; grouped: its norms are GroupNorm.
    keypoints: of the spatial softmax.
    """

    size: Size
    resize: Size | None
    crop: Size | None
    backbone: str
    grouped: bool
    keypoints: int

    @property
    def features(self) -> int:
        """Values of one image."""
        return 2 * self.keypoints


class CameraEncoder(nn.Module):
    """[B, 3, h, w] normalised -> [B, features]."""

    def __init__(self, config: CameraConfig) -> None:
        super().__init__()
        self.resize = Resize(config.size, config.resize) if config.resize else nn.Identity()
        size = config.resize or config.size
        self.crop = middle(size, config.crop) if config.crop else None
        self.backbone = ResNet(config.backbone, config.grouped)
        height, width = config.crop or size
        cells = (-(-height // STRIDE), -(-width // STRIDE))
        self.softmax = SpatialSoftmax(self.backbone.channels, *cells, config.keypoints)
        self.softmax.register_buffer("grid", self.softmax.grid)  # theirs is among the weights
        self.out = nn.Linear(config.features, config.features)

    def forward(self, image: Tensor) -> Tensor:
        x = self.resize(image)
        if self.crop:
            x = x[..., self.crop[0], self.crop[1]]
        return functional.relu(self.out(self.softmax(self.backbone(x))))


def middle(size: Size, crop: Size) -> tuple[slice, slice]:
    """Rows and columns of a crop; torchvision rounds halves to even."""
    starts = [round((have - want) / 2) for have, want in zip(size, crop, strict=True)]
    rows, columns = (slice(start, start + want) for start, want in zip(starts, crop, strict=True))
    return rows, columns


class Resize(nn.Module):
    """Bilinear with antialiasing, as torchvision resizes tensors: for fixed sizes two matrix products."""

    def __init__(self, given: Size, wanted: Size) -> None:
        super().__init__()
        self.rows: Tensor
        self.columns: Tensor
        self.register_buffer("rows", resampling(given[0], wanted[0]), persistent=False)
        self.register_buffer("columns", resampling(given[1], wanted[1]).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ x @ self.columns


def resampling(given: int, wanted: int) -> Tensor:
    """[wanted, given]: what one axis is multiplied by."""
    every = torch.eye(given)[None, None]
    size = (wanted, given)
    return functional.interpolate(every, size, mode="bilinear", antialias=True, align_corners=False)[0, 0]
